package ps

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataBelongToOneCluster(t *testing.T) {
	dir := t.TempDir()
	for _, cluster := range []string{"", "A", "A", ""} {
		if err := belong(dir, cluster); err != nil {
			t.Errorf("cluster %q: %v", cluster, err)
		}
	}
	err := belong(dir, "B")
	if !errors.Is(err, ErrForeignCluster) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "fathom checkpoint restore") {
		t.Errorf("another cluster: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, belongFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, belongFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := belong(dir, "A"); err == nil {
		t.Error("a directory in the place of the file was taken for an owner")
	}
}
