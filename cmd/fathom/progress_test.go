package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/proto"
)

func TestPlainLinesSayWhatHappened(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := start
	p := newProgress(&out, outputText, func() time.Time { return now })
	p.status(&proto.JobStatus{Phase: proto.Phase_PHASE_STARTING, Detail: "placing 4 shards"})
	p.status(training(0))
	now = now.Add(6 * time.Second)
	s := training(50)
	p.status(s)
	s = training(51)
	s.Scores = []*proto.Score{{Epoch: 1, Split: "valid", Auc: 0.70123, LogLoss: 0.54321}}
	p.status(s)
	p.restarted("ps-1", 1)
	p.restarted("ps-1", 2)
	p.close()
	want := `03:04:05 starting: placing 4 shards
03:04:05 training
03:04:11 training: epoch 1/2, step 50/200 (25%), 152,300 samples/s, 12.0s left, loss 0.4412
03:04:11 epoch 1: valid auc 0.7012, log loss 0.5432
03:04:11 ps-1 died and was started again (once)
03:04:11 ps-1 died and was started again (2 times)
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

func TestJSONProgressIsOneObjectPerLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out, outputJSON, func() time.Time { return start })
	s := training(50)
	s.Loss, s.EtaSeconds = math.NaN(), math.Inf(1)
	s.Scores = []*proto.Score{{Epoch: 1, Split: "valid", Auc: 0.75, LogLoss: 0.5}}
	p.status(s)
	p.restarted("worker-0", 3)
	p.close()
	var got []eventJSON
	for line := range strings.Lines(out.String()) {
		var e eventJSON
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		got = append(got, e)
	}
	common := eventJSON{Time: start, Event: eventPhase, Job: "small", Phase: "training", Epoch: 1, Epochs: 2, Step: 50, Steps: 200, SamplesPerSecond: 152300.4}
	score := common
	score.Event, score.Split, score.AUC, score.LogLoss = eventScore, "valid", 0.75, 0.5
	want := []eventJSON{score, common, {Time: start, Event: eventRestart, Process: "worker-0", Restarts: 3}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

func TestBlockShowsWhereTheJobIs(t *testing.T) {
	t.Parallel()
	s := training(50)
	s.Detail = "waits for shard 2"
	s.Scores = []*proto.Score{{Epoch: 1, Split: "valid", Auc: 0.6}, {Epoch: 2, Split: "valid", Auc: 0.7}, {Epoch: 2, Split: "test", Auc: 0.1}}
	want := []string{
		"small  training  epoch 1/2  waits for shard 2",
		"[==========                              ]  25%  step 50/200",
		"152,300 samples/s   12.0s left   loss 0.4412   valid auc 0.7000 (epoch 2)",
		"restarted: ps-0 once, worker-1 2 times",
	}
	if d := cmp.Diff(want, renderBlock(s, map[string]int{"worker-1": 2, "ps-0": 1}, 80)); d != "" {
		t.Errorf("block (-want +got):\n%s", d)
	}
	s.Detail = "epoch 1 of 2: scores the valid split"
	if head := renderBlock(s, nil, 80)[0]; head != "small  training  epoch 1 of 2: scores the valid split" {
		t.Errorf("the epoch is named twice, or not: %q", head)
	}
	if d := cmp.Diff([]string{"small  pending"}, renderBlock(&proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_PENDING}, nil, 80)); d != "" {
		t.Errorf("block of a waiting job (-want +got):\n%s", d)
	}
}

func TestBarStaysWithinTheWidth(t *testing.T) {
	t.Parallel()
	for _, step := range []uint64{0, 1, 199, 200, 500} {
		for width := 34; width < 120; width++ {
			if l := bar(training(step), width); len(l) > width {
				t.Errorf("width %d, step %d: %q has %d characters", width, step, l, len(l))
			}
		}
	}
}

func TestBlockIsRedrawnInPlaceAndNotTooOften(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := start
	p := &blockProgress{w: &out, now: func() time.Time { return now }, width: func() int { return 40 }, restarts: map[string]int{}}
	p.close() // nothing to show yet
	if out.Len() > 0 {
		t.Fatalf("an empty block was drawn: %q", out.String())
	}
	p.status(training(1))
	first := out.String()
	if strings.Contains(first, "\x1b") || strings.Count(first, "\n") != 3 {
		t.Errorf("first drawing %q, want three plain lines", first)
	}
	for line := range strings.Lines(first) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 39 {
			t.Errorf("line %q has %d characters on a terminal of 40", line, n)
		}
	}
	out.Reset()
	p.status(training(2))
	if out.Len() > 0 {
		t.Errorf("drawn again after no time: %q", out.String())
	}
	now = now.Add(redrawEvery)
	p.status(training(3))
	if got := out.String(); !strings.HasPrefix(got, "\x1b[3A\x1b[J") || !strings.Contains(got, "step 3/200") {
		t.Errorf("second drawing %q, want the three lines replaced", got)
	}
	out.Reset()
	p.restarted("ps-0", 1)
	if !strings.Contains(out.String(), "restarted: ps-0 once") {
		t.Errorf("a restart was not drawn at once: %q", out.String())
	}
	out.Reset()
	p.status(&proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_DONE})
	if got := out.String(); !strings.HasPrefix(got, "\x1b[4A") || !strings.Contains(got, "small  done") {
		t.Errorf("a change of phase was not drawn at once: %q", got)
	}
}
