package task

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// at is a moment of the tests, in milliseconds.
func at(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }

// steady is four lanes of two workers after ten steps of 100 ms.
func steady() *Lanes {
	l := NewLanes(4)
	l.Assign([]string{"a", "b"}, at(0))
	for step := range 11 {
		for lane := range 4 {
			l.Pushed(lane, uint64(step), at(100*step))
		}
		l.Reached(uint64(step), at(100*step))
	}
	return l
}

func TestLateLaneGoesToASecondWorkerAsWell(t *testing.T) {
	l := steady()
	l.Pushed(0, 11, at(1100))
	l.Pushed(1, 11, at(1100))
	limit := 1100 + int(lateMin/time.Millisecond)
	if moved, covered := l.Assign([]string{"a", "b"}, at(limit)); moved || covered != nil {
		t.Fatal("a lane was given away at once")
	}
	if moved, covered := l.Assign([]string{"a", "b"}, at(limit+1)); !moved || len(covered) != 2 {
		t.Fatalf("lanes %v were given to another worker, want 2 and 3", covered)
	}
	if d := cmp.Diff([][]int{{0, 1, 2, 3}, {2, 3}}, [][]int{l.Of("a"), l.Of("b")}); d != "" {
		t.Fatal(d)
	}
	// The help ends, and comes again for twice the time.
	end := limit + 2 + int(coverMin/time.Millisecond)
	for step := 11; step < 20; step++ {
		l.Reached(uint64(step), at(limit+step))
	}
	if moved, _ := l.Assign([]string{"a", "b"}, at(end)); !moved {
		t.Fatal("the help did not end")
	}
	if d := cmp.Diff([][]int{{0, 1}, {2, 3}}, [][]int{l.Of("a"), l.Of("b")}); d != "" {
		t.Fatal(d)
	}
	l.Pushed(0, 20, at(end))
	l.Pushed(1, 20, at(end))
	again := end + int(lateMin/time.Millisecond) + 1
	if _, covered := l.Assign([]string{"a", "b"}, at(again)); len(covered) != 2 {
		t.Fatalf("lanes %v are helped again, want 2 and 3", covered)
	}
	if moved, _ := l.Assign([]string{"a", "b"}, at(again+int(2*coverMin/time.Millisecond))); moved {
		t.Error("the second help did not last twice as long")
	}
}

func TestNobodyIsLateWhileAllStandStill(t *testing.T) {
	l := steady()
	if moved, covered := l.Assign([]string{"a", "b"}, at(1_000_000)); moved || covered != nil {
		t.Fatal("lanes were given away while every lane waited")
	}
	// The first to go on does not make the others late at once.
	l.Pushed(0, 11, at(1_000_001))
	if _, covered := l.Assign([]string{"a", "b"}, at(1_000_100)); covered != nil {
		t.Fatalf("lanes %v are late after 99 ms", covered)
	}
}

func TestSlowStepsHaveMorePatience(t *testing.T) {
	l := NewLanes(2)
	l.Assign([]string{"a", "b"}, at(0))
	for step := range 5 {
		l.Reached(uint64(step+1), at(10_000*step))
	}
	l.Pushed(0, 6, at(50_000))
	if _, covered := l.Assign([]string{"a", "b"}, at(50_000+lateTimes*10_000)); covered != nil {
		t.Errorf("lanes %v are late within %d times a step", covered, lateTimes)
	}
	if _, covered := l.Assign([]string{"a", "b"}, at(50_001+lateTimes*10_000)); len(covered) != 1 {
		t.Errorf("lanes %v are late, want lane 1", covered)
	}
}

func TestDeadHelperIsReplacedAndALoneWorkerHasNone(t *testing.T) {
	l := steady()
	l.Pushed(0, 11, at(1100))
	l.Pushed(1, 11, at(1100))
	late := 1101 + int(lateMin/time.Millisecond)
	l.Assign([]string{"a", "b"}, at(late))
	l.Assign([]string{"b"}, at(late+1))
	if d := cmp.Diff([]int{0, 1, 2, 3}, l.Of("b")); d != "" {
		t.Error(d)
	}
	if _, covered := l.Assign([]string{"b"}, at(100_000)); covered != nil {
		t.Errorf("lanes %v of the only worker are helped", covered)
	}
}

// TestEveryLaneHasALivingWorker draws any history and checks after each event
// that no lane is left to the dead, and that nobody helps with its own.
func TestEveryLaneHasALivingWorker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "lanes")
		l := NewLanes(n)
		now := 0
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now += rapid.IntRange(0, 5000).Draw(t, "ms")
			switch rapid.IntRange(0, 2).Draw(t, "event") {
			case 0:
				l.Pushed(rapid.IntRange(-1, n).Draw(t, "lane"), l.version+rapid.Uint64Range(0, 2).Draw(t, "step"), at(now))
			case 1:
				l.Reached(l.version+rapid.Uint64Range(0, 2).Draw(t, "version"), at(now))
			case 2:
				workers := rapid.SliceOfNDistinct(rapid.Map(rapid.IntRange(0, 4), func(i int) string { return fmt.Sprint("w", i) }),
					1, 5, rapid.ID).Draw(t, "workers")
				l.Assign(workers, at(now))
				holders := make([]int, n)
				for _, w := range workers {
					for _, lane := range l.Of(w) {
						holders[lane]++
					}
				}
				for lane, h := range holders {
					want := 1
					if l.lanes[lane].cover != "" {
						want = 2
					}
					if h != want {
						t.Fatalf("lane %d has %d living workers, want %d", lane, h, want)
					}
				}
			}
		}
	})
}
