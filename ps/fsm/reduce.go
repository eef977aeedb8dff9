package fsm

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/exact"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// round is what all shards must sum before a step is applied. A round may need
// the totals of the one before it.
type round struct {
	clip  bool         // the square of the norm of all gradients
	noise int          // layers whose noise is measured
	norms []tableLayer // the squares of the norms of these layers' weights and directions
}

// tableLayer is a column of a table that is one layer of its optimizer.
type tableLayer struct{ table, column int }

func (r round) size() int {
	n := 2*len(r.norms) + noiseTotals*r.noise
	if r.clip {
		n++
	}
	return n
}

// rounds returns the rounds that the steps of a schema take; mostly none.
func (s Schema) rounds() []round {
	var all []round
	if noise := s.noiseLayers(); s.ClipNorm > 0 || noise > 0 {
		all = append(all, round{clip: s.ClipNorm > 0, noise: noise})
	}
	var layers []tableLayer
	for i, t := range s.Tables {
		for j, c := range t.Columns {
			if o := c.Optimizer.WithDefaults(); o.Layerwise() && o.Granularity != optim.Row {
				layers = append(layers, tableLayer{i, j})
			}
		}
	}
	if len(layers) > 0 {
		all = append(all, round{norms: layers})
	}
	return all
}

// reduction is how far the rounds of the open step have come.
type reduction struct {
	rounds []round
	// totals are those of the rounds of the open step that are known, partial the
	// sums of this shard for the next round, nil until the step is complete.
	totals  [][]float64
	partial []exact.Sum
	// last are the totals of the step applied last: another shard may still lack
	// them. No shard can be further behind, as the totals of the next step need it.
	last [][]float64
	// variance is the mean variance of the gradients of the layers whose noise is
	// measured.
	variance []float64
}

func (r *reduction) reduced() bool { return len(r.totals) == len(r.rounds) }

// next begins another step.
func (r *reduction) next() {
	r.last, r.totals, r.partial = r.totals, nil, nil
}

// settle applies the open step if it is complete and all about it is known. It
// reports whether there is something new to read.
func (s *State) settle() (news bool) {
	m := s.model
	for m.pending[0].full() {
		if !m.reduced() {
			if m.partial == nil {
				m.partial = m.sums()
				news = true
			}
			return news
		}
		if m.schema.Async {
			m.version++ // its lanes were applied one by one
		} else {
			m.step()
		}
		m.pending.advance(s.recycle)
		m.note()
		s.serveCapture()
		news = true
	}
	return news
}

// sums returns what this shard adds to the next round.
func (m *model) sums() []exact.Sum {
	r := m.rounds[len(m.totals)]
	sums := make([]exact.Sum, 0, r.size())
	if r.clip {
		sums = append(sums, m.gradientNorm())
	}
	if r.noise > 0 {
		sums = append(sums, m.noise()...)
	}
	step := m.open()
	for _, l := range r.norms {
		var weight2, direction2 exact.Sum
		t := m.tables[l.table].table
		m.merged(l.table, func(int) {}, func(keys []shard.Key, _ []uint32, sums []float32) {
			t.Norms(keys, sums, step, l.column, func(w, d float32) {
				weight2.Add(float64(w))
				direction2.Add(float64(d))
			})
		})
		sums = append(sums, weight2, direction2)
	}
	m.merge.forget()
	return sums
}

// gradientNorm sums the squares of the gradients that the open step applies.
func (m *model) gradientNorm() (sum exact.Sum) {
	for i, t := range m.tables {
		m.merged(i, func(int) {}, func(keys []shard.Key, _ []uint32, sums []float32) {
			for j, k := range keys {
				if !t.table.Drops(k) {
					sum.Add(squares(sums[j*t.width : (j+1)*t.width]))
				}
			}
		})
	}
	if m.sumDense() {
		for _, d := range m.dense {
			if !d.running() {
				sum.Add(squares(d.grad))
			}
		}
	}
	return sum
}

// squares sums the squares of a row or tensor, which no cut into shards parts.
// The products are exact, and four sums in turn need not wait for each other.
func squares(g []float32) float64 {
	var sum [4]float64
	for ; len(g) >= 4; g = g[4:] {
		for i := range sum {
			sum[i] += float64(g[i]) * float64(g[i])
		}
	}
	for i, x := range g {
		sum[i] += float64(x) * float64(x)
	}
	return sum[0] + sum[1] + (sum[2] + sum[3])
}

// clip returns what the gradients of the open step are multiplied with, as far
// as that is known.
func (m *model) clip() float32 {
	if m.schema.ClipNorm == 0 || len(m.totals) == 0 {
		return 1
	}
	norm := math.Sqrt(m.totals[0][0])
	return float32(min(1, float64(m.schema.ClipNorm)/(norm+1e-6)))
}

// setTrust hands the tables the trust ratios of the layers that are larger than
// a row, and all layers the factors of their rates by noise.
func (m *model) setTrust() {
	for i, r := range m.rounds {
		if r.noise > 0 {
			m.adapt(m.totals[i][r.size()-noiseTotals*r.noise:])
		}
		for j, l := range r.norms {
			norms := m.totals[i][2*j:]
			t := m.tables[l.table].table
			t.SetTrust(l.column, t.Ratio(l.column, norms[0], norms[1]))
		}
	}
}

// reduce takes the totals of a round.
func (s *State) reduce(index uint64, cmd []byte) Result {
	c, err := wire.ParseReduce(cmd)
	if err != nil {
		return s.answer(index, Result{Status: Invalid, Err: fmt.Errorf("%w: %w", ErrInvalid, err)})
	}
	if s.model == nil {
		return s.answer(index, Result{Status: Unconfigured, Err: ErrUnconfigured})
	}
	if status, err := s.model.checkReduce(c); status != Accepted {
		return s.answer(index, Result{Status: status, Complete: status == Duplicate, Err: err})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.model
	m.totals, m.partial = append(m.totals, c.Totals), nil
	s.applied = index
	s.settle()
	s.notify()
	return Result{Status: Accepted, Version: m.version, Complete: true}
}

func (m *model) checkReduce(c wire.Reduce) (Status, error) {
	round := int(c.Round)
	switch {
	case c.Run != m.schema.Run:
		return Mismatch, fmt.Errorf("%w: totals of run %#x, the shard is of run %#x", ErrMismatch, c.Run, m.schema.Run)
	case c.Step <= m.version:
		return Duplicate, nil
	case c.Step > m.version+1 || round > len(m.totals):
		return Ahead, fmt.Errorf("%w: totals of step %d round %d, the shard is at version %d and knows %d rounds", ErrAhead, c.Step, round, m.version, len(m.totals))
	case round < len(m.totals):
		if !slices.Equal(m.totals[round], c.Totals) {
			return Mismatch, fmt.Errorf("%w: round %d of step %d came twice with different totals", ErrMismatch, round, c.Step)
		}
		return Duplicate, nil
	case m.partial == nil || len(c.Totals) != m.rounds[round].size():
		return Invalid, fmt.Errorf("%w: %d totals of step %d round %d, which is not complete or has another number", ErrInvalid, len(c.Totals), c.Step, round)
	}
	return Accepted, nil
}

// Partial is what one shard knows of a round.
type Partial struct {
	// Rounds is the number of rounds of a step.
	Rounds int
	// Totals are those of all shards, nil when the shard does not know them yet.
	Totals []float64
	// Sums are the shard's own part of them, unless Totals are known.
	Sums []exact.Sum
}

// Words returns the sums, one behind the other.
func (p Partial) Words() (words []uint64) {
	for _, s := range p.Sums {
		words = append(words, s[:]...)
	}
	return words
}

// Partial returns what the shard knows of a round of a step. The error wraps
// ErrNotReached while lanes of the step are missing.
func (s *State) Partial(run, step uint64, round int) (Partial, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.model
	if m == nil {
		return Partial{}, ErrUnconfigured
	}
	if run != m.schema.Run {
		return Partial{}, fmt.Errorf("%w: run %#x, the shard is of run %#x", ErrWrongRun, run, m.schema.Run)
	}
	p := Partial{Rounds: len(m.rounds)}
	if round >= len(m.rounds) {
		return p, nil
	}
	known := m.totals
	switch {
	case step == m.version && len(m.last) > 0:
		known = m.last
	case step <= m.version:
		return p, fmt.Errorf("%w: totals of step %d, the shard is at version %d", ErrVersionGone, step, m.version)
	case step > m.version+1:
		return p, fmt.Errorf("%w: totals of step %d, the shard is at version %d", ErrNotReached, step, m.version)
	}
	switch {
	case round < len(known):
		p.Totals = known[round]
	case round == len(known) && m.partial != nil:
		p.Sums = m.partial
	default:
		return p, fmt.Errorf("%w: step %d is not complete", ErrNotReached, step)
	}
	return p, nil
}

// appendTotals appends what a snapshot must hold of the reduction: whether the
// last totals are there, how many rounds are known, and the totals.
func (r *reduction) appendTotals(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.last)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.totals)))
	for _, totals := range slices.Concat(r.last, r.totals, [][]float64{r.variance}) {
		for _, v := range totals {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	return b
}

// loadTotals reads what appendTotals wrote.
func (r *reduction) loadTotals(b []byte) error {
	if len(b) < 8 {
		return damaged("totals of %d bytes", len(b))
	}
	last, known := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if n := uint32(len(r.rounds)); last != 0 && last != n || known >= max(n, 1) {
		return damaged("totals of %d and %d rounds of %d", last, known, n)
	}
	b = b[8:]
	numbers := func(n int) ([]float64, error) {
		if len(b) < 8*n {
			return nil, damaged("totals are cut off: %d of %d bytes", len(b), 8*n)
		}
		all := make([]float64, n)
		for j := range all {
			all[j] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*j:]))
			if !(all[j] >= 0 && all[j] <= math.MaxFloat64) {
				return nil, damaged("total %d of %d is %v", j, n, all[j])
			}
		}
		b = b[8*n:]
		return all, nil
	}
	read := func(rounds uint32) (all [][]float64, err error) {
		for i := range rounds {
			totals, err := numbers(r.rounds[i].size())
			if err != nil {
				return nil, err
			}
			all = append(all, totals)
		}
		return all, nil
	}
	var err error
	if r.last, err = read(last); err != nil {
		return err
	}
	if r.totals, err = read(known); err != nil {
		return err
	}
	if r.variance, err = numbers(len(r.variance)); err != nil {
		return err
	}
	if len(b) > 0 {
		return damaged("%d bytes behind the totals", len(b))
	}
	return nil
}
