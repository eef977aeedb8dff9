package job

import (
	"testing"

	"pgregory.net/rapid"
)

func TestLaneExamples(t *testing.T) {
	j := &Job{Spec: Spec{Train: Train{Epochs: 2, BatchSize: 10, Lanes: 4}}}
	if s, all := j.StepsPerEpoch(25), j.Steps(25); s != 3 || all != 6 {
		t.Errorf("steps %d and %d, want 3 and 6", s, all)
	}
	if s := j.StepsPerEpoch(0); s != 0 {
		t.Errorf("no rows: %d steps", s)
	}
	for _, c := range []struct {
		step, epoch, lo, hi, batch int64
		lane                       int
	}{
		{1, 1, 0, 3, 10, 0}, {1, 1, 3, 6, 10, 1}, {1, 1, 6, 8, 10, 2}, {1, 1, 8, 10, 10, 3},
		{3, 1, 20, 22, 5, 0}, {3, 1, 24, 25, 5, 3}, // the short last batch
		{4, 2, 0, 3, 10, 0}, // the next epoch
	} {
		epoch, lo, hi, batch := j.Lane(25, c.step, c.lane)
		if epoch != c.epoch || lo != c.lo || hi != c.hi || batch != c.batch {
			t.Errorf("step %d lane %d: epoch %d [%d,%d) of %d, want %+v", c.step, c.lane, epoch, lo, hi, batch, c)
		}
	}
}

func TestLanesCoverEveryEpochOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := &Job{Spec: Spec{Train: Train{
			Epochs:    rapid.IntRange(1, 3).Draw(t, "epochs"),
			BatchSize: rapid.IntRange(1, 50).Draw(t, "batch"),
			Lanes:     rapid.IntRange(1, 9).Draw(t, "lanes"),
		}}}
		rows := rapid.Int64Range(1, 300).Draw(t, "rows")
		next, last := int64(0), int64(0)
		for step := int64(1); step <= j.Steps(rows); step++ {
			first := next
			for lane := range j.Spec.Train.Lanes {
				epoch, lo, hi, batch := j.Lane(rows, step, lane)
				if epoch != last && lane == 0 && lo == 0 {
					first, next, last = 0, 0, epoch
				}
				if lo != next || hi < lo || epoch != last {
					t.Fatalf("step %d lane %d: epoch %d [%d,%d) after %d of epoch %d", step, lane, epoch, lo, hi, next, last)
				}
				next = hi
				if lane == j.Spec.Train.Lanes-1 && next-first != batch {
					t.Fatalf("step %d: %d samples, said %d", step, next-first, batch)
				}
			}
		}
		if next != rows || last != int64(j.Spec.Train.Epochs) {
			t.Fatalf("ended at row %d of epoch %d", next, last)
		}
	})
}

func TestLaneOutsideTheJobIsABug(t *testing.T) {
	j := &Job{Spec: Spec{Train: Train{Epochs: 1, BatchSize: 10, Lanes: 4}}}
	for _, c := range []struct {
		rows, step int64
		lane       int
	}{{10, 0, 0}, {10, 1, 4}, {10, 1, -1}, {0, 1, 0}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: no panic", c)
				}
			}()
			j.Lane(c.rows, c.step, c.lane)
		}()
	}
}
