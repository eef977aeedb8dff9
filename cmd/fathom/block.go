package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fathom-train/fathom/proto"
)

// redrawEvery bounds how often the block is drawn; a change of phase is drawn
// at once.
const redrawEvery = 100 * time.Millisecond

// blockProgress draws one block of lines in place.
type blockProgress struct {
	w     io.Writer
	now   func() time.Time
	width func() int

	// mu guards all below.
	mu       sync.Mutex
	newest   *proto.JobStatus
	restarts map[string]int
	drawn    int // lines on the screen
	phase    proto.Phase
	last     time.Time
}

func (p *blockProgress) status(s *proto.JobStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest = s
	if now := p.now(); s.GetPhase() != p.phase || now.Sub(p.last) >= redrawEvery {
		p.draw(now)
	}
}

func (p *blockProgress) restarted(process string, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restarts[process] = times
	p.draw(p.now())
}

func (p *blockProgress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draw(p.now())
}

// draw replaces the block on the screen. mu is held.
func (p *blockProgress) draw(now time.Time) {
	if p.newest == nil {
		return
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", p.drawn) // up to the first line, clear to the end
	}
	width := p.width()
	lines := renderBlock(p.newest, p.restarts, width)
	for _, l := range lines {
		b.WriteString(clip(l, width-1) + "\n") // a full line would wrap on some terminals
	}
	io.WriteString(p.w, b.String())
	p.drawn, p.phase, p.last = len(lines), p.newest.GetPhase(), now
}

// renderBlock is the block's text.
func renderBlock(s *proto.JobStatus, restarts map[string]int, width int) []string {
	head := s.GetJob() + "  " + phaseName(s.GetPhase())
	if s.GetEpochs() > 0 && s.GetEpoch() > 0 && !namesEpoch(s) {
		head += fmt.Sprintf("  epoch %d/%d", s.GetEpoch(), s.GetEpochs())
	}
	if s.GetDetail() != "" {
		head += "  " + s.GetDetail()
	}
	lines := []string{head}
	if s.GetSteps() > 0 {
		lines = append(lines, bar(s, width))
	}
	var facts []string
	if s.GetSamplesPerSecond() > 0 {
		facts = append(facts, rate(s.GetSamplesPerSecond())+" samples/s")
	}
	if s.GetEtaSeconds() > 0 {
		facts = append(facts, seconds(s.GetEtaSeconds())+" left")
	}
	if s.GetLoss() > 0 {
		facts = append(facts, fmt.Sprintf("loss %.4f", s.GetLoss()))
	}
	if v := latestScore(s, "valid"); v != nil {
		facts = append(facts, fmt.Sprintf("valid auc %.4f (epoch %d)", v.GetAuc(), v.GetEpoch()))
	}
	if len(facts) > 0 {
		lines = append(lines, strings.Join(facts, "   "))
	}
	if len(restarts) > 0 {
		var names []string
		for _, n := range slices.Sorted(maps.Keys(restarts)) {
			names = append(names, n+" "+times(restarts[n]))
		}
		lines = append(lines, "restarted: "+strings.Join(names, ", "))
	}
	return lines
}

// namesEpoch tells whether the detail begins with the epoch already.
func namesEpoch(s *proto.JobStatus) bool { return strings.HasPrefix(s.GetDetail(), "epoch ") }

// bar draws the share of steps done.
func bar(s *proto.JobStatus, width int) string {
	tail := fmt.Sprintf(" %3.0f%%  step %s/%s", 100*fraction(s), grouped(s.GetStep()), grouped(s.GetSteps()))
	cells := min(40, width-len(tail)-3)
	if cells < 5 {
		return strings.TrimSpace(tail)
	}
	full := int(fraction(s) * float64(cells))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", cells-full) + "]" + tail
}
