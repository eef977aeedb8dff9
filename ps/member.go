package ps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/replica"
)

const (
	// changeTimeout bounds one change of a group's members, handOverTimeout one
	// attempt to give the leadership away.
	changeTimeout   = 10 * time.Second
	handOverTimeout = 2 * time.Second
	// steerPause is between attempts that failed.
	steerPause = 2 * time.Second
	// stopHandOver bounds how long a server that ends looks for other leaders.
	stopHandOver = time.Second
)

// asideFolder keeps the data of replicas that were given up, so that somebody
// can find out why; asideMax is how many.
const (
	asideFolder = "set-aside"
	asideMax    = 2
)

// roles maps the order's roles to raft's.
var roles = map[proto.Role]replica.Role{
	proto.Role_ROLE_VOTER: replica.Voter, proto.Role_ROLE_LEARNER: replica.Learner,
	proto.Role_ROLE_LEAVING: replica.Leaving, proto.Role_ROLE_LOST: replica.Lost,
}

func membersOf(o *proto.GroupOrder) []replica.Member {
	members := make([]replica.Member, 0, len(o.GetMembers()))
	for _, m := range o.GetMembers() {
		members = append(members, replica.Member{
			Node: m.GetNode(), Replica: m.GetReplica(), Address: m.GetAddress(), Role: roles[m.GetRole()],
		})
	}
	return members
}

// roleOf is the role of the node's own replica.
func roleOf(o *proto.GroupOrder, node string) replica.Role {
	for _, m := range o.GetMembers() {
		if m.GetNode() == node && m.GetReplica() == o.GetReplica() {
			return roles[m.GetRole()]
		}
	}
	return replica.Voter
}

// lost tells whether a replica can only be replaced: what it acknowledged is
// gone or cannot be trusted.
func lost(err error) bool {
	return errors.Is(err, replica.ErrDamaged) || errors.Is(err, replica.ErrNoData) || errors.Is(err, replica.ErrDiverged)
}

// lead makes of the group what the order says while this replica leads it: who
// its members are, and who leads. It ends with ctx.
func (h *hosted) lead(ctx context.Context, g *replica.Group) {
	for {
		again, err := h.steerOnce(ctx, g)
		var retry <-chan time.Time
		switch {
		case err != nil && ctx.Err() == nil:
			h.server.cfg.Logger.Warn("group does not follow its order yet", "group", h.name, "error", err)
			retry = time.After(steerPause)
		case again:
			continue
		}
		select {
		case <-h.steer:
		case <-retry:
		case <-ctx.Done():
			return
		}
		if retry != nil { // a failed attempt is not repeated at once by news
			select {
			case <-retry:
			case <-ctx.Done():
				return
			}
		}
	}
}

// steerOnce makes one change, and reports whether there may be another.
func (h *hosted) steerOnce(ctx context.Context, g *replica.Group) (again bool, err error) {
	if g.Err() != nil {
		return false, nil
	}
	if _, leads := g.Leader(); !leads {
		return false, nil
	}
	if to := h.ordered().GetLeader(); to != "" && to != h.server.cfg.Node {
		ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
		defer cancel()
		if err := g.HandOver(ctx, to); err != nil {
			return false, err
		}
		h.server.cfg.Logger.Info("leadership handed over", "group", h.name, "to", to)
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	again, err = g.Reconfigure(ctx)
	if errors.Is(err, replica.ErrNotLeader) {
		return false, nil
	}
	return again, err
}

// handOverAll lets others lead the groups this server leads, before it ends:
// without it they would notice only by its silence.
func (s *Server) handOverAll() {
	ctx, cancel := context.WithTimeout(context.Background(), stopHandOver)
	defer cancel()
	var all sync.WaitGroup
	for _, h := range s.all() {
		g, err := h.replica()
		if err != nil {
			continue
		}
		if _, leads := g.Leader(); !leads {
			continue
		}
		all.Go(func() {
			if err := g.HandOver(ctx, ""); err != nil {
				s.cfg.Logger.Info("leadership not handed over", "group", h.name, "error", err)
			}
		})
	}
	all.Wait()
}

// setAside moves the data of other replicas of the ordered shard out of the
// way: this node has held them, and they were given up.
func (s *Server) setAside(o *proto.GroupOrder) error {
	groups := filepath.Join(s.cfg.DataDir, groupsFolder)
	own := filepath.Join(groups, filepath.FromSlash(folderOf(o)))
	first := filepath.Join(groups, filepath.FromSlash(nameOf(o)))
	found, err := filepath.Glob(first + ".*")
	if err != nil {
		return err
	}
	for _, path := range append(found, first) {
		if path == own {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := s.moveAside(path); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) moveAside(path string) error {
	root := filepath.Join(s.cfg.DataDir, asideFolder)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	// The name begins with the time, so that their order is that of their age.
	name := fmt.Sprintf("%s-%s-%s", time.Now().UTC().Format("20060102T150405.000"), filepath.Base(filepath.Dir(path)), filepath.Base(path))
	if err := os.Rename(path, filepath.Join(root, name)); err != nil {
		return err
	}
	s.cfg.Logger.Warn("data of a replica that was given up are set aside", "dir", filepath.Join(root, name))
	kept, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	slices.SortFunc(kept, func(a, b os.DirEntry) int { return strings.Compare(b.Name(), a.Name()) })
	for _, old := range kept[min(asideMax, len(kept)):] {
		if err := os.RemoveAll(filepath.Join(root, old.Name())); err != nil {
			return err
		}
	}
	return nil
}
