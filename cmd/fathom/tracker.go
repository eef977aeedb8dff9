package main

import (
	"math"
	"time"

	"github.com/fathom-train/fathom/proto"
)

// progressEvery bounds how often a line says only how far the training is.
const progressEvery = 5 * time.Second

// event is one thing worth a line.
type event struct {
	kind    eventKind
	status  *proto.JobStatus // not for kind restart
	score   *proto.Score     // kind score
	process string           // kind restart
	times   int              // kind restart: restarts of the process so far
}

type eventKind string

const (
	eventPhase    eventKind = "phase"    // the phase, or what it waits for, has changed
	eventScore    eventKind = "score"    // a split was evaluated
	eventProgress eventKind = "progress" // a training step was reached
	eventRestart  eventKind = "restart"  // a process died and was started again
)

// tracker finds in a sequence of statuses what is worth a line: every change of
// phase and every score at once, the rest at a bounded rate.
type tracker struct {
	job    string
	phase  proto.Phase
	detail string
	scores int
	step   uint64
	last   time.Time // of the newest line
}

// next returns the events that the status, seen now, brings.
func (t *tracker) next(now time.Time, s *proto.JobStatus) []event {
	if s.GetJob() != t.job { // the next seed's
		*t = tracker{job: s.GetJob()}
	}
	var events []event
	due := now.Sub(t.last) >= progressEvery
	for ; t.scores < len(s.GetScores()); t.scores++ {
		events = append(events, event{kind: eventScore, status: s, score: s.GetScores()[t.scores]})
	}
	switch {
	case s.GetPhase() != t.phase, s.GetDetail() != t.detail && due:
		events = append(events, event{kind: eventPhase, status: s}) // after the scores of the phase before
	case len(events) == 0 && due && s.GetPhase() == proto.Phase_PHASE_TRAINING && s.GetStep() != t.step:
		events = append(events, event{kind: eventProgress, status: s})
	}
	if len(events) > 0 {
		t.phase, t.detail, t.step, t.last = s.GetPhase(), s.GetDetail(), s.GetStep(), now
	}
	return events
}

// fraction is how much of the job's training is done, between 0 and 1.
func fraction(s *proto.JobStatus) float64 {
	if s.GetSteps() == 0 {
		return 0
	}
	return math.Min(1, float64(s.GetStep())/float64(s.GetSteps()))
}

// latestScore returns the newest score of the split, or nil.
func latestScore(s *proto.JobStatus, split string) *proto.Score {
	scores := s.GetScores()
	for i := len(scores) - 1; i >= 0; i-- {
		if scores[i].GetSplit() == split {
			return scores[i]
		}
	}
	return nil
}

var phaseNames = map[proto.Phase]string{
	proto.Phase_PHASE_PENDING:    "pending",
	proto.Phase_PHASE_STARTING:   "starting",
	proto.Phase_PHASE_TRAINING:   "training",
	proto.Phase_PHASE_EVALUATING: "evaluating",
	proto.Phase_PHASE_SURVEYING:  "surveying",
	proto.Phase_PHASE_SEARCHING:  "searching",
	proto.Phase_PHASE_RESHAPING:  "reshaping",
	proto.Phase_PHASE_DONE:       "done",
	proto.Phase_PHASE_FAILED:     "failed",
	proto.Phase_PHASE_CANCELLED:  "cancelled",
}

// phaseName is the phase as people and programs read it.
func phaseName(p proto.Phase) string {
	if n, ok := phaseNames[p]; ok {
		return n
	}
	return "unknown"
}
