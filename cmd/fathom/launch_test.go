package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/launch/launchtest"
	"github.com/fathom-train/fathom/deploy/manifest"
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
	a, _, _ := newTestApp(t, nil)
	load := func(sets ...string) *job.Job {
		t.Helper()
		j, err := a.loadJob(filepath.Join("..", "..", "deploy", "jobs", "quickstart.yaml"), sets)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	run := func(j *job.Job) (code int, out, errs string) {
		done := doneStatus()
		done.Job, done.Spec, done.SpecDigest = "quickstart", j.JSON(), j.Digest()
		k.control.jobs, k.control.watched = []*proto.JobStatus{done}, []*proto.JobStatus{done}
		return k.launch()
	}
	code, out, errs := run(load())
	want(t, code, exitDone, out+errs, "00112233445566778899aabbccddeeff")
	// A checkpoint of it was restored into other shards.
	code, out, errs = run(load("spec.cluster.shards=8"))
	want(t, code, exitDone, out+errs, "00112233445566778899aabbccddeeff")
	// Deleted without its volumes, launched as another job.
	code, _, errs = run(load("spec.train.epochs=1"))
	want(t, code, exitInput, errs, "spec.train.epochs: 1 before, 2 now\n", "fathom delete --purge quickstart")
}

func TestWhatALaunchedJobTrainsCannotChange(t *testing.T) {
	k := newKube(t)
	if code, _, errs := k.launch("--wait", "false"); code != exitDone {
		t.Fatal(errs)
	}
	before := len(k.server.Calls())
	for _, mode := range [][]string{{"--wait", "false"}, {"--diff"}, {"--dry-run", "server"}} {
		code, _, errs := k.launch(append(mode, "--set", "spec.train.epochs=9", "--set", "spec.model.hidden=[8]", "--set", "spec.cluster.workers=3")...)
		want(t, code, exitInput, errs, "fathom: job quickstart was launched as another job", "\nfathom: spec.train.epochs: 2 before, 9 now\n",
			"\nfathom: spec.model.hidden: [128,64] before, [8] now\n", "give the new one another name (--set metadata.name=NAME)")
		if strings.Contains(errs, "spec.cluster.workers:") {
			t.Errorf("%v: names what can change:\n%s", mode, errs)
		}
	}
	if now := k.server.Calls(); len(now) != before {
		t.Errorf("changed %v", now[before:])
	}
	code, out, errs := k.launch("--wait", "false", "--set", "spec.cluster.workers=3", "--set", "spec.cluster.ps=5")
	want(t, code, exitDone, out+errs, "job.batch/quickstart-worker configured\n", "statefulset.apps/quickstart-ps configured\n")
	if n := k.server.Get("statefulsets", "quickstart-ps")["spec"].(map[string]any)["replicas"]; n != 5.0 {
		t.Errorf("%v servers", n)
	}
	// Servers that hold shards do not go.
	k.control.nodes = []*proto.NodeStatus{{Node: "quickstart-ps-0", Role: "ps", Replicas: 4}, {Node: "quickstart-ps-3", Role: "ps"}, {Node: "quickstart-ps-4", Role: "ps", Replicas: 2}}
	code, _, errs = k.launch("--wait", "false", "--set", "spec.cluster.workers=3")
	want(t, code, exitInput, errs, "fathom: server quickstart-ps-4 still holds 2 shards: fathom node drain quickstart-ps-4")
	k.control.nodes[2].Replicas = 0
	code, out, errs = k.launch("--wait", "false", "--set", "spec.cluster.workers=3")
	want(t, code, exitDone, out+errs, "statefulset.apps/quickstart-ps configured\n")
	// Another name is another job.
	code, out, errs = k.launch("--wait", "false", "--set", "metadata.name=quickstart-2", "--set", "spec.train.epochs=9")
	want(t, code, exitDone, out+errs, "statefulset.apps/quickstart-2-ps created\n")
}

func TestSuspendMakesACheckpointIfThereIsAPlace(t *testing.T) {
	k := newKube(t)
	if code, _, errs := k.launch("--wait", "false"); code != exitDone {
		t.Fatal(errs)
	}
	a, _, _ := newTestApp(t, nil)
	statusIn := func(phase proto.Phase, sets ...string) *proto.JobStatus {
		j, err := a.loadJob(filepath.Join("..", "..", "deploy", "jobs", "quickstart.yaml"), sets)
		if err != nil {
			t.Fatal(err)
		}
		return &proto.JobStatus{Job: "quickstart", Phase: phase, Spec: j.JSON()}
	}
	suspended := func() bool {
		return k.server.Get("jobs", "quickstart-worker")["spec"].(map[string]any)["suspend"] == true
	}
	k.control.jobs = []*proto.JobStatus{statusIn(proto.Phase_PHASE_TRAINING, "spec.checkpoint.dir=s3://models/a?region=x")}
	k.control.checkpointErr = status.Error(codes.Unavailable, "the store does not answer")
	code, _, errs := k.run("suspend")
	want(t, code, exitFailed, errs, "--no-checkpoint does without", "the store does not answer")
	if suspended() {
		t.Error("suspended all the same")
	}
	code, out, errs := k.run("suspend", "--no-checkpoint")
	want(t, code, exitDone, errs, "")
	if out != "job quickstart is suspended; fathom resume goes on\n" || !suspended() {
		t.Errorf("without a checkpoint: %s", out)
	}
	k.control.checkpointErr = nil
	code, out, errs = k.run("suspend")
	want(t, code, exitDone, out+errs, "checkpoint /checkpoints/quickstart-00/7\njob quickstart is suspended")
	k.control.jobs = []*proto.JobStatus{statusIn(proto.Phase_PHASE_TRAINING)}
	code, out, errs = k.run("suspend")
	want(t, code, exitDone, out+errs, "what it trained stays on the servers' volumes\n", "job quickstart is suspended")
	k.control.jobs[0].Phase = proto.Phase_PHASE_DONE
	code, out, errs = k.run("suspend")
	want(t, code, exitDone, out+errs, "job quickstart is suspended")
	if strings.Contains(out+errs, "checkpoint") {
		t.Errorf("a checkpoint of what is done: %s%s", out, errs)
	}
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
	// What is wrong with the flags is told also when there is no cluster.
	code, _, errs = command(t, k.control, "launch", filepath.Join("..", "..", "deploy", "jobs", "quickstart.yaml"), "--kubeconfig", filepath.Join(t.TempDir(), "none"))
	want(t, code, exitInput, errs, "an image is needed")
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
	if _, err := serverMemory(j, 4, 3, 0, 64<<20, "--server-memory"); err == nil || !strings.Contains(err.Error(), "--server-memory gives it 64.0 MiB") {
		t.Errorf("too little: %v", err)
	}
	if got, err := serverMemory(j, 4, 3, 0, gib, "--server-memory"); got != gib || err != nil {
		t.Errorf("enough: %d, %v", got, err)
	}
}

// From servers in no pool to a pool, without a stop: a pool beside them, drain
// them, and only then they may go.
func TestServersMoveToAPool(t *testing.T) {
	k := newKube(t)
	if code, _, errs := k.launch("--wait", "ready"); code != exitDone {
		t.Fatal(errs)
	}
	pool := []string{"--wait", "ready", "--pool", "fast=3,memory=2,cpu=4000,storage-class=nvme,node=disk:nvme,tolerate=dedicated:fathom"}
	code, out, errs := k.launch(append(pool, "--set", "spec.cluster.ps=6")...)
	want(t, code, exitDone, out+errs, "statefulset.apps/quickstart-ps-fast created\n", "poddisruptionbudget.policy/quickstart-ps-fast created\n",
		"statefulset.apps/quickstart-ps unchanged\n", "poddisruptionbudget.policy/quickstart-ps configured\n", "ps 3/3, ps fast 3/3, worker")
	k.control.jobs = []*proto.JobStatus{{Job: "quickstart", Phase: proto.Phase_PHASE_TRAINING}}
	code, out, errs = k.run("status", "--on", "kubernetes")
	want(t, code, exitDone, out+errs, "ps fast        3/3  ready\n")
	k.control.jobs[0].Phase = proto.Phase_PHASE_DONE
	code, out, errs = k.run("restart", "ps")
	want(t, code, exitDone, out+errs, "pod/quickstart-ps-0 restarted\npod/quickstart-ps-fast-2 restarted\n", "pod/quickstart-ps-fast-0 restarted\n")
	k.server.Log("quickstart-ps-fast-1", "ready\n")
	code, out, errs = k.run("logs", "ps-fast/1", "--on", "kubernetes")
	want(t, code, exitDone, out+errs, "[quickstart-ps-fast-1] ready\n")

	node := func(name, pool string, replicas uint32) *proto.NodeStatus {
		return &proto.NodeStatus{Node: name, Role: "ps", Pool: pool, Replicas: replicas}
	}
	k.control.nodes = []*proto.NodeStatus{node("quickstart-ps-0", "", 4), node("quickstart-ps-2", "", 0), node("quickstart-ps-fast-0", "fast", 0)}
	code, _, errs = k.launch(pool...)
	want(t, code, exitInput, errs, "fathom: server quickstart-ps-0 still holds 4 shards: fathom node drain quickstart-ps-0")
	if strings.Contains(errs, "ps-fast") || strings.Contains(errs, "ps-2") {
		t.Errorf("names what may go, or stays:\n%s", errs)
	}
	k.control.nodes = []*proto.NodeStatus{node("quickstart-ps-0", "", 0), node("quickstart-ps-fast-0", "fast", 4)}
	code, out, errs = k.launch(pool...)
	want(t, code, exitDone, out+errs, "statefulset.apps/quickstart-ps pruned\n", "poddisruptionbudget.policy/quickstart-ps pruned\n", "statefulset.apps/quickstart-ps-fast unchanged\n")
	// And back: now the pool holds them.
	code, _, errs = k.launch("--wait", "false")
	want(t, code, exitInput, errs, "server quickstart-ps-fast-0 still holds 4 shards")
	code, out, errs = k.run("delete", "quickstart", "--yes", "--purge")
	want(t, code, exitDone, out+errs, "persistentvolumeclaim/data-quickstart-ps-0 deleted\n", "persistentvolumeclaim/data-quickstart-ps-fast-0 deleted\n")
}

func TestPoolsAreReadAndTheirMemoryIsPlanned(t *testing.T) {
	for text, want := range map[string]string{
		"fast":              `"" is no number of servers`,
		"fast=three":        `"three" is no number of servers`,
		"fast=3,memory=0":   `memory "0" is no number of GiB`,
		"fast=3,cpu=x":      `cpu "x" is no number`,
		"fast=3,disk=ssd":   `it has nothing called "disk"`,
		"fast=3,node=ssd":   `node "ssd" is no label and value`,
		"fast=3,storage=":   `"storage" has no value`,
		"fast=3,tolerate":   `"tolerate" has no value`,
		"fast=3,node=:ssd":  `node ":ssd" is no label`,
		"fast=3,memory=1e9": `memory "1e9" is no number`,
	} {
		if _, err := parsePool(text); err == nil || !strings.Contains(err.Error(), "--pool "+text+": "+want) || !strings.HasSuffix(err.Error(), poolUsage) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	a, _, _ := newTestApp(t, nil)
	j, err := a.loadJob(filepath.Join("..", "..", "deploy", "jobs", "quickstart.yaml"), []string{"spec.cluster.ps=6", "spec.data.synthetic.vocabulary=16000000",
		"spec.data.synthetic.train_rows=16000000"})
	if err != nil {
		t.Fatal(err)
	}
	plan := func(pools ...string) (manifest.Options, error) {
		f := manifestFlags{pools: pools, server: 0}
		err := f.planPools(j)
		return f.o, err
	}
	alone, err := serverMemory(j, 4, 3, 0, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	half, err := serverMemory(j, 2, 3, 0, 0, "")
	if err != nil || half >= alone {
		t.Fatalf("half %d, all %d: %v", half, alone, err)
	}
	// Not given: each can take all over from the other.
	o, err := plan("a=3")
	if err != nil || o.ServerMemory != alone || o.Pools[0].Memory != alone {
		t.Errorf("planned %d and %d, want %d: %v", o.ServerMemory, o.Pools[0].Memory, alone, err)
	}
	// Given: its share must fit.
	if o, err = plan(fmt.Sprintf("a=3,memory=%d", half/gib)); err != nil || o.Pools[0].Memory != half/gib*gib {
		t.Errorf("half: %d, %v", o.Pools[0].Memory, err)
	}
	if _, err = plan("a=3,memory=1"); err == nil || !strings.Contains(err.Error(), "--pool a gives it 1.0 GiB: give more") {
		t.Errorf("too little: %v", err)
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
	for _, verb := range []string{"resume", "events"} {
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

// Coordinators that do not lead refer to the one that does by a name that only
// the cluster knows, so it is the one to forward to.
func TestPortForwardLeadsToTheCoordinatorThatLeads(t *testing.T) {
	k := newKube(t)
	if code, _, errs := k.launch("--wait", "false"); code != exitDone {
		t.Fatal(errs)
	}
	code, _, errs := k.run("port-forward", "--listen", "localhost:0")
	want(t, code, exitFailed, errs, "no coordinator says that it leads")
	code, _, errs = k.run("port-forward", "ps/0", "--listen", "7070")
	want(t, code, exitInput, errs, "--listen: address 7070: missing port")

	k.control.nodes = []*proto.NodeStatus{{Node: "quickstart-ps-0", Role: "ps"}, {Node: "quickstart-coordinator-1", Role: "coordinator"}}
	peer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	k.server.Listen("quickstart-coordinator-1:7070", peer.Addr().String())
	dir := t.TempDir()
	a, out, forwardErrs := newTestApp(t, k.control)
	ended := make(chan int)
	go func() {
		ended <- a.execute([]string{"port-forward", "--listen", "localhost:0", "--credentials", dir, "--kubeconfig", k.config})
	}()
	var address string
	for tick := time.NewTicker(5 * time.Millisecond); address == ""; {
		select {
		case code := <-ended:
			t.Fatalf("ended with %d: %s", code, forwardErrs)
		case <-tick.C:
			if here, _, told := strings.Cut(out.String(), " leads to port 7070 of pod quickstart-coordinator-1 until"); told {
				address = here
			}
		}
	}
	near, err := net.Dial("tcp", address)
	if err != nil || !strings.HasPrefix(address, "localhost:") {
		t.Fatalf("%q: %v", address, err)
	}
	defer near.Close()
	far, err := peer.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := far.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 5)
	if _, err := io.ReadFull(near, text); err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tls.crt")); err != nil {
		t.Error(err)
	}
	a.interrupts.raise()
	if code := <-ended; code != exitInterrupted {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
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
