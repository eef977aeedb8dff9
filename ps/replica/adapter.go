package replica

import (
	"fmt"
	"io"
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
}

var _ raft.BatchingFSM = (*adapter)(nil)

// Apply applies one committed command; the answer is a fsm.Result.
func (a *adapter) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies committed entries in order.
func (a *adapter) ApplyBatch(logs []*raft.Log) []any {
	start := time.Now()
	results := make([]any, len(logs))
	var bytes int64
	for i, l := range logs {
		if l.Type == raft.LogConfiguration {
			a.onConfiguration(l.Index, raft.DecodeConfiguration(l.Data))
			continue
		}
		result := a.state.Apply(l.Index, l.Data)
		results[i] = result
		bytes += int64(len(l.Data))
		a.metrics.applied(result, len(l.Data))
	}
	a.restores.Store(0)
	a.bytes.Add(bytes)
	a.metrics.ApplySeconds.Add(time.Since(start).Seconds())
	a.onApplied()
	return results
}

// Snapshot freezes the state; applies go on while it is written.
func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	return &frozen{adapter: a, view: a.state.View(), bytes: a.bytes.Load()}, nil
}

// Restore replaces the state by a snapshot.
func (a *adapter) Restore(r io.ReadCloser) error {
	defer r.Close()
	a.restores.Add(1)
	a.metrics.Restores.Inc()
	a.onRestored()
	if err := a.state.Restore(r); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	a.bytes.Store(0)
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
	n, err := f.view.WriteTo(sink)
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
