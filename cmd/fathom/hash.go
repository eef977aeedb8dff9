package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/fsm"
)

// hashesFile holds, in the working directory of a run, the state hash of every
// step of every shard, by table.
const hashesFile = "hashes.tsv.gz"

// hashesPage is how many versions are asked for at once.
const hashesPage = 1 << 16

// part names one hash: of a table ("dense" for all dense tensors) in a shard.
type part struct {
	shard uint32
	table string
}

// hashHistory is the state hashes of a run.
type hashHistory struct {
	job    string
	ranges map[uint32]string // keys of each shard
	steps  map[uint64]map[part][16]byte
}

// whole tells whether all shards have the step.
func (h *hashHistory) whole(step uint64) bool {
	have := map[uint32]bool{}
	for p := range h.steps[step] {
		have[p.shard] = true
	}
	return len(have) == len(h.ranges)
}

// wholeSteps lists the steps that all shards have, ascending.
func (h *hashHistory) wholeSteps() []uint64 {
	all := slices.Sorted(maps.Keys(h.steps))
	return slices.DeleteFunc(all, func(s uint64) bool { return !h.whole(s) })
}

// tables sums a step's hashes over the shards, by table.
func (h *hashHistory) tables(step uint64) map[string][16]byte {
	sums := map[string][16]byte{}
	for p, hash := range h.steps[step] {
		sums[p.table] = fsm.SumHashes(sums[p.table], hash)
	}
	return sums
}

// model is the hash of the whole model at a step.
func (h *hashHistory) model(step uint64) string {
	sum := fsm.SumHashes(slices.Collect(maps.Values(h.steps[step]))...)
	return hex.EncodeToString(sum[:])
}

// collectHashes asks the servers of a job for the hashes they keep. What one
// replica lacks another may have.
func collectHashes(ctx context.Context, c control, self *identity.Source, job string) (*hashHistory, error) {
	groups, err := c.Groups(ctx, job)
	if err != nil {
		return nil, err
	}
	h := &hashHistory{job: groups.GetJob(), ranges: map[uint32]string{}, steps: map[uint64]map[part][16]byte{}}
	for _, s := range groups.GetShards() {
		h.ranges[s.GetShard()] = fmt.Sprintf("%016x-%016x", s.GetKeyLo(), s.GetKeyHi())
		var errs []error
		for _, m := range s.GetMembers() {
			if err := h.ask(ctx, m, self, groups.GetRun(), s.GetShard()); err != nil {
				errs = append(errs, fmt.Errorf("shard %d on %s: %w", s.GetShard(), m.GetNode(), err))
			}
		}
		if len(errs) == len(s.GetMembers()) {
			return nil, errors.Join(errs...)
		}
	}
	return h, nil
}

func (h *hashHistory) ask(ctx context.Context, m *proto.Member, self *identity.Source, run uint64, shard uint32) (err error) {
	conn, err := grpc.NewClient(m.GetAddress(), grpc.WithTransportCredentials(self.Dialer(identity.PS)), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for first := uint64(0); ; {
		reply, err := proto.NewParameterServerClient(conn).Hashes(ctx, &proto.HashesRequest{Run: run, Shard: shard, First: first, Most: hashesPage})
		if err != nil {
			return err
		}
		if len(reply.GetVersions()) == 0 {
			return nil
		}
		for _, v := range reply.GetVersions() {
			first = v.GetVersion() + 1
			if h.steps[v.GetVersion()] == nil {
				h.steps[v.GetVersion()] = map[part][16]byte{}
			}
			for i, p := range v.GetParts() {
				// Before the tables were formed anew there may have been others.
				table := fmt.Sprintf("table %d", i)
				if len(v.GetParts()) == len(reply.GetParts()) {
					table = reply.GetParts()[i]
				}
				if len(p) == 16 {
					h.steps[v.GetVersion()][part{shard, table}] = [16]byte(p)
				}
			}
		}
	}
}

// write writes the history as text: the keys of the shards, then step, shard,
// table and hash.
func (h *hashHistory) write(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write state hashes: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := gzip.NewWriter(f)
	w := bufio.NewWriter(z)
	fmt.Fprintf(w, "job\t%s\n", h.job)
	for _, s := range slices.Sorted(maps.Keys(h.ranges)) {
		fmt.Fprintf(w, "shard\t%d\t%s\n", s, h.ranges[s])
	}
	for _, step := range slices.Sorted(maps.Keys(h.steps)) {
		parts := slices.SortedFunc(maps.Keys(h.steps[step]), func(a, b part) int {
			if a.shard != b.shard {
				return int(a.shard) - int(b.shard)
			}
			return strings.Compare(a.table, b.table)
		})
		for _, p := range parts {
			fmt.Fprintf(w, "%d\t%d\t%s\t%x\n", step, p.shard, p.table, h.steps[step][p])
		}
	}
	return errors.Join(w.Flush(), z.Close())
}

// readHashHistory reads the history of a run from its working directory.
func readHashHistory(dir string) (*hashHistory, error) {
	path := filepath.Join(dir, hashesFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, inputError{fmt.Errorf("%s has no %s: is it the working directory of a run that is done?", dir, hashesFile)}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, inputError{fmt.Errorf("%s: %w", path, err)}
	}
	h, line, err := parseHashHistory(z)
	if err != nil {
		return nil, inputError{fmt.Errorf("%s:%d: %w", path, line, err)}
	}
	return h, nil
}

func parseHashHistory(r io.Reader) (h *hashHistory, line int, err error) {
	h = &hashHistory{ranges: map[uint32]string{}, steps: map[uint64]map[part][16]byte{}}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line++
		f := strings.Split(lines.Text(), "\t")
		var step uint64
		var p part
		switch {
		case f[0] == "job" && len(f) == 2:
			h.job = f[1]
			continue
		case f[0] == "shard" && len(f) == 3:
			if _, err := fmt.Sscan(f[1], &p.shard); err != nil {
				return nil, line, err
			}
			h.ranges[p.shard] = f[2]
			continue
		case len(f) != 4:
			return nil, line, fmt.Errorf("%d columns, want step, shard, table and hash", len(f))
		}
		if _, err := fmt.Sscan(f[0], &step); err != nil {
			return nil, line, fmt.Errorf("step %q: %w", f[0], err)
		}
		if _, err := fmt.Sscan(f[1], &p.shard); err != nil {
			return nil, line, fmt.Errorf("shard %q: %w", f[1], err)
		}
		p.table = f[2]
		hash, err := hex.DecodeString(f[3])
		if err != nil || len(hash) != 16 {
			return nil, line, fmt.Errorf("%q is no state hash", f[3])
		}
		if h.steps[step] == nil {
			h.steps[step] = map[part][16]byte{}
		}
		h.steps[step][p] = [16]byte(hash)
	}
	return h, line, lines.Err()
}

// saveHashes keeps the hashes of the cluster's last job with the run.
func (a *app) saveHashes(ctx context.Context, c cluster, dir string) (err error) {
	control, err := a.dial(c.coordinators(), c.identity())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	h, err := collectHashes(ctx, control, c.identity(), "")
	if err != nil {
		return err
	}
	return h.write(filepath.Join(dir, hashesFile))
}
