package coordinator

import (
	"maps"
	"math"
	"time"

	"github.com/fathom-train/fathom/proto"
)

const (
	rateWindow = 10 * time.Second
	lossWindow = 5 * time.Second
	// pointsMax bounds a window however fast reports come.
	pointsMax = 1024
)

// progress measures a run from its reports.
type progress struct {
	done  []point // samples consumed by all shards, at every change
	loss  []lossPoint
	lanes map[laneKey]laneTotal
	// last is the newest mean loss; it stays when nothing new is reported.
	last float64
}

type point struct {
	at      time.Time
	samples uint64
}

type lossPoint struct {
	at      time.Time
	sum     float64
	samples uint64
}

type laneKey struct {
	node string
	lane uint32
}

// laneTotal is what a worker last reported of a lane.
type laneTotal struct {
	sum     float64
	samples uint64
}

// restart begins the measuring of speed anew, at the start of a phase.
func (p *progress) restart(now time.Time, samples uint64) {
	p.done = []point{{now, samples}}
}

// noteSamples takes in how far the shards are.
func (p *progress) noteSamples(now time.Time, samples uint64) {
	if n := len(p.done); n == 0 || p.done[n-1].samples != samples {
		p.done = append(p.done, point{now, samples})
	}
	// Two points stay, so that steps longer than the window have a speed.
	for len(p.done) > 2 && (len(p.done) > pointsMax || now.Sub(p.done[1].at) > rateWindow) {
		p.done = p.done[1:]
	}
}

// rate is the speed in samples per second over the window.
func (p *progress) rate(now time.Time) float64 {
	if len(p.done) < 2 {
		return 0
	}
	first, last := p.done[0], p.done[len(p.done)-1]
	elapsed := now.Sub(first.at).Seconds()
	if elapsed <= 0 || last.samples < first.samples {
		return 0
	}
	return float64(last.samples-first.samples) / elapsed
}

// noteLanes takes in a worker's running sums: the differences to its previous
// report belong to the time between. known tells whether this process has
// reported on this job before; if not, its sums are only remembered, because it
// is not known when they were made. It returns the lane whose loss is no
// number, if there is one.
func (p *progress) noteLanes(now time.Time, node string, w *proto.WorkerReport, known bool, lanesMax int) (bad *proto.LaneReport) {
	if p.lanes == nil {
		p.lanes = make(map[laneKey]laneTotal)
	}
	if !known {
		maps.DeleteFunc(p.lanes, func(k laneKey, _ laneTotal) bool { return k.node == node })
	}
	at := lossPoint{at: now}
	for _, r := range w.GetLanes() {
		if int(r.GetLane()) >= lanesMax {
			continue
		}
		if math.IsNaN(r.GetLossSum()) || math.IsInf(r.GetLossSum(), 0) {
			bad = r
			continue
		}
		key := laneKey{node, r.GetLane()}
		before := p.lanes[key] // zero when not seen before
		if known && r.GetSamples() >= before.samples {
			at.sum += r.GetLossSum() - before.sum
			at.samples += r.GetSamples() - before.samples
		}
		p.lanes[key] = laneTotal{r.GetLossSum(), r.GetSamples()}
	}
	if at.samples == 0 {
		return bad
	}
	p.loss = append(p.loss, at)
	for len(p.loss) > 1 && (len(p.loss) > pointsMax || now.Sub(p.loss[0].at) > lossWindow) {
		p.loss = p.loss[1:]
	}
	var sum float64
	var samples uint64
	for _, l := range p.loss {
		sum, samples = sum+l.sum, samples+l.samples
	}
	p.last = sum / float64(samples)
	return bad
}
