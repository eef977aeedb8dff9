package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/fathom-train/fathom/proto"
)

// progress shows how a job goes on: a block that is drawn again and again on a
// terminal, lines otherwise. Its methods may be called by several goroutines.
type progress interface {
	status(s *proto.JobStatus)
	restarted(process string, times int)
	// close leaves the last state on the screen.
	close()
}

// newProgress picks the form that fits the output.
func newProgress(w io.Writer, o output, now func() time.Time) progress {
	if o == outputJSON {
		return &lineProgress{w: w, now: now, write: writeEventJSON}
	}
	if width, ok := terminalWidth(w); ok {
		return &blockProgress{w: w, now: now, width: width, restarts: map[string]int{}}
	}
	return &lineProgress{w: w, now: now, write: writeEventText}
}

// lineProgress writes one line for every event.
type lineProgress struct {
	w     io.Writer
	now   func() time.Time
	write func(io.Writer, time.Time, event)

	// mu guards tracker and keeps lines whole.
	mu      sync.Mutex
	tracker tracker
}

func (p *lineProgress) status(s *proto.JobStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, e := range p.tracker.next(now, s) {
		p.write(p.w, now, e)
	}
}

func (p *lineProgress) restarted(process string, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write(p.w, p.now(), event{kind: eventRestart, process: process, times: times})
}

func (p *lineProgress) close() {}

func writeEventText(w io.Writer, now time.Time, e event) {
	fmt.Fprintf(w, "%s %s\n", now.Format(time.TimeOnly), eventText(e))
}

func eventText(e event) string {
	s := e.status
	switch e.kind {
	case eventRestart:
		return fmt.Sprintf("%s died and was started again (%s)", e.process, times(e.times))
	case eventScore:
		return scoreText(e.score)
	case eventPhase:
		if s.GetPhase() != proto.Phase_PHASE_TRAINING || s.GetStep() == 0 {
			return strings.TrimSuffix(phaseName(s.GetPhase())+": "+s.GetDetail(), ": ")
		}
	}
	text := fmt.Sprintf("training: epoch %d/%d, step %d/%d (%.0f%%), %s samples/s",
		s.GetEpoch(), s.GetEpochs(), s.GetStep(), s.GetSteps(), 100*fraction(s), rate(s.GetSamplesPerSecond()))
	if s.GetEtaSeconds() > 0 {
		text += ", " + seconds(s.GetEtaSeconds()) + " left"
	}
	if s.GetLoss() > 0 {
		text += fmt.Sprintf(", loss %.4f", s.GetLoss())
	}
	if s.GetDetail() != "" && !namesEpoch(s) {
		text += "; " + s.GetDetail()
	}
	return text
}

// scoreText tells a score, and with what learning rates it was reached once they
// are lowered.
func scoreText(c *proto.Score) string {
	text := fmt.Sprintf("epoch %d: %s auc %.4f, log loss %.4f", c.GetEpoch(), c.GetSplit(), c.GetAuc(), c.GetLogLoss())
	if c.GetGaucSamples() > 0 {
		text += fmt.Sprintf(", gauc %.4f", c.GetGauc())
	}
	if f := c.GetLearningRateFactor(); f > 0 && f < 1 {
		text += fmt.Sprintf(", learning rates times %.3g", f)
	}
	return text
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// eventJSON is one line of progress for programs.
type eventJSON struct {
	Time             time.Time `json:"time"`
	Event            eventKind `json:"event"`
	Job              string    `json:"job,omitempty"`
	Phase            string    `json:"phase,omitempty"`
	Detail           string    `json:"detail,omitempty"`
	Epoch            uint64    `json:"epoch,omitempty"`
	Epochs           uint64    `json:"epochs,omitempty"`
	Step             uint64    `json:"step,omitempty"`
	Steps            uint64    `json:"steps,omitempty"`
	SamplesPerSecond float64   `json:"samples_per_second,omitempty"`
	ETASeconds       float64   `json:"eta_seconds,omitempty"`
	Loss             float64   `json:"loss,omitempty"`
	Split            string    `json:"split,omitempty"`
	AUC              float64   `json:"auc,omitempty"`
	LogLoss          float64   `json:"logloss,omitempty"`
	Process          string    `json:"process,omitempty"`
	Restarts         int       `json:"restarts,omitempty"`
}

func writeEventJSON(w io.Writer, now time.Time, e event) {
	s := e.status
	line := eventJSON{
		Time: now.UTC(), Event: e.kind, Job: s.GetJob(),
		Epoch: s.GetEpoch(), Epochs: s.GetEpochs(), Step: s.GetStep(), Steps: s.GetSteps(),
		SamplesPerSecond: finite(s.GetSamplesPerSecond()), ETASeconds: finite(s.GetEtaSeconds()), Loss: finite(s.GetLoss()),
		Detail: s.GetDetail(), Process: e.process, Restarts: e.times,
	}
	if s != nil {
		line.Phase = phaseName(s.GetPhase())
	}
	if e.score != nil {
		line.Epoch, line.Split = e.score.GetEpoch(), e.score.GetSplit()
		line.AUC, line.LogLoss = finite(e.score.GetAuc()), finite(e.score.GetLogLoss())
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(fmt.Sprintf("cmd/fathom: BUG: %v", err)) // only numbers that are not finite could do it
	}
	fmt.Fprintf(w, "%s\n", text)
}
