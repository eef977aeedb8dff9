package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/deploy/launch/launchtest"
	"github.com/fathom-train/fathom/proto"
)

// kube runs command lines against a Kubernetes API server of the test, and a
// coordinator in its cluster.
type kube struct {
	t       *testing.T
	server  *launchtest.Server
	config  string
	control *fakeControl
}

func newKube(t *testing.T) *kube {
	s := launchtest.New(t, "ml")
	return &kube{t, s, s.Kubeconfig("ml"), &fakeControl{}}
}

func (k *kube) run(args ...string) (code int, out, errs string) {
	k.t.Helper()
	return command(k.t, k.control, append(args, "--kubeconfig", k.config)...)
}

func (k *kube) launch(args ...string) (code int, out, errs string) {
	k.t.Helper()
	job := filepath.Join("..", "..", "deploy", "jobs", "quickstart.yaml")
	return k.run(append([]string{"launch", job, "--image", "registry.example/fathom:v1"}, args...)...)
}

// want checks a code and texts that must be in what was printed.
func want(t *testing.T, code, wantCode int, text string, wants ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("exit code %d, want %d", code, wantCode)
	}
	for _, w := range wants {
		if !strings.Contains(text, w) {
			t.Errorf("lacks %q:\n%s", w, text)
		}
	}
}

func TestLaunchTwiceChangesNothing(t *testing.T) {
	k := newKube(t)
	code, out, errs := k.launch("--wait", "ready")
	want(t, code, exitDone, out+errs, "secret/quickstart-ps-tls made\n", "statefulset.apps/quickstart-ps created\n", "etcd 3/3, coordinator 2/2, ps 3/3, worker 2/2 running\n")
	code, out, _ = k.launch("--wait", "false")
	want(t, code, exitDone, out, "statefulset.apps/quickstart-ps unchanged\n")
	if strings.Count(out, "\n") != strings.Count(out, " unchanged\n") {
		t.Errorf("changed:\n%s", out)
	}
	code, out, _ = k.launch("--diff")
	want(t, code, exitDone, out)
	if out != "" {
		t.Errorf("diff of nothing:\n%s", out)
	}
}

func TestLaunchShowsBeforeItChanges(t *testing.T) {
	k := newKube(t)
	code, out, _ := k.launch("--dry-run", "client", "-o", "yaml")
	want(t, code, exitDone, out, "kind: StatefulSet\n")
	code, out, _ = k.launch("--dry-run", "server")
	want(t, code, exitDone, out, "secret/quickstart-ps-tls made (server dry run)", "statefulset.apps/quickstart-ps created (server dry run)\n")
	code, out, _ = k.launch("--dry-run", "server", "-o", "yaml")
	want(t, code, exitDone, out, "type: ClusterIP\n") // what the server fills in
	code, out, errs := k.launch("--diff")
	want(t, code, 1, out+errs, "# statefulset.apps/quickstart-ps created\n", "+kind: StatefulSet\n")
	if calls := k.server.Calls(); len(calls) > 0 {
		t.Errorf("changed %v", calls)
	}
	k.server.AddKind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
	code, out, _ = k.launch("--dry-run", "server")
	want(t, code, exitDone, out, "podmonitor.monitoring.coreos.com/quickstart created")
}

func TestLaunchFollowsTheJobToItsEnd(t *testing.T) {
	k := newKube(t)
	done := doneStatus()
	done.Job = "quickstart"
	k.control.jobs, k.control.watched = []*proto.JobStatus{done}, []*proto.JobStatus{done}
	code, out, errs := k.launch()
	want(t, code, exitDone, out+errs, "as it was launched first", "00112233445566778899aabbccddeeff")
}

func TestLaunchSaysWhatIsWrong(t *testing.T) {
	k := newKube(t)
	k.server.Deny("create statefulsets")
	code, _, errs := k.launch()
	want(t, code, exitInput, errs, "fathom: refused: in namespace ml you lack the permission to: create statefulsets.apps\n")
	k = newKube(t)
	k.server.Log("quickstart-ps-0", "cannot open the log\n")
	k.server.Break("quickstart-ps-0", launchtest.Breakage{Waiting: "CrashLoopBackOff", Restarts: 3, ExitCode: 2})
	k.server.Log("previous quickstart-ps-0", "cannot open the log\n")
	code, _, errs = k.launch()
	want(t, code, exitFailed, errs, "pod quickstart-ps-0: crashed 3 times", "cannot open the log")
	code, _, errs = k.launch("-o", "yaml")
	want(t, code, exitInput, errs, "-o yaml goes with --dry-run")
	code, _, errs = k.launch("--on", "mars")
	want(t, code, exitInput, errs, "--on mars: want kubernetes or local")
	code, _, errs = k.run("status")
	want(t, code, exitInput, errs, "go with --on kubernetes")
}

func TestMemoryThatIsGivenMustFitThePlan(t *testing.T) {
	a, _, _ := newTestApp(t, nil)
	j, err := a.loadJob(filepath.Join("..", "..", "deploy", "jobs", "quickstart.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serverMemory(j, 0, 64<<20); err == nil || !strings.Contains(err.Error(), "--server-memory gives it 64.0 MiB") {
		t.Errorf("too little: %v", err)
	}
	if got, err := serverMemory(j, 0, gib); got != gib || err != nil {
		t.Errorf("enough: %d, %v", got, err)
	}
}

func TestCommandsReachALaunchedJob(t *testing.T) {
	k := newKube(t)
	if code, _, errs := k.launch("--wait", "false"); code != exitDone {
		t.Fatal(errs)
	}
	k.control.jobs = []*proto.JobStatus{{Job: "quickstart", Phase: proto.Phase_PHASE_TRAINING, Epoch: 1, Epochs: 2}}
	code, out, errs := k.run("status", "--on", "kubernetes")
	want(t, code, exitDone, out+errs, "component", "ps             3/3  ready\n", "quickstart")
	code, out, errs = k.run("status", "--on", "kubernetes", "-o", "json")
	want(t, code, exitDone, out+errs, `"components": [`, `"job": "quickstart"`)
	code, out, errs = k.run("checkpoint", "create", "quickstart", "--on", "kubernetes")
	want(t, code, exitDone, out+errs, "step 7")
	k.server.Log("quickstart-ps-1", "ready\n")
	code, out, errs = k.run("logs", "ps/1", "--on", "kubernetes")
	want(t, code, exitDone, out+errs, "[quickstart-ps-1] ready\n")
	code, out, errs = k.run("scale", "workers=5")
	want(t, code, exitDone, out+errs, "job quickstart has 5 workers")
	code, _, errs = k.run("scale", "ps=5")
	want(t, code, exitInput, errs, "ps=5: want workers=N")
	for _, verb := range []string{"suspend", "resume", "events"} {
		code, _, errs = k.run(verb)
		want(t, code, exitDone, errs)
	}
	k.control.jobs[0].Phase = proto.Phase_PHASE_DONE
	code, out, errs = k.run("restart", "ps")
	want(t, code, exitDone, out+errs, "pod/quickstart-ps-2 restarted\npod/quickstart-ps-1 restarted\npod/quickstart-ps-0 restarted\n")
	code, _, errs = k.run("delete", "quickstart")
	want(t, code, exitInput, errs, "Type the job's name to go on", "nothing was deleted")
	code, out, errs = k.run("delete", "quickstart", "--yes", "--purge")
	want(t, code, exitDone, out+errs, "statefulset.apps/quickstart-ps deleted\n", "persistentvolumeclaim/data-quickstart-ps-0 deleted\n")
	if left := slices.Concat(k.server.Names("statefulsets"), k.server.Names("secrets"), k.server.Names("persistentvolumeclaims")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	code, _, errs = k.run("status", "--on", "kubernetes")
	want(t, code, exitInput, errs, "namespace ml has no launched job")
}

func TestCalledAsAPluginItMeansKubernetes(t *testing.T) {
	if !isPlugin("/usr/local/bin/kubectl-fathom") || isPlugin("fathom") {
		t.Error("the name decides")
	}
	a, _, errs := newTestApp(t, &fakeControl{})
	a.plugin = true
	code := a.execute([]string{"status", "--kubeconfig", filepath.Join(t.TempDir(), "none")})
	want(t, code, exitInput, errs.String(), "no cluster to talk to")
}
