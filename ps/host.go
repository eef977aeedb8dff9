package ps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/replica"
)

// groupsFolder holds one folder per job run and in it one per shard.
const groupsFolder = "groups"

// tick is how often the host loop looks without being roused: for retries and
// for data that is due to be deleted.
const tick = time.Second

// groupKey names a group. Runs are unique, so requests need not name the job.
type groupKey struct {
	run   uint64
	shard uint32
}

// jobName is what may become a folder's name; the coordinator's names end in
// the run.
var jobName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,126}[a-z0-9])?$`)

// runFolder is the end of every job run's folder.
var runFolder = regexp.MustCompile(`-[0-9a-f]{16}/$`)

func keyOf(o *proto.GroupOrder) groupKey { return groupKey{o.GetSchema().GetRun(), o.GetShard()} }

// nameOf is the group's name on the wire.
func nameOf(o *proto.GroupOrder) string {
	run := fmt.Sprintf("-%016x", o.GetSchema().GetRun())
	return fmt.Sprintf("%s%s/%d", strings.TrimSuffix(o.GetJob(), run), run, o.GetShard())
}

// folderOf is the folder of this node's replica below the data directory: the
// group's name, and the replica's number if it is not the first.
func folderOf(o *proto.GroupOrder) string {
	if o.GetReplica() == 0 {
		return nameOf(o)
	}
	return fmt.Sprintf("%s.%d", nameOf(o), o.GetReplica())
}

// host carries out orders until ctx ends. It alone opens and closes groups.
func (s *Server) host(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	absent := map[string]time.Time{} // folders no order names, since when
	for {
		select {
		case <-s.wake:
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		s.mu.RLock()
		order := s.order
		s.mu.RUnlock()
		if order == nil {
			continue
		}
		wanted := map[groupKey]*proto.GroupOrder{}
		for _, o := range order.GetGroups() {
			wanted[keyOf(o)] = o
		}
		s.closeUnwanted(wanted)
		for key, o := range wanted {
			if ctx.Err() != nil {
				return nil // opening takes long, and the server ends
			}
			s.hostOne(ctx, key, o)
		}
		s.deleteUnwanted(order, absent, time.Now())
		s.mu.Lock()
		news := s.obeyed != order.GetRevision()
		s.obeyed = order.GetRevision()
		s.mu.Unlock()
		if news {
			s.session.Poke()
		}
	}
}

// closeUnwanted closes the groups that are not ordered any more.
func (s *Server) closeUnwanted(wanted map[groupKey]*proto.GroupOrder) {
	for key, h := range s.all() {
		if wanted[key] != nil {
			continue
		}
		s.mu.Lock()
		delete(s.groups, key)
		s.mu.Unlock()
		if err := h.close(); err != nil {
			s.cfg.Logger.Warn("close group", "group", h.name, "error", err)
		}
		s.cfg.Logger.Info("group closed", "group", h.name)
	}
}

// hostOne makes one group as its order says: opens it, or opens it again after
// a failure, or gives it a newer order.
func (s *Server) hostOne(ctx context.Context, key groupKey, o *proto.GroupOrder) {
	s.mu.RLock()
	h := s.groups[key]
	s.mu.RUnlock()
	if h != nil && h.ordered().GetReplica() != o.GetReplica() {
		// The one that is here was given up: it is damaged, or differs.
		if err := h.close(); err != nil {
			s.cfg.Logger.Warn("close group", "group", h.name, "error", err)
		}
		s.mu.Lock()
		delete(s.groups, key)
		s.mu.Unlock()
		h = nil
	}
	if h == nil {
		if err := s.setAside(o); err != nil {
			s.cfg.Logger.Error("set data of a replica aside", "group", nameOf(o), "error", err)
			return // tried again at the next tick
		}
		h = &hosted{server: s, name: nameOf(o), wake: make(chan struct{}, 1), steer: make(chan struct{}, 1)}
		h.give(o)
		h.open(ctx)
		s.mu.Lock()
		s.groups[key] = h
		s.mu.Unlock()
		s.session.Poke()
		return
	}
	h.give(o)
	err := h.failure()
	switch {
	case err == nil, errors.Is(err, errOpening), errors.Is(err, replica.ErrDamaged), errors.Is(err, replica.ErrDiverged), errors.Is(err, errOrder):
		return
	case !errors.Is(err, replica.ErrRestart) && !h.due(time.Now(), s.cfg.RetryAfter):
		return
	}
	if err := h.close(); err != nil {
		s.cfg.Logger.Warn("close failed group", "group", h.name, "error", err)
	}
	s.cfg.Logger.Info("opening group again", "group", h.name, "error", err)
	h.open(ctx)
	s.session.Poke()
}

// deleteUnwanted deletes the folders of groups that no order has named for
// a while, if the session stands: a coordinator that is just starting, or
// cannot be reached, must not cost data.
func (s *Server) deleteUnwanted(order *proto.NodeOrder, absent map[string]time.Time, now time.Time) {
	wanted := map[string]bool{}
	for _, o := range order.GetGroups() {
		wanted[folderOf(o)] = true
	}
	s.mu.RLock()
	stands := now.Sub(s.reported) < 4*client.HeartbeatInterval
	s.mu.RUnlock()
	root := filepath.Join(s.cfg.DataDir, groupsFolder)
	found, _ := filepath.Glob(filepath.Join(root, "*", "*")) // the pattern is sound
	seen := map[string]bool{}
	for _, path := range found {
		folder, err := filepath.Rel(root, path)
		if err != nil || wanted[filepath.ToSlash(folder)] || !isGroupFolder(folder) {
			continue
		}
		seen[folder] = true
		since, known := absent[folder]
		if !known || !stands {
			absent[folder] = now
			continue
		}
		if now.Sub(since) < s.cfg.DeleteAfter {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			s.cfg.Logger.Warn("delete data of a group nobody wants", "dir", path, "error", err)
			absent[folder] = now
			continue
		}
		_ = os.Remove(filepath.Dir(path)) // fails while other shards are there
		s.cfg.Logger.Info("deleted data of a group nobody wants", "dir", path)
	}
	for folder := range absent {
		if !seen[folder] {
			delete(absent, folder)
		}
	}
}

// isGroupFolder keeps the server from deleting what it did not make.
func isGroupFolder(folder string) bool {
	run, replica := filepath.Split(filepath.ToSlash(folder))
	shard, number, numbered := strings.Cut(replica, ".")
	_, err := strconv.ParseUint(shard, 10, 32)
	if numbered && err == nil {
		_, err = strconv.ParseUint(number, 10, 32)
	}
	return err == nil && runFolder.MatchString(run)
}

// all returns a copy of the hosted groups.
func (s *Server) all() map[groupKey]*hosted {
	s.mu.RLock()
	defer s.mu.RUnlock()
	groups := make(map[groupKey]*hosted, len(s.groups))
	for key, h := range s.groups {
		groups[key] = h
	}
	return groups
}

// lookup returns the group a request names.
func (s *Server) lookup(key groupKey) *hosted {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.groups[key]
}

// byJob returns the group of a job's shard.
func (s *Server) byJob(job string, shard uint32) *hosted {
	for key, h := range s.all() {
		if key.shard == shard && h.ordered().GetJob() == job {
			return h
		}
	}
	return nil
}

// sizes sums up rows and bytes over all groups, for the metrics.
func (s *Server) sizes() (rows, bytes uint64, groups int) {
	all := s.all()
	for _, h := range all {
		h.inspect(func(state *fsm.State) {
			stats := state.Stats()
			bytes += stats.Dense.StateBytes
			for _, t := range stats.Tables {
				rows += t.Rows
				bytes += t.MemoryBytes
			}
		})
	}
	return rows, bytes, len(all)
}
