package ps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// belongFile names the cluster that a data directory belongs to.
const belongFile = "cluster"

// ErrForeignCluster: the data directory belongs to another cluster than the
// coordinator's.
var ErrForeignCluster = errors.New("the data belong to another cluster")

// belong takes a data directory without an owner for the cluster, and refuses
// one that another cluster owns: a coordinator whose store was lost knows none of
// the groups in it, and would have them deleted.
func belong(dir, cluster string) error {
	if cluster == "" {
		return nil // of a coordinator that does not know itself
	}
	path := filepath.Join(dir, belongFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(path, []byte(cluster+"\n"), 0o600); err != nil {
			return fmt.Errorf("note the cluster of the data directory: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("cluster of the data directory: %w", err)
	}
	if owner := strings.TrimSpace(string(b)); owner != cluster {
		return fmt.Errorf("data directory %s: %w: of %s, the coordinator's store is of %s. If etcd was lost or is a new one: "+
			"start the servers with empty data directories and let the job go on from its newest checkpoint "+
			"(fathom checkpoint restore); nothing was deleted here", dir, ErrForeignCluster, owner, cluster)
	}
	return nil
}
