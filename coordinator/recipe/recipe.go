// Package recipe decides from the scores of the validations how a training goes
// on: with which learning rates, whether at all, and which model was the best.
// It is a pure function of the job and the scores, so a coordinator that takes
// over decides the same.
//
// The order of things is that of FuxiCTR, so that results compare: a validation
// that is not better than the best one lowers the learning rates at once, and
// when enough came in a row, the training ends.
package recipe

import (
	"fmt"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// Verdict is what follows from the validations so far.
type Verdict struct {
	// Factor scales the learning rates from here on.
	Factor float32
	// Stop says why the training ends here; empty: it goes on.
	Stop string
	// Best is the best validation; of equals the first. Nil before the first.
	Best *proto.Score
}

// Judge looks at all scores of a job; those of other splits are passed over.
func Judge(t *job.Train, scores []*proto.Score) Verdict {
	v := Verdict{Factor: 1}
	without := 0 // validations in a row without improvement
	for _, s := range scores {
		if s.GetSplit() != "valid" {
			continue
		}
		switch {
		case v.Best == nil || better(t.Monitor, s, v.Best):
			v.Best, without = s, 0
			continue
		case int(s.GetEpoch()) <= t.Monitor.MinEpochs:
			continue
		}
		without++
		if p := t.Plateau; p != nil && without%p.Patience == 0 {
			v.Factor = max(float32(v.Factor*p.Factor), p.Least)
		}
	}
	if e := t.EarlyStopping; e != nil && without >= e.Patience {
		v.Stop = fmt.Sprintf("no better %s in %d validations", t.Monitor.Metric, without)
	}
	return v
}

// better tells whether a is an improvement on b.
func better(m job.Monitor, a, b *proto.Score) bool {
	return Value(m.Metric, a) >= Value(m.Metric, b)+m.MinDelta
}

// Value is the monitored value of a score; more is better.
func Value(metric string, s *proto.Score) float64 {
	switch metric {
	case job.MetricLogLoss:
		return -s.GetLogLoss()
	case job.MetricAUCLogLoss:
		return s.GetAuc() - s.GetLogLoss()
	case job.MetricGAUC:
		return s.GetGauc()
	}
	return s.GetAuc()
}
