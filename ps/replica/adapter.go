package replica

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fathom-train/fathom/ps/fsm"
)

// adapter is raft's view of the state machine. Raft calls Apply, ApplyBatch,
// Snapshot and Restore from one goroutine.
type adapter struct {
	state   *fsm.State
	metrics *Metrics
	// bytes counts the commands applied since the last snapshot began.
	bytes atomic.Int64
	// restores counts snapshots installed since the last entry was applied.
	restores atomic.Int64
	// onApplied and onRestored tell the group's watcher; they never block.
	onApplied, onRestored func()
	// onConfiguration learns of a change of members that is committed.
	onConfiguration func(index uint64, c raft.Configuration)
	// onSnapshot learns the size of a snapshot that was written.
	onSnapshot func(bytes int64)
	// pace slows the writing of a snapshot down; done is called at its end.
	pace func(sink raft.SnapshotSink) (w io.Writer, done func())
	// leads tells whether this replica leads now.
	leads func() bool
	// onBroken learns why a snapshot could not be loaded.
	onBroken func(error)

	// beforeLoad, of tests, is called before a snapshot is read.
	beforeLoad func()

	loaders sync.WaitGroup
	stopped atomic.Bool

	// mu guards what follows, and serialises applies.
	mu   sync.Mutex
	load *loading // nil: nothing is being loaded
	// broken says that loading failed: the state is not the log's any more.
	broken bool
}

var _ raft.BatchingFSM = (*adapter)(nil)

// Apply applies one committed command; the answer is a fsm.Result.
func (a *adapter) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies committed entries in order. While a snapshot is loaded
// they wait, and the answers are of type queued.
func (a *adapter) ApplyBatch(logs []*raft.Log) []any {
	start := time.Now()
	results := make([]any, len(logs))
	a.mu.Lock()
	// A leader owes answers.
	for a.load != nil && (a.leads() || a.load.bytes > backlogMax) {
		a.awaitLoad()
	}
	for i, l := range logs {
		switch {
		case l.Type == raft.LogConfiguration:
			a.onConfiguration(l.Index, raft.DecodeConfiguration(l.Data))
		case a.broken:
			results[i] = queued{}
		case a.load != nil:
			a.load.backlog = append(a.load.backlog, l)
			a.load.bytes += int64(len(l.Data))
			results[i] = queued{}
		default:
			results[i] = a.apply(l)
		}
	}
	a.mu.Unlock()
	a.restores.Store(0)
	a.metrics.ApplySeconds.Add(time.Since(start).Seconds())
	a.onApplied()
	return results
}

// apply is called with mu held.
func (a *adapter) apply(l *raft.Log) fsm.Result {
	result := a.state.Apply(l.Index, l.Data)
	a.bytes.Add(int64(len(l.Data)))
	a.metrics.applied(result, len(l.Data))
	return result
}

// Snapshot freezes the state; applies go on while it is written.
func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.load != nil {
		a.awaitLoad()
	}
	if a.broken {
		return nil, errNotLoaded
	}
	return &frozen{adapter: a, view: a.state.View(), bytes: a.bytes.Load()}, nil
}

// Restore replaces the state by a snapshot. It only begins to: raft's main loop
// waits for it, and a replica that does not answer for as long as a large shard
// takes to load cannot vote either.
func (a *adapter) Restore(r io.ReadCloser) error {
	a.restores.Add(1)
	a.metrics.Restores.Inc()
	a.onRestored()
	a.mu.Lock()
	defer a.mu.Unlock()
	f := snapshotFileOf(r)
	if f == nil {
		for a.load != nil {
			a.awaitLoad()
		}
		defer r.Close()
		return a.state.Restore(r)
	}
	f.keep()
	if a.load != nil {
		a.load.supersede(f)
		return nil
	}
	load := &loading{done: make(chan struct{})}
	a.load = load
	a.loaders.Go(func() { a.finish(load, f) })
	return nil
}

// frozen is a view of the state on its way to disk.
type frozen struct {
	adapter *adapter
	view    *fsm.View
	bytes   int64 // applied when it was taken
}

// Persist writes the view.
func (f *frozen) Persist(sink raft.SnapshotSink) error {
	w, done := f.adapter.pace(sink)
	n, err := f.view.WriteTo(w)
	done()
	if err != nil {
		sink.Cancel()
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("finish snapshot: %w", err)
	}
	f.adapter.bytes.Add(-f.bytes)
	f.adapter.metrics.Snapshots.Inc()
	f.adapter.onSnapshot(n)
	return nil
}

// Release gives the view back.
func (f *frozen) Release() { f.view.Release() }
