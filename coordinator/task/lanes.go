package task

import (
	"slices"
	"time"
)

const (
	// lateTimes is how many times as long as a step usually takes a lane may be
	// behind the others before another worker is given it as well.
	lateTimes = 8
	// lateMin is more than the time between a push and the report of it.
	lateMin = 2 * time.Second
	// coverMin is how long another worker helps at first; each time the lane is
	// late again it is twice as long, up to coverMax.
	coverMin = 10 * time.Second
	coverMax = 5 * time.Minute
	// stepTimesKept is how many times of steps the usual one is taken from.
	stepTimesKept = 33
)

// Lanes gives the lanes of every step to workers, and a lane whose worker falls
// behind to a second one. It knows the time only from its caller.
type Lanes struct {
	share *Assignment
	lanes []laneState
	front uint64 // the last step that any lane has reached

	version   uint64 // the last step that all lanes have reached
	reachedAt time.Time
	stepTimes []time.Duration // the newest last
}

// laneState is how far a lane is and who helps with it.
type laneState struct {
	step   uint64
	behind time.Time // since when another lane has gone further; zero: none has
	cover  string    // the worker that has the lane as well; empty: none
	until  time.Time // when the help ends
	spell  time.Duration
}

// NewLanes returns the lanes 0 to n-1, which nobody has yet.
func NewLanes(n int) *Lanes {
	return &Lanes{share: NewAssignment(n), lanes: make([]laneState, n)}
}

// Pushed notes that a worker has delivered a lane of a step.
func (l *Lanes) Pushed(lane int, step uint64, now time.Time) {
	if lane < 0 || lane >= len(l.lanes) || step <= l.lanes[lane].step {
		return
	}
	l.lanes[lane].step, l.lanes[lane].behind = step, time.Time{}
	l.front = max(l.front, step)
	l.markBehind(now)
}

// Reached notes that all shards have applied a step.
func (l *Lanes) Reached(version uint64, now time.Time) {
	if version <= l.version {
		return
	}
	if !l.reachedAt.IsZero() {
		l.stepTimes = append(l.stepTimes, now.Sub(l.reachedAt)/time.Duration(version-l.version))
		if len(l.stepTimes) > stepTimesKept {
			l.stepTimes = l.stepTimes[1:]
		}
	}
	l.version, l.reachedAt = version, now
	l.front = max(l.front, version)
	for i := range l.lanes {
		if s := &l.lanes[i]; s.step < version {
			s.step, s.behind = version, time.Time{}
		}
	}
	l.markBehind(now)
}

func (l *Lanes) markBehind(now time.Time) {
	for i := range l.lanes {
		if s := &l.lanes[i]; s.step < l.front && s.behind.IsZero() {
			s.behind = now
		}
	}
}

// patience is how long a lane may be behind.
func (l *Lanes) patience() time.Duration {
	if len(l.stepTimes) == 0 {
		return coverMin // nothing is known yet
	}
	sorted := slices.Sorted(slices.Values(l.stepTimes))
	return max(lateMin, lateTimes*sorted[len(sorted)/2])
}

// Of returns the worker's lanes in ascending order, those it helps with included.
func (l *Lanes) Of(worker string) []int {
	lanes := l.share.Of(worker)
	for i := range l.lanes {
		if l.lanes[i].cover == worker && worker != "" {
			lanes = append(lanes, i)
		}
	}
	slices.Sort(lanes)
	return slices.Compact(lanes)
}

// Assign shares the lanes among the living workers and has late ones helped. It
// reports whether anything changed, and which lanes are helped from now on.
func (l *Lanes) Assign(workers []string, now time.Time) (moved bool, covered []int) {
	before := slices.Clone(l.share.owner)
	moved = l.share.Rebalance(workers)
	for i := range l.lanes {
		s := &l.lanes[i]
		if l.share.owner[i] != before[i] && !s.behind.IsZero() {
			s.behind = now // who has it now has had no time yet
		}
		if s.cover != "" && (!slices.Contains(workers, s.cover) || s.cover == l.share.owner[i] || now.After(s.until)) {
			s.cover = ""
			moved = true
			if !s.behind.IsZero() {
				s.behind = now
			}
		}
	}
	late := l.late(now)
	for _, i := range late {
		helper := l.helper(workers, late)
		if helper == "" {
			continue
		}
		s := &l.lanes[i]
		s.spell = min(max(coverMin, 2*s.spell), coverMax)
		s.cover, s.until = helper, now.Add(s.spell)
		covered = append(covered, i)
		moved = true
	}
	return moved, covered
}

// late lists the lanes that hold the others up for too long and are not helped.
func (l *Lanes) late(now time.Time) (lanes []int) {
	limit := l.patience()
	for i, s := range l.lanes {
		if s.cover == "" && !s.behind.IsZero() && now.Sub(s.behind) > limit {
			lanes = append(lanes, i)
		}
	}
	return lanes
}

// helper is the worker with the fewest lanes among those that are neither late
// nor helped themselves; empty when there is none.
func (l *Lanes) helper(workers []string, late []int) string {
	best, fewest := "", 0
	for _, w := range slices.Sorted(slices.Values(workers)) {
		slow := false // the lane's own worker is
		for i, s := range l.lanes {
			slow = slow || l.share.owner[i] == w && (s.cover != "" || slices.Contains(late, i))
		}
		if n := len(l.Of(w)); !slow && (best == "" || n < fewest) {
			best, fewest = w, n
		}
	}
	return best
}
