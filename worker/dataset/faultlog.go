package dataset

import "fmt"

// faultSamples is how many bad records are described in the log.
const faultSamples = 5

// faultLog counts bad records over all splits, describes the first, and ends
// the indexing with the first one too many. It takes units in order, so every
// worker comes to the same result.
type faultLog struct {
	set *Set
	max int64
}

// samples returns how many bad records of one unit must be located: enough for
// the log, and up to the one that passes the limit.
func (l *faultLog) samples() int64 {
	return max(faultSamples, l.max+1) - min(l.set.badRecords, l.max)
}

// add counts the bad records of the next unit.
func (l *faultLog) add(found *indexed) error {
	before := l.set.badRecords
	l.set.badRecords += found.bad
	for i, f := range found.first {
		n := before + int64(i) + 1
		if n > l.max {
			if l.max > 0 {
				f.Msg += fmt.Sprintf(" (more than data.max_bad_records = %d bad records)", l.max)
			}
			return f
		}
		if n <= faultSamples {
			l.set.log.Warn("skip bad record", "number", n, "max", l.max, "error", f)
		}
	}
	return nil
}
