package scale

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// leader is a coordinator that leads or does not.
type leader struct {
	leads  bool
	demand Demand
	log    bytes.Buffer
	scaler *Scaler
}

// lead returns a new leader, elected an hour ago.
func lead(api API, d Demand) *leader {
	if d.Since.IsZero() {
		d.Since = time.Now().Add(-time.Hour)
	}
	l := &leader{leads: true, demand: d}
	l.scaler = New(api, func() (Demand, bool) { return l.demand, l.leads }, slog.New(slog.NewTextHandler(&l.log, nil)),
		func(action, job, target, detail string) {
			fmt.Fprintf(&l.log, "%s: %s %s: %s\n", job, action, target, detail)
		})
	return l
}

func (l *leader) once(t *testing.T) {
	t.Helper()
	if err := l.scaler.once(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func running(run string, workers int) Demand {
	return Demand{Job: "quickstart", Run: run, Active: true, Workers: workers, Seen: seen(workers, Seen{})}
}

func ended(run string, ago time.Duration) Demand {
	return Demand{Job: "quickstart", Run: run, Ended: time.Now().Add(-ago)}
}

func seen(n int, s Seen) map[string]Seen {
	all := map[string]Seen{}
	for i := range n {
		all[fmt.Sprintf("%s-%d", testJob, i)] = s
	}
	return all
}

func (f *fakeServer) want(t *testing.T, parallelism, completions int32, patches int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if *f.job.Spec.Parallelism != parallelism || *f.job.Spec.Completions != completions || f.patches != patches || len(f.pods) != int(parallelism) {
		t.Errorf("parallelism %d, completions %d after %d patches, %d pods; want %d, %d, %d", *f.job.Spec.Parallelism, *f.job.Spec.Completions, f.patches, len(f.pods), parallelism, completions, patches)
	}
}

func (f *fakeServer) change(change func(j *batchv1.Job)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.job)
	f.version++
	f.reconcile(time.Now().Add(-time.Hour))
}

// Workers come with a job, go with it and come back with the next one, whichever
// coordinator leads.
func TestWorkersFollowTheJobs(t *testing.T) {
	f, k := newFake(t, 4)
	first := lead(k, running("a", 4))
	first.once(t)
	f.want(t, 4, 4, 1) // noted whose they are
	first.demand = ended("a", time.Second)
	first.once(t)
	f.want(t, 4, 4, 1) // they may end by themselves
	first.demand = ended("a", time.Hour)
	first.leads = false
	first.once(t)
	f.want(t, 4, 4, 1)

	second := lead(k, ended("a", time.Hour))
	second.once(t)
	f.want(t, 0, 4, 2)
	second.once(t)
	f.want(t, 0, 4, 2)
	lead(k, running("b", 6)).once(t)
	f.want(t, 6, 6, 3)
	third := lead(k, running("b", 6))
	third.once(t)
	f.want(t, 6, 6, 3)
	var reasons []string
	for _, e := range f.events {
		reasons = append(reasons, e.Reason)
		if e.InvolvedObject.Name != testJob || e.InvolvedObject.UID != "1234" || e.Type != corev1.EventTypeNormal || e.FirstTimestamp.IsZero() {
			t.Errorf("event %+v", e)
		}
	}
	if !slices.Equal(reasons, []string{"WorkersResized", "WorkersResized"}) {
		t.Errorf("events %v", reasons)
	}
	if !strings.Contains(second.log.String(), "quickstart: resize workers ") {
		t.Errorf("no record: %s", second.log.String())
	}
}

func TestAJobWithoutPodsGetsThem(t *testing.T) {
	f, k := newFake(t, 3)
	f.change(func(j *batchv1.Job) { *j.Spec.Parallelism = 0 })
	lead(k, running("a", 3)).once(t)
	f.want(t, 3, 3, 1)
}

// What people decide for a run is not taken back.
func TestPeoplesDecisionsStay(t *testing.T) {
	f, k := newFake(t, 4)
	l := lead(k, running("a", 4))
	l.once(t)
	for _, n := range []int32{7, 0} {
		f.change(func(j *batchv1.Job) {
			if *j.Spec.Parallelism = n; n > 0 {
				*j.Spec.Completions = n
			}
		})
		l.once(t)
		f.want(t, n, 7, 1)
	}
	l.demand = running("b", 4) // the next job is sized again, when it may be
	f.change(func(j *batchv1.Job) { j.Spec.Suspend = new(bool); *j.Spec.Suspend = true })
	l.once(t)
	f.want(t, 0, 7, 1)
	f.change(func(j *batchv1.Job) { *j.Spec.Suspend = false })
	l.once(t)
	f.want(t, 4, 4, 2)
}

func TestAFinishedJobIsSaidOnce(t *testing.T) {
	f, k := newFake(t, 4)
	f.change(func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "PodFailurePolicy", Message: "exit code 64"}}
	})
	l := lead(k, running("a", 4))
	l.once(t)
	l.once(t)
	f.want(t, 4, 4, 0)
	if got := strings.Count(l.log.String(), "PodFailurePolicy: exit code 64"); got != 1 {
		t.Errorf("said %d times: %s", got, l.log.String())
	}
}

func TestOfTwoLeadersOneIsTooLate(t *testing.T) {
	f, k := newFake(t, 4)
	set, err := k.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lead(k, running("a", 4)).once(t)
	if err := k.Resize(t.Context(), set, 9, "old"); err == nil {
		t.Error("a change based on an old look was accepted")
	}
	f.want(t, 4, 4, 1)
}

func TestAMissingRightIsNamed(t *testing.T) {
	f, k := newFake(t, 4)
	f.role.Rules = nil
	if _, err := k.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "fathom manifest") {
		t.Errorf("error %v", err)
	}
}

// A worker whose pod runs, but that is silent, never came, or holds the others up,
// is replaced, once.
func TestHangingWorkersAreReplaced(t *testing.T) {
	const name = testJob + "-2"
	silent, stalled := Seen{Silent: 5 * time.Minute}, Seen{Stalled: 11 * time.Minute}
	for what, c := range map[string]struct {
		change func(d *Demand, f *fakeServer)
		want   bool
	}{
		"silent":            {func(d *Demand, _ *fakeServer) { d.Seen[name] = silent }, true},
		"silent for less":   {func(d *Demand, _ *fakeServer) { d.Seen[name] = Seen{Silent: time.Minute} }, false},
		"stalled":           {func(d *Demand, _ *fakeServer) { d.Seen[name] = stalled }, true},
		"stalled for less":  {func(d *Demand, _ *fakeServer) { d.Seen[name] = Seen{Stalled: 9 * time.Minute} }, false},
		"never came":        {func(d *Demand, _ *fakeServer) { delete(d.Seen, name) }, true},
		"the leader is new": {func(d *Demand, _ *fakeServer) { delete(d.Seen, name); d.Since = time.Now().Add(-time.Minute) }, false},
		"the pod is new": {func(d *Demand, f *fakeServer) {
			d.Seen[name] = silent
			f.pods[name+"-abcde"].Status.StartTime.Time = time.Now().Add(-time.Minute)
		}, false},
		"the pod waits for a machine": {func(d *Demand, f *fakeServer) {
			delete(d.Seen, name)
			f.pods[name+"-abcde"].Status = corev1.PodStatus{Phase: corev1.PodPending}
		}, false},
		"most are silent": {func(d *Demand, _ *fakeServer) { d.Seen = seen(3, silent) }, false},
		"the job is over": {func(d *Demand, _ *fakeServer) { d.Seen[name], d.Active, d.Ended = silent, false, time.Now() }, false},
	} {
		t.Run(what, func(t *testing.T) {
			f, k := newFake(t, 4)
			d := running("a", 4)
			c.change(&d, f)
			l := lead(k, d)
			for range 3 { // the first notes whose they are
				l.once(t)
			}
			lead(k, d).once(t) // also after the coordinator was killed
			want := []string(nil)
			if c.want {
				want = []string{name + "-abcde"}
			}
			if !slices.Equal(f.evicted, want) {
				t.Errorf("replaced %v, want %v", f.evicted, want)
			}
			if recorded := strings.Contains(l.log.String(), "quickstart: replace worker quickstart-worker-2: ") && len(f.events) == 1; recorded != c.want {
				t.Errorf("recorded: %v; %s", recorded, l.log.String())
			}
		})
	}
}

// Of many, a quarter is replaced at a time.
func TestReplacementIsPaced(t *testing.T) {
	f, k := newFake(t, 8)
	d := running("a", 8)
	for i := range 4 {
		d.Seen[fmt.Sprintf("%s-%d", testJob, i)] = Seen{Silent: time.Hour}
	}
	l := lead(k, d)
	for range 4 {
		l.once(t)
	}
	if len(f.evicted) != 2 {
		t.Errorf("replaced %v, want two", f.evicted)
	}
}
