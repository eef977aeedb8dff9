package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fathom-train/fathom/deploy/launch/launchtest"
	"github.com/fathom-train/fathom/deploy/manifest"
)

func TestScaledWorkersStayScaled(t *testing.T) {
	s, c := connect(t)
	objects := rendered(t, manifest.Options{})
	launched(t, c, objects, false)
	if err := c.Scale(t.Context(), name, 7); err != nil {
		t.Fatal(err)
	}
	workers := func() any { return s.Get("jobs", "quickstart-worker")["spec"].(map[string]any)["parallelism"] }
	p, err := c.Plan(t.Context(), name, objects, false)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Changes, func(ch Change) bool { return ch.Object == "job.batch/quickstart-worker" })
	if ch := p.Changes[i]; ch.Action != Unchanged || ch.Note != "keeps 7 workers, as set by fathom-scale" {
		t.Errorf("launch after scale: %s, %q", ch.Action, ch.Note)
	}
	wantActions(t, but(launched(t, c, objects, false), Unchanged), map[string]Action{})
	if workers() != 7.0 {
		t.Errorf("launch made it %v workers", workers())
	}
	launched(t, c, objects, true)
	if workers() != 2.0 {
		t.Errorf("a forced launch left %v workers", workers())
	}
	for _, n := range []int{0, -1, workersMax + 1} {
		if err := c.Scale(t.Context(), name, n); !errors.Is(err, ErrRefused) {
			t.Errorf("%d workers: %v", n, err)
		}
	}
}

func TestSuspendedJobStaysSuspendedThroughALaunch(t *testing.T) {
	s, c := connect(t)
	objects := rendered(t, manifest.Options{})
	launched(t, c, objects, false)
	workers := func() int {
		return len(slices.DeleteFunc(s.Names("pods"), func(p string) bool { return !strings.HasPrefix(p, "quickstart-worker") }))
	}
	if err := c.Suspend(t.Context(), name); err != nil || workers() != 0 {
		t.Fatalf("%v, %d workers", err, workers())
	}
	wantActions(t, but(launched(t, c, objects, false), Unchanged), map[string]Action{})
	if st, err := c.State(t.Context(), name); err != nil || !st.Suspended || !st.Ready {
		t.Errorf("%+v, %v", st, err)
	}
	if err := c.Resume(t.Context(), name); err != nil || workers() != 2 {
		t.Errorf("%v, %d workers", err, workers())
	}
	s.FinishJob("quickstart-worker", "")
	if err := c.Suspend(t.Context(), name); !errors.Is(err, ErrRefused) {
		t.Errorf("suspend what is over: %v", err)
	}
}

func TestRestartGoesPodByPodAndWaitsForReadinessAndTheCoordinator(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	before := len(s.Calls())
	asked := 0
	sound := func(context.Context) error {
		// Every other time something is still amiss.
		if asked++; asked%2 == 1 {
			return errors.New("shard 3 has no leader")
		}
		return nil
	}
	var done []string
	if err := c.Restart(t.Context(), name, "ps", time.Minute, sound, func(pod string) { done = append(done, pod) }); err != nil {
		t.Fatal(err)
	}
	want := []string{"evict pods/quickstart-ps-2", "evict pods/quickstart-ps-1", "evict pods/quickstart-ps-0"}
	if got := s.Calls()[before:]; !slices.Equal(got, want) || len(done) != 3 || asked < 12 {
		t.Errorf("calls %v, done %v, asked %d times", got, done, asked)
	}
	before = len(s.Calls())
	err := c.Restart(t.Context(), name, "ps", 100*time.Millisecond, func(context.Context) error { return errors.New("shard 3 has no leader") }, func(string) {})
	var f *Failure
	if !errors.As(err, &f) || !f.Timeout || !strings.Contains(err.Error(), "before the restart of pod quickstart-ps-2: waited 100ms: shard 3 has no leader") || len(s.Calls()) != before {
		t.Errorf("not sound: %v, %v", err, s.Calls()[before:])
	}
	s.Break("quickstart-ps-0", launchtest.Breakage{})
	err = c.Restart(t.Context(), name, "ps", 100*time.Millisecond, func(context.Context) error { return nil }, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "2 of 3 pods of ps are ready") || len(s.Calls()) != before {
		t.Errorf("not ready: %v", err)
	}
	if err := c.Restart(t.Context(), name, "worker", time.Second, nil, nil); !errors.Is(err, ErrRefused) {
		t.Errorf("workers: %v", err)
	}
}

func TestRestartWaitsForTheDisruptionBudget(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	s.RefuseEvictions(3)
	if err := c.Restart(t.Context(), name, "etcd", time.Minute, func(context.Context) error { return nil }, func(string) {}); err != nil {
		t.Error(err)
	}
	s.RefuseEvictions(1 << 30)
	if err := c.Restart(t.Context(), name, "etcd", 100*time.Millisecond, func(context.Context) error { return nil }, func(string) {}); err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("for ever: %v", err)
	}
}

func TestDeleteKeepsVolumesAndPurgeTakesThem(t *testing.T) {
	s, c := connect(t)
	objects := rendered(t, manifest.Options{})
	launched(t, c, objects, false)
	p, err := c.PlanSecrets(t.Context(), name, manifest.Secrets(name, manifest.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeSecrets(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.Put("persistentvolumeclaims", launchtest.Object{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]any{"name": "samples"}}, "someone")
	remove := func(purge bool) {
		t.Helper()
		d, err := c.PlanDelete(t.Context(), name, purge)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), d, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
	remove(false)
	for _, r := range []string{"statefulsets", "jobs", "pods", "services", "configmaps", "secrets", "serviceaccounts", "networkpolicies", "poddisruptionbudgets"} {
		if left := s.Names(r); len(left) > 0 {
			t.Errorf("left: %s %v", r, left)
		}
	}
	if got := len(s.Names("persistentvolumeclaims")); got != 7 {
		t.Errorf("%d volume claims are left of 7", got)
	}
	remove(true)
	if got := s.Names("persistentvolumeclaims"); !slices.Equal(got, []string{"samples"}) {
		t.Errorf("after purge: %v", got)
	}
}

func TestLogsOfAllPodsAndOfOne(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	for _, pod := range s.Names("pods") {
		s.Log(pod, "one of "+pod+"\ntwo\n")
	}
	read := func(only string, o LogOptions) string {
		t.Helper()
		var b bytes.Buffer
		if err := c.Logs(t.Context(), &b, name, only, o); err != nil {
			t.Error(err)
		}
		return b.String()
	}
	if got := strings.Count(read("", LogOptions{}), "\n"); got != 2*10 {
		t.Errorf("%d lines of 10 pods", got)
	}
	if got, want := read("ps-1", LogOptions{}), "[quickstart-ps-1] one of quickstart-ps-1\n[quickstart-ps-1] two\n"; got != want {
		t.Errorf("got %q", got)
	}
	if got, want := read("ps", LogOptions{Tail: 1}), "[quickstart-ps-0] two\n[quickstart-ps-1] two\n[quickstart-ps-2] two\n"; got != want {
		t.Errorf("got %q", got)
	}
	if err := c.Logs(t.Context(), &bytes.Buffer{}, name, "ps-9", LogOptions{}); !errors.Is(err, ErrRefused) {
		t.Errorf("no such pod: %v", err)
	}
}

// stopAt ends a context when a text was written.
type stopAt struct {
	bytes.Buffer
	text string
	stop func()
}

func (w *stopAt) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.stop()
	}
	return n, err
}

func TestFollowedLogsGoOnWithThePodThatComesNext(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	s.Log("quickstart-ps-0", "first life\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &stopAt{text: "second life", stop: cancel}
	again := &stopAt{text: "first life", stop: func() {
		s.Log("quickstart-ps-0", "second life\n")
		if err := c.evict(t.Context(), "quickstart-ps-0", time.Minute); err != nil {
			t.Error(err)
		}
	}}
	err := c.Logs(ctx, writers{again, w}, name, "ps-0", LogOptions{Follow: true})
	if !errors.Is(err, context.Canceled) || !strings.Contains(w.String(), "second life") {
		t.Errorf("%v, %q", err, w.String())
	}
}

type writers []interface{ Write([]byte) (int, error) }

func (all writers) Write(p []byte) (int, error) {
	for _, w := range all {
		if n, err := w.Write(p); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

func TestEventsAreOfTheJobAndInOrder(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	for i, pod := range []string{"quickstart-ps-0", "other-ps-0", "quickstart-2-ps-0", "quickstart-worker-1-x7k2p"} {
		e := event(pod, "R", fmt.Sprint(i))
		e["lastTimestamp"] = fmt.Sprintf("2026-01-02T03:04:%02dZ", 30-i)
		s.Put("events", e, "kubelet")
	}
	all, err := c.Events(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Object != "pod/quickstart-worker-1-x7k2p" || all[1].Object != "pod/quickstart-ps-0" || all[1].Count != 7 {
		t.Errorf("%+v", all)
	}
}

func TestFindSettlesWhichJobIsMeant(t *testing.T) {
	s, c := connect(t)
	if _, err := c.Find(t.Context(), ""); !errors.Is(err, ErrRefused) {
		t.Errorf("none: %v", err)
	}
	launched(t, c, rendered(t, manifest.Options{}), false)
	if job, err := c.Find(t.Context(), ""); err != nil || job != name {
		t.Errorf("%q, %v", job, err)
	}
	s.Put("statefulsets", launchtest.Object{"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": map[string]any{"replicas": 0.0},
		"metadata": map[string]any{"name": "b-coordinator", "labels": map[string]any{nameLabel: owner, instanceLabel: "b", componentLabel: "coordinator"}}}, "fathom")
	if _, err := c.Find(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "b, quickstart") {
		t.Errorf("two: %v", err)
	}
	if _, err := c.Find(t.Context(), "c"); err == nil || !strings.Contains(err.Error(), "no launched job c") {
		t.Errorf("unknown: %v", err)
	}
}
