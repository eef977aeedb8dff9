package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/proto"
)

func training(step uint64) *proto.JobStatus {
	return &proto.JobStatus{
		Job: "small", Phase: proto.Phase_PHASE_TRAINING, Epoch: 1, Epochs: 2, Step: step, Steps: 200,
		SamplesPerSecond: 152300.4, EtaSeconds: 12, Loss: 0.44123,
	}
}

func kinds(events []event) []eventKind {
	var k []eventKind
	for _, e := range events {
		k = append(k, e.kind)
	}
	return k
}

func TestTrackerTellsPhasesAndScoresAtOnceAndTheRestSeldom(t *testing.T) {
	t.Parallel()
	score := &proto.Score{Epoch: 1, Split: "valid", Auc: 0.7}
	scored := training(101)
	scored.Scores = []*proto.Score{score}
	waiting := training(101)
	waiting.Scores, waiting.Detail = scored.Scores, "waits for shard 2"
	var tr tracker
	for n, c := range []struct {
		at   time.Duration
		s    *proto.JobStatus
		want []eventKind
	}{
		{0, &proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_STARTING}, []eventKind{eventPhase}},
		{0, &proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_STARTING}, nil},
		{time.Second, training(1), []eventKind{eventPhase}},
		{2 * time.Second, training(50), nil},
		{6 * time.Second, training(90), []eventKind{eventProgress}},
		{7 * time.Second, scored, []eventKind{eventScore}},
		{8 * time.Second, scored, nil},
		{20 * time.Second, scored, nil}, // nothing has changed
		{20 * time.Second, waiting, []eventKind{eventPhase}},
		{21 * time.Second, &proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_DONE, Scores: append(scored.Scores, score, score)},
			[]eventKind{eventScore, eventScore, eventPhase}},
	} {
		if d := cmp.Diff(c.want, kinds(tr.next(start.Add(c.at), c.s))); d != "" {
			t.Errorf("status %d: events (-want +got):\n%s", n, d)
		}
	}
}

func TestEveryPhaseHasAName(t *testing.T) {
	t.Parallel()
	for n := range proto.Phase_name {
		p := proto.Phase(n)
		if known := phaseName(p) != "unknown"; known != (p != proto.Phase_PHASE_UNSPECIFIED) {
			t.Errorf("phase %v is called %q", p, phaseName(p))
		}
	}
}
