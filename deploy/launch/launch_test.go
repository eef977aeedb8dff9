package launch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/launch/launchtest"
	"github.com/fathom-train/fathom/deploy/manifest"
)

const name = "quickstart" // of the job

func connect(t *testing.T) (*launchtest.Server, *Cluster) {
	t.Helper()
	s := launchtest.New(t, "ml")
	c, err := Connect(t.Context(), Target{Kubeconfig: s.Kubeconfig("ml")})
	if err != nil {
		t.Fatal(err)
	}
	if c.Namespace() != "ml" {
		t.Errorf("namespace %s, the context says ml", c.Namespace())
	}
	c.look = 10 * time.Millisecond
	return s, c
}

func rendered(t *testing.T, o manifest.Options, sets ...string) []manifest.Object {
	t.Helper()
	path := filepath.Join("..", "jobs", "quickstart.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	j, err := job.Parse(path, text, sets)
	if err != nil {
		t.Fatal(err)
	}
	o.Namespace, o.ServerMemory, o.WorkerMemory = "ml", 2<<30, 4<<30
	if o.Image == "" {
		o.Image = "registry.example/fathom:v1"
	}
	objects, err := manifest.Render(j, o)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// launched applies the objects and returns what was done by object.
func launched(t *testing.T, c *Cluster, objects []manifest.Object, force bool) map[string]Action {
	t.Helper()
	if err := c.Preflight(t.Context(), objects, true, true); err != nil {
		t.Fatal(err)
	}
	p, err := c.Plan(t.Context(), name, objects, force)
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]Action{}
	if err := c.Apply(t.Context(), p, func(ch Change) { done[ch.Object] = ch.Action }); err != nil {
		t.Fatal(err)
	}
	return done
}

// but returns what is not as the most.
func but(done map[string]Action, most Action) map[string]Action {
	rest := map[string]Action{}
	for o, a := range done {
		if a != most {
			rest[o] = a
		}
	}
	return rest
}

func wantActions(t *testing.T, got, want map[string]Action) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFirstApplyCreatesInOrderAndTheSecondChangesNothing(t *testing.T) {
	s, c := connect(t)
	objects := rendered(t, manifest.Options{})
	done := launched(t, c, objects, false)
	wantActions(t, but(done, Created), map[string]Action{})
	if len(done) != len(objects) {
		t.Errorf("%d of %d objects", len(done), len(objects))
	}
	calls := s.Calls()
	account, pods := slices.Index(calls, "apply serviceaccounts/quickstart-ps"), slices.Index(calls, "apply statefulsets/quickstart-ps")
	if account < 0 || pods < account {
		t.Errorf("pods before their account: %v", calls)
	}
	before := s.Get("statefulsets", "quickstart-ps")["metadata"]
	wantActions(t, but(launched(t, c, objects, false), Unchanged), map[string]Action{})
	if d := cmp.Diff(before, s.Get("statefulsets", "quickstart-ps")["metadata"]); d != "" {
		t.Errorf("the second apply wrote: %s", d)
	}
}

func TestChangedImageRollsServersAndReplacesWorkers(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	uid := s.Get("jobs", "quickstart-worker")["metadata"].(map[string]any)["uid"]
	objects := rendered(t, manifest.Options{Image: "registry.example/fathom:v2"})
	p, err := c.Plan(t.Context(), name, objects, false)
	if err != nil {
		t.Fatal(err)
	}
	diff, err := p.Diff()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--- live/statefulset.apps/quickstart-ps\n", "-        image: registry.example/fathom:v1\n", "+        image: registry.example/fathom:v2\n",
		"# job.batch/quickstart-worker replaced"} {
		if !strings.Contains(diff, want) {
			t.Errorf("the diff lacks %q:\n%s", want, diff)
		}
	}
	if strings.Contains(diff, "service/") || strings.Contains(diff, "resourceVersion") {
		t.Errorf("the diff shows what stays:\n%s", diff)
	}
	if now := s.Get("jobs", "quickstart-worker")["metadata"].(map[string]any)["uid"]; now != uid {
		t.Error("a plan changed the cluster")
	}
	wantActions(t, but(launched(t, c, objects, false), Unchanged), map[string]Action{
		"statefulset.apps/quickstart-etcd": Configured, "statefulset.apps/quickstart-coordinator": Configured,
		"statefulset.apps/quickstart-ps": Configured, "job.batch/quickstart-worker": Replaced,
	})
	if now := s.Get("jobs", "quickstart-worker")["metadata"].(map[string]any)["uid"]; now == uid {
		t.Error("the Job of the workers is the old one")
	}
}

func TestConflictNamesFieldAndOwnerAndChangesNothing(t *testing.T) {
	s, c := connect(t)
	objects := rendered(t, manifest.Options{})
	launched(t, c, objects, false)
	ps := s.Get("statefulsets", "quickstart-ps")
	ps["spec"].(map[string]any)["minReadySeconds"] = 99
	s.Put("statefulsets", ps, "kubectl-edit")
	before := len(s.Calls())
	_, err := c.Plan(t.Context(), name, objects, false)
	for _, want := range []string{"statefulset.apps/quickstart-ps", ".spec.minReadySeconds", `"kubectl-edit"`, "--force-conflicts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if !errors.Is(err, ErrRefused) || len(s.Calls()) != before {
		t.Errorf("%v, calls %v", err, s.Calls()[before:])
	}
	launched(t, c, objects, true)
	if got := s.Get("statefulsets", "quickstart-ps")["spec"].(map[string]any)["minReadySeconds"]; got != 5.0 {
		t.Errorf("forced: minReadySeconds %v", got)
	}
}

func TestPruneTakesWhatTheJobNoLongerHasAndNothingElse(t *testing.T) {
	s, c := connect(t)
	s.AddKind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
	launched(t, c, rendered(t, manifest.Options{Monitor: true}), false)
	object := func(kind, of string, labels map[string]any) launchtest.Object {
		return launchtest.Object{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": of, "namespace": "ml", "labels": labels}}
	}
	s.Put("configmaps", object("ConfigMap", "theirs", map[string]any{instanceLabel: name}), "someone")
	s.Put("configmaps", object("ConfigMap", "other-job", map[string]any{nameLabel: owner, instanceLabel: "other", ownerLabel: owner}), "fathom")
	s.Put("configmaps", object("ConfigMap", "old", map[string]any{nameLabel: owner, instanceLabel: name, ownerLabel: owner}), "fathom")
	done := launched(t, c, rendered(t, manifest.Options{Etcd: []string{"https://etcd.example:2379"}, EtcdSecret: "etcd-client"}), false)
	want := map[string]Action{
		"podmonitor.monitoring.coreos.com/quickstart": Pruned, "statefulset.apps/quickstart-etcd": Pruned, "configmap/old": Pruned,
		"networkpolicy.networking.k8s.io/quickstart-etcd": Pruned, "poddisruptionbudget.policy/quickstart-etcd": Pruned,
		"service/quickstart-etcd": Pruned, "serviceaccount/quickstart-etcd": Pruned, "statefulset.apps/quickstart-coordinator": Configured,
	}
	wantActions(t, but(done, Unchanged), want)
	if got := s.Names("configmaps"); !slices.Equal(got, []string{"other-job", "quickstart-job", "theirs"}) {
		t.Errorf("config maps %v", got)
	}
	if got := len(s.Names("persistentvolumeclaims")); got != 6 {
		t.Errorf("%d volume claims, those of etcd stay, too", got)
	}
}

func TestPreflightSaysWhatIsMissing(t *testing.T) {
	s, c := connect(t)
	objects := rendered(t, manifest.Options{})
	s.Deny("patch statefulsets", "get pods/log")
	err := c.Preflight(t.Context(), objects, true, true)
	if !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), "in namespace ml you lack the permission to: patch statefulsets.apps; get pods/log") {
		t.Errorf("denied: %v", err)
	}
	// A Role may give only what whoever makes it has, or who may escalate has not.
	s.Deny("create pods/eviction", "create pods/portforward")
	err = c.Preflight(t.Context(), objects, true, true)
	if err == nil || !strings.HasSuffix(err.Error(), "; create pods/portforward (--wait ready and --wait false do without that)") {
		t.Errorf("may escalate: %v", err)
	}
	s.Deny("bind roles", "patch jobs")
	err = c.Preflight(t.Context(), objects, true, false)
	if err == nil || strings.Contains(err.Error(), "portforward") || !strings.Contains(err.Error(), "refused: the coordinator's Role gives rights that you lack in namespace ml") ||
		!strings.Contains(err.Error(), ": patch jobs.batch quickstart-worker; create pods/eviction; have them given to you") {
		t.Errorf("may not escalate: %v", err)
	}
	other, err := Connect(t.Context(), Target{Kubeconfig: s.Kubeconfig("ml"), Namespace: "elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Preflight(t.Context(), objects, true, true); err == nil || !strings.Contains(err.Error(), "kubectl create namespace elsewhere") {
		t.Errorf("no namespace: %v", err)
	}
	if err := c.Preflight(t.Context(), rendered(t, manifest.Options{Issuer: "ca"}), false, true); err == nil || !strings.Contains(err.Error(), "no kind Certificate (cert-manager.io/v1)") {
		t.Errorf("no kind: %v", err)
	}
	if len(s.Calls()) > 0 {
		t.Errorf("preflight changed %v", s.Calls())
	}
	if _, err := Connect(t.Context(), Target{Kubeconfig: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, ErrTarget) {
		t.Errorf("no kubeconfig: %v", err)
	}
}

func TestWhatSomebodyElseMadeIsNotTakenOver(t *testing.T) {
	s, c := connect(t)
	s.Put("configmaps", launchtest.Object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "quickstart-job", "namespace": "ml"}}, "someone")
	_, err := c.Plan(t.Context(), name, rendered(t, manifest.Options{}), false)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "configmap/quickstart-job: refused: it exists") {
		t.Errorf("plan: %v", err)
	}
}

func TestSecretsAreMadeOnceAndGivenOnesStay(t *testing.T) {
	s, c := connect(t)
	wanted := manifest.Secrets(name, manifest.Options{Namespace: "ml"})
	makeAll := func() int {
		t.Helper()
		p, err := c.PlanSecrets(t.Context(), name, wanted)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.MakeSecrets(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return len(p.Make)
	}
	if first, second := makeAll(), makeAll(); first != len(wanted) || second != 0 {
		t.Errorf("%d of %d made, then %d", first, len(wanted), second)
	}
	dir := t.TempDir()
	if err := c.AdminCredentials(t.Context(), name, dir); err != nil {
		t.Fatal(err)
	}
	s.Put("secrets", launchtest.Object{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "other-ps-tls"}, "data": map[string]any{}}, "someone")
	_, err := c.PlanSecrets(t.Context(), "other", manifest.Secrets("other", manifest.Options{}))
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "[other-ps-tls] exist") {
		t.Errorf("some given: %v", err)
	}
}

// failure waits for a failure and returns its text.
func failure(t *testing.T, c *Cluster, timeout time.Duration) *Failure {
	t.Helper()
	var f *Failure
	if err := c.WaitReady(t.Context(), name, timeout, func(State) {}); !errors.As(err, &f) {
		t.Fatalf("wait: %v", err)
	}
	return f
}

func wantText(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
}

func TestWaitShowsHowPodsComeUp(t *testing.T) {
	s, c := connect(t)
	s.Break("quickstart-ps-1", launchtest.Breakage{Waiting: "ContainerCreating"})
	launched(t, c, rendered(t, manifest.Options{}), false)
	var states []State
	err := c.WaitReady(t.Context(), name, time.Minute, func(st State) {
		if states = append(states, st); len(states) == 1 {
			s.Mend("quickstart-ps-1")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	first := []Component{{"etcd", "", 3, 3, "ready"}, {"coordinator", "", 2, 2, "ready"}, {"ps", "", 3, 2, "starting"}, {"worker", "", 2, 2, "running"}}
	if d := cmp.Diff(first, states[0].Components); d != "" || states[0].Ready || !states[len(states)-1].Ready {
		t.Errorf("%s; ready %v", d, states[0].Ready)
	}
}

func TestWaitTellsWhyAPodCrashes(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	s.Put("events", event("quickstart-ps-0", "BackOff", "Back-off restarting failed container"), "kubelet")
	s.Put("events", event("another-ps-0", "BackOff", "not ours"), "kubelet")
	s.Log("previous quickstart-ps-0", strings.Repeat("an old line\n", 30)+"cannot open the log: disk is full\n")
	s.Break("quickstart-ps-0", launchtest.Breakage{Waiting: "CrashLoopBackOff", Restarts: 4, ExitCode: 1, Message: "disk is full"})
	f := failure(t, c, time.Minute)
	wantText(t, f.Text, "pod quickstart-ps-0: crashed 4 times, last with exit code 1", "event Warning BackOff: Back-off restarting",
		"last lines of its last log", "cannot open the log: disk is full")
	if strings.Contains(f.Text, "not ours") || strings.Count(f.Text, "an old line") != whyLines-1 {
		t.Errorf("too much:\n%s", f.Text)
	}
}

func TestWaitTellsThatAnImageCannotBePulled(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	s.Break("quickstart-coordinator", launchtest.Breakage{Waiting: "ImagePullBackOff", Message: "registry.example/fathom:v1: not found"})
	wantText(t, failure(t, c, time.Minute).Text, "pod quickstart-coordinator-0: ImagePullBackOff: registry.example/fathom:v1: not found")
}

func TestWaitEndsWithWhatIsMissing(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	s.Break("quickstart-etcd-2", launchtest.Breakage{Waiting: "CreateContainerConfigError", Message: `secret "quickstart-etcd-tls" not found`})
	f := failure(t, c, time.Second)
	wantText(t, f.Text, "not ready after 1s", `pod quickstart-etcd-2: CreateContainerConfigError: secret "quickstart-etcd-tls" not found`, "etcd: 2 of 3 pods are ready")
	if !f.Timeout {
		t.Error("is no timeout")
	}
}

func TestWaitForTheEnd(t *testing.T) {
	s, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	finish := func(reason string) error {
		return c.WaitDone(t.Context(), name, func(st State) {
			if !st.Done && st.Failed == "" {
				s.FinishJob("quickstart-worker", reason)
			}
		})
	}
	if err := finish(""); err != nil {
		t.Errorf("done: %v", err)
	}
	s, c = connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	s.Log("quickstart-worker-0", "train.csv:7: too few columns\n")
	s.Break("quickstart-worker-0", launchtest.Breakage{Failed: "yes", ExitCode: 64})
	err := finish("PodFailurePolicy")
	var f *Failure
	if !errors.As(err, &f) || !f.Input {
		t.Fatalf("failed: %v", err)
	}
	wantText(t, f.Text, "the workers have failed", "quickstart-worker-0", "train.csv:7: too few columns")
	if _, err := c.State(t.Context(), "unknown"); !errors.Is(err, ErrRefused) {
		t.Errorf("unknown job: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.WaitDone(ctx, name, func(State) { cancel() }); err == nil {
		t.Error("an interrupted wait says that all is well")
	}
}

func event(pod, reason, message string) launchtest.Object {
	return launchtest.Object{"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"name": pod + "." + reason, "namespace": "ml"},
		"type": "Warning", "reason": reason, "message": message, "count": 7, "lastTimestamp": "2026-01-02T03:04:05Z",
		"involvedObject": map[string]any{"kind": "Pod", "name": pod}}
}

func TestStorageThatCannotChangeSaysWhatToDo(t *testing.T) {
	_, c := connect(t)
	launched(t, c, rendered(t, manifest.Options{}), false)
	_, err := c.Plan(t.Context(), name, rendered(t, manifest.Options{ServerStorage: "30Gi"}), false)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "spec.volumeClaimTemplates") || !strings.Contains(err.Error(), "fathom delete") {
		t.Errorf("plan: %v", err)
	}
}
