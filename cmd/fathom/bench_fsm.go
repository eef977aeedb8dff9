package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

const (
	// fsmStepRows is how many rows one lane's push holds.
	fsmStepRows = 8192
	// fsmLoadRows is how many rows one step creates before the measurement.
	fsmLoadRows = 1 << 16
	// fsmWidth is that of a row of FM and DeepFM: the linear weight and the
	// embedding.
	fsmWidth = 1 + benchWidth
)

// stateBench is a state machine under measurement.
type stateBench struct {
	state   *fsm.State
	lanes   int
	version uint64
	index   uint64
	grads   []float32
	builder *wire.PushBuilder
}

func newStateBench(lanes int) (*stateBench, error) {
	o := optim.Config{Name: "lamb"}.WithDefaults()
	init := random.Init{Kind: "normal", Scale: 0.01}
	body, err := fsm.MarshalSchema(fsm.Schema{Job: "bench", Run: 1, Seed: 1, Lanes: lanes, PreImages: 1,
		Tables: []table.Schema{{Name: "rows", Columns: []table.Column{
			{Name: "linear", Width: 1, Init: init, Optimizer: o},
			{Name: "embedding", Width: benchWidth, Init: init, Optimizer: o}}}}})
	if err != nil {
		return nil, err
	}
	s := &stateBench{state: fsm.New(), lanes: lanes, index: 1, grads: smallGradient(fsmLoadRows*fsmWidth, 3), builder: wire.NewPush(wire.PushID{Factor: 1})}
	if r := s.state.Apply(s.index, wire.AppendConfigure(nil, body)); r.Err != nil {
		return nil, r.Err
	}
	return s, nil
}

// commands encodes the pushes of one step; lane i pushes keys[i].
func (s *stateBench) commands(step uint64, keys [][]shard.Key) [][]byte {
	var all [][]byte
	for lane, k := range keys {
		s.builder.Reset(wire.PushID{Factor: 1, Run: 1, Phase: 1, Step: step, Lane: uint16(lane)})
		counts := make([]uint32, len(k))
		for i := range counts {
			counts[i] = 1
		}
		s.builder.Rows(0, fsmWidth, k, counts, s.grads[:len(k)*fsmWidth])
		for _, c := range s.builder.Chunks() {
			all = append(all, slices.Clone(c))
		}
	}
	return all
}

// apply commits the commands of whole steps.
func (s *stateBench) apply(commands [][]byte) error {
	for _, c := range commands {
		s.index++
		if r := s.state.Apply(s.index, c); r.Status != fsm.Accepted {
			return fmt.Errorf("the state machine answers %v: %w", r.Status, r.Err)
		}
	}
	return nil
}

// load creates the rows.
func (s *stateBench) load(ctx context.Context, rows int) error {
	for lo := 0; lo < rows; lo += fsmLoadRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		keys := make([][]shard.Key, s.lanes)
		for i := lo; i < min(rows, lo+fsmLoadRows); i++ {
			keys[0] = append(keys[0], benchKey(uint64(i)))
		}
		slices.Sort(keys[0])
		s.version++
		if err := s.apply(s.commands(s.version, keys)); err != nil {
			return err
		}
	}
	return nil
}

// benchFSM measures the state machine of one shard: whole steps applied from
// encoded commands, checksums included, and look-ups of the newest version.
func benchFSM(ctx context.Context, b *bencher) error {
	for _, lanes := range []int{1, 4} {
		s, err := newStateBench(lanes)
		if err != nil {
			return err
		}
		err = b.measureState(ctx, s)
		s.state.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bencher) measureState(ctx context.Context, s *stateBench) error {
	if err := s.load(ctx, b.flags.rows); err != nil {
		return err
	}
	batches := keyBatches(lookupBatches, min(fsmStepRows, b.flags.rows), b.flags.rows)
	size := fmt.Sprintf("width=%d rows=%d", fsmWidth, b.flags.rows)
	steps, unique, pushed := laneKeys(batches, s.lanes)
	var commands [][]byte
	c := benchCase{name: fmt.Sprintf("apply step LAMB lanes=%d %s", s.lanes, size), threads: 1, unit: "rows/s", work: unique,
		extra: map[string]float64{"rows_per_step": unique, "pushed_rows_per_step": pushed}}
	err := b.measure(ctx, c, func(rounds int) error {
		commands = commands[:0]
		for range rounds {
			s.version++
			commands = append(commands, s.commands(s.version, steps[s.version%lookupBatches])...)
		}
		return nil
	}, func(int) error { return s.apply(commands) })
	if err != nil || s.lanes > 1 {
		return err
	}
	return b.measureLookup(ctx, s, "lookup "+size, batches)
}

// laneKeys makes as many steps as there are batches. Half of a lane's keys are
// those of all lanes of its step, as frequent values are. It returns the means
// over the steps of the different rows and of the rows pushed.
func laneKeys(batches [][]shard.Key, lanes int) (steps [][][]shard.Key, unique, pushed float64) {
	half := func(keys []shard.Key, first int) (h []shard.Key) {
		for i := first; i < len(keys); i += 2 {
			h = append(h, keys[i])
		}
		return h
	}
	steps = make([][][]shard.Key, len(batches))
	share := 1 / float64(len(batches))
	for i := range steps {
		var all []shard.Key
		for lane := range lanes {
			keys := append(half(batches[i], 0), half(batches[(i+lane+1)%len(batches)], 1)...)
			slices.Sort(keys)
			keys = slices.Compact(keys)
			steps[i], all = append(steps[i], keys), append(all, keys...)
		}
		slices.Sort(all)
		pushed += share * float64(len(all))
		unique += share * float64(len(slices.Compact(all)))
	}
	return steps, unique, pushed
}

// measureLookup reads the newest version, from several threads at the same time.
func (b *bencher) measureLookup(ctx context.Context, s *stateBench, name string, batches [][]shard.Key) error {
	requests := make([]wire.PullRequest, len(batches))
	for i, keys := range batches {
		requests[i] = wire.PullRequest{Run: 1, Version: s.version, Tables: []wire.TableKeys{{Keys: keys}}}
	}
	for _, threads := range b.flags.threads {
		errs := make([]error, threads)
		own := make([][]float32, threads)
		for i := range own {
			own[i] = make([]float32, fsmStepRows*fsmWidth)
		}
		c := benchCase{name: name, threads: threads, unit: "rows/s", work: meanLen(batches) * lookupBatches * float64(threads)}
		err := b.measure(ctx, c, nil, func(rounds int) error {
			parallel(threads, func(i int) {
				for r := range rounds * lookupBatches {
					q := &requests[(i*7+r)%lookupBatches]
					if err := s.state.Lookup(s.version, q, own[i][:len(q.Tables[0].Keys)*fsmWidth]); err != nil {
						errs[i] = err
						return
					}
				}
			})
			for _, err := range errs {
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
