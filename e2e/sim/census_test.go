package sim

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// census counts what really happened, over all runs of a test: a fault that
// never comes about proves nothing.
type census struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *census) add(what string, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what] += n
}

// seen is of all runs of this process.
var seen census

// What is counted. A schedule says what is to happen; these are counted where
// it does.
const (
	runEnded      = "schedules"
	runDone       = "jobs trained to the end"
	stepDone      = "training steps"
	pushDone      = "pushes answered"
	pullDone      = "pulls answered"
	simulatedTime = "simulated seconds"
	historyOk     = "histories that are linearizable"
	historyOpen   = "histories too long to decide"

	faultInTime = "faults during the training"
	faultElse   = "faults before and after"

	netLost      = "messages lost with their connection"
	netDelayed   = "messages delayed"
	netHeld      = "messages held up by a partition"
	pushTwice    = "pushes duplicated"
	pushLate     = "pushes repeated late, behind newer ones"
	answerLost   = "answers lost"
	crashProcess = "processes killed"
	crashMachine = "machines without power"
	diskLost     = "unsynced writes lost in a crash"
	diskTorn     = "writes torn in a crash"
	diskFile     = "unsynced files lost in a crash"
	diskFlip     = "bits flipped in a log"
	snapFlip     = "bits flipped in a snapshot"
	diskFull     = "writes refused by a full disk"
	diskSync     = "syncs failed"
	diskHung     = "writes held up by a hanging disk"
	diskSlow     = "writes on a slow disk"
	diskGone     = "disks lost"
	storeFailed  = "writes of the coordinator failed"
	storeKilled  = "coordinators killed at a write"
	leaseExpired = "leases of the coordinator expired"
	nodeAdded    = "servers added"
	nodeDrained  = "servers drained"
	nodeReturned = "drained servers taken back"
	workerJoined = "workers joined"
	checkpointed = "checkpoints made"
	restored     = "jobs restored from a checkpoint"
	asyncDone    = "jobs of mode async trained to the end"
	asyncRows    = "rows of mode async judged"

	// Answers of the system, counted in its log.
	answerLeft     = "replicas left service"
	answerChanged  = "members of a shard changed"
	answerSnapshot = "snapshots not needed by a follower"
)

// everyFault must happen in a series of some length.
var everyFault = []string{netLost, netDelayed, netHeld, pushTwice, pushLate, answerLost, crashProcess, crashMachine,
	diskLost, diskTorn, diskFile, diskFlip, snapFlip, diskFull, diskSync, diskHung, diskSlow, diskGone,
	storeFailed, storeKilled, leaseExpired, nodeAdded, nodeDrained, workerJoined, checkpointed, restored, answerLeft, answerChanged}

// seriesLength is how many schedules see every fault, also the rare ones.
const seriesLength = 500

// logged are messages of the system that are counted.
var logged = map[string]string{
	"replica leaves service": answerLeft,
	"group changed":          answerChanged,
	"snapshot not needed":    answerSnapshot,
}

// counting is a log handler that counts and hands on to another, if there is one.
type counting struct{ slog.Handler }

func (h counting) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.Handler.Enabled(ctx, level)
}

func (h counting) Handle(ctx context.Context, r slog.Record) error {
	if what, counted := logged[r.Message]; counted {
		seen.add(what, 1)
	}
	return h.Handler.Handle(ctx, r)
}

func (h counting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return counting{h.Handler.WithAttrs(attrs)}
}
func (h counting) WithGroup(name string) slog.Handler { return counting{h.Handler.WithGroup(name)} }

// String is the table of all counts.
func (c *census) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(&b, "%10d  %s\n", c.n[what], what)
	}
	return b.String()
}

func (c *census) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

// progress prints how far a long series is: go test shows it when it runs in the
// folder of the package, as make sim does.
func progress(began time.Time, schedules int) {
	if n := seen.of(runEnded); n%progressEvery == 0 {
		fmt.Printf("%d of %d schedules, %s\n", n, schedules, rates(began))
	}
}

// progressEvery is the number of schedules between two lines.
const progressEvery = 250

func rates(began time.Time) string {
	took := time.Since(began).Seconds()
	return fmt.Sprintf("%.0f s: %.1f steps a second, %.1f seconds of simulated time in one of real time",
		took, float64(seen.of(stepDone))/took, float64(seen.of(simulatedTime))/took)
}

// summary prints the census and wants every fault to be in it, if the series
// was long enough.
func summary(t *testing.T, began time.Time, schedules int) {
	t.Helper()
	fmt.Printf("%d schedules, %s\n%v", schedules, rates(began), &seen)
	if schedules < seriesLength || t.Failed() {
		return
	}
	if all, open := seen.of(historyOk), seen.of(historyOpen); open > all/100 {
		t.Errorf("%d of %d histories could not be decided", open, all+open)
	}
	for _, what := range everyFault {
		if seen.of(what) == 0 {
			t.Errorf("in %d schedules there were no %s", schedules, what)
		}
	}
}
