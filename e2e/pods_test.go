package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// podUser is the user of the rendered pods.
const podUser = 65532

// podCluster runs the pods of a rendered job as processes of this machine: each
// has an address of the loopback to itself in the place of its name, and the
// ports, arguments, environment, files and user of its pod.
type podCluster struct {
	t         *testing.T
	dir       string
	job       []byte
	addresses map[string]string // by pod
	templates map[string]corev1.PodTemplateSpec
	pods      map[string]*fathomRun
	admin     *identity.Source
}

// hostName finds the names under which pods are dialled.
var hostName = regexp.MustCompile(`([a-z0-9-]+)\.[a-z0-9-]+\.default\.svc`)

// newPodCluster renders the job, and prepares names, files and certificates.
func newPodCluster(t *testing.T, job string) *podCluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "fathom-pods-") // one whose parents another user may pass
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &podCluster{t: t, dir: dir, addresses: map[string]string{}, templates: map[string]corev1.PodTemplateSpec{}, pods: map[string]*fathomRun{}}
	if err := os.Chmod(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, _ := cli(t, 0, "manifest", job, "--image", "registry.example/fathom:v1")
	for _, document := range strings.Split(text, "---\n") {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatal(err)
		}
		switch head.Kind {
		case "StatefulSet":
			var set appsv1.StatefulSet
			c.decode(document, &set)
			for i := range int(*set.Spec.Replicas) {
				c.add(fmt.Sprintf("%s-%d", set.Name, i), set.Spec.Template)
			}
		case "Job":
			var set batchv1.Job
			c.decode(document, &set)
			for i := range int(*set.Spec.Completions) {
				c.add(fmt.Sprintf("%s-%d", set.Name, i), set.Spec.Template)
			}
		case "ConfigMap":
			var m corev1.ConfigMap
			c.decode(document, &m)
			c.job = []byte(m.Data["job.json"])
		}
	}
	if len(c.templates) < 8 || len(c.job) == 0 {
		t.Fatalf("%d pods and a job of %d bytes", len(c.templates), len(c.job))
	}
	c.issue()
	return c
}

func (c *podCluster) decode(document string, into any) {
	c.t.Helper()
	if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
		c.t.Fatal(err)
	}
}

func (c *podCluster) add(pod string, template corev1.PodTemplateSpec) {
	c.addresses[pod] = fmt.Sprintf("127.0.9.%d", len(c.addresses)+1)
	c.templates[pod] = template
}

// issue makes the secrets that the manifest names, for the addresses.
func (c *podCluster) issue() {
	c.t.Helper()
	ca := filepath.Join(c.dir, "ca")
	cli(c.t, 0, "certs", "create", "--ca", ca, "--cluster", "small")
	issued := map[string]bool{}
	for pod := range c.templates {
		set := pod[:strings.LastIndex(pod, "-")]
		if issued[set] {
			continue
		}
		issued[set] = true
		args := []string{"certs", "issue", strings.TrimPrefix(set, "small-"), set, "--ca", ca, "--out", filepath.Join(c.dir, set+"-tls")}
		for p, address := range c.addresses {
			if strings.HasPrefix(p, set) {
				args = append(args, "--host", address)
			}
		}
		cli(c.t, 0, args...)
		c.own(filepath.Join(c.dir, set+"-tls"))
	}
	cli(c.t, 0, "certs", "issue", "admin", "admin", "--ca", ca, "--out", filepath.Join(c.dir, "admin"))
	admin, err := identity.Load(filepath.Join(c.dir, "admin"), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.admin = admin
}

// own gives files to the user of the pods, as a volume's fsGroup does.
func (c *podCluster) own(dir string) {
	c.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, podUser, podUser)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// start starts a pod's process.
func (c *podCluster) start(pod string) {
	c.t.Helper()
	path, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	container := c.templates[pod].Spec.Containers[0]
	data, jobDir := filepath.Join(c.dir, pod), filepath.Join(c.dir, "job")
	for _, d := range []string{data, jobDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(jobDir, "job.json"), c.job, 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.own(data)
	c.own(jobDir)
	address := c.addresses[pod]
	number := pod[strings.LastIndex(pod, "-")+1:]
	secret := ""
	for _, v := range c.templates[pod].Spec.Volumes {
		if v.Secret != nil {
			secret = v.Secret.SecretName
		}
	}
	expand := strings.NewReplacer("$(POD_NAME)", pod, "$(JOB_COMPLETION_INDEX)", number,
		"/etc/fathom/credentials", filepath.Join(c.dir, secret), "/etc/fathom/job", jobDir, "/var/lib/fathom", data)
	var args []string
	for i, a := range container.Args {
		if a == "--workers-job" || i > 0 && container.Args[i-1] == "--workers-job" {
			continue // there is no API to keep the workers by
		}
		a = expand.Replace(a)
		a = hostName.ReplaceAllStringFunc(a, func(h string) string { return c.addresses[h[:strings.Index(h, ".")]] })
		if strings.HasPrefix(a, ":") {
			a = address + a
		}
		args = append(args, strings.ReplaceAll(a, "0.0.0.0", address))
	}
	r := &fathomRun{t: c.t, workdir: data, done: make(chan struct{})}
	r.cmd = exec.Command(path, args...)
	r.cmd.Dir = data
	r.cmd.Env = []string{"TMPDIR=" + data}
	for _, e := range container.Env {
		if e.Value != "" {
			r.cmd.Env = append(r.cmd.Env, e.Name+"="+e.Value)
		}
	}
	if os.Getuid() == 0 {
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: podUser, Gid: podUser}}
	}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		_ = r.cmd.Wait() // the exit code is read from ProcessState
	}()
	c.t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it may have ended
		<-r.done
		if c.t.Failed() {
			c.t.Logf("%s:\n%s", pod, tail(r.stderr.String(), 1500))
		}
	})
	c.pods[pod] = r
}

// await asks the pod's probe until it says ok.
func (c *podCluster) await(pod string, limit time.Duration) {
	c.t.Helper()
	container := c.templates[pod].Spec.Containers[0]
	probe := container.ReadinessProbe
	if probe == nil {
		probe = container.StartupProbe
	}
	port := 0
	for _, p := range container.Ports {
		if p.Name == probe.HTTPGet.Port.String() {
			port = int(p.ContainerPort)
		}
	}
	client, scheme := c.admin.HTTP()
	url := fmt.Sprintf("%s://%s:%d%s", scheme, c.addresses[pod], port, probe.HTTPGet.Path)
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := "no answer"
	for {
		reply, err := client.Get(url)
		if err == nil {
			var b bytes.Buffer
			_, _ = b.ReadFrom(reply.Body)
			reply.Body.Close()
			if reply.StatusCode == http.StatusOK {
				return
			}
			last = b.String()
		}
		select {
		case <-tick.C:
		case <-c.pods[pod].done:
			c.t.Fatalf("%s ended: %s", pod, tail(c.pods[pod].stderr.String(), 1500))
		case <-deadline:
			c.t.Fatalf("%s is not ready after %v: %s", pod, limit, last)
		}
	}
}

// names are the pods whose name has the part, in order.
func (c *podCluster) names(part string) []string {
	var names []string
	for pod := range c.templates {
		if strings.Contains(pod, part) {
			names = append(names, pod)
		}
	}
	slices.Sort(names)
	return names
}

// step is the last step the job has reached.
func (c *podCluster) step(ctx context.Context) (phase string, step uint64) {
	c.t.Helper()
	out, _ := cli(c.t, 0, append([]string{"status", "small", "-o", "json"}, c.at()...)...)
	var s struct {
		Phase string `json:"phase"`
		Step  uint64 `json:"step"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return s.Phase, s.Step
}

// at says where the coordinators are.
func (c *podCluster) at() []string {
	var all []string
	for _, pod := range c.names("-coordinator-") {
		all = append(all, c.addresses[pod]+":7070")
	}
	return []string{"--coordinator", strings.Join(all, ","), "--credentials", filepath.Join(c.dir, "admin")}
}

// stalls measures the longest time between two steps of the job, from now on
// until the function it returns is called.
func (c *podCluster) stalls() (worst func() time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	coordinators := c.names("-coordinator-")
	seen := make(chan time.Duration, len(coordinators))
	for _, pod := range coordinators {
		go func() { seen <- c.stallsSeenBy(ctx, pod) }()
	}
	return func() (worst time.Duration) {
		cancel()
		for range coordinators {
			worst = max(worst, <-seen)
		}
		return worst
	}
}

// stallsSeenBy is stalls for what one coordinator tells, which is nothing when
// another one leads.
func (c *podCluster) stallsSeenBy(ctx context.Context, pod string) (worst time.Duration) {
	conn, err := grpc.NewClient(c.addresses[pod]+":7070", grpc.WithTransportCredentials(c.admin.Dialer(identity.Coordinator)))
	if err != nil {
		c.t.Error(err)
		return 0
	}
	defer conn.Close()
	stream, err := proto.NewControlClient(conn).Watch(ctx, &proto.StatusRequest{Job: "small"})
	var step uint64
	var at time.Time
	for err == nil {
		var s *proto.JobStatus
		if s, err = stream.Recv(); err != nil || s.GetStep() == step {
			continue
		}
		now := time.Now()
		if !at.IsZero() {
			worst = max(worst, now.Sub(at))
		}
		step, at = s.GetStep(), now
	}
	return worst
}

// The processes of the rendered pods, non-root and with certificates, train the
// model of `fathom run`; a rolling restart of the servers while they do so, as a
// StatefulSet makes one, changes nothing. The workers end with the job.
func TestRenderedPodsTrainTheSameModel(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	// Long enough for a restart of every server.
	longer := []string{"--set", "spec.train.epochs=24"}
	want := start(t, nil, append([]string{"run", job}, longer...)...).result(limit)
	text, err := os.ReadFile(job)
	if err != nil {
		t.Fatal(err)
	}
	job = writeFile(t, "small.yaml", strings.Replace(string(text), "epochs: 2", "epochs: 24", 1))

	c := newPodCluster(t, job)
	for _, pod := range slices.Concat(c.names("-etcd-"), c.names("-coordinator-"), c.names("-ps-"), c.names("-worker-")) {
		c.start(pod)
	}
	for _, pod := range slices.Concat(c.names("-etcd-"), c.names("-coordinator-"), c.names("-ps-"), c.names("-worker-")) {
		c.await(pod, limit)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if phase, step := c.step(ctx); phase == "training" && step > 10 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("training has not begun")
		}
	}
	worst := c.stalls()
	servers := c.names("-ps-")
	slices.Reverse(servers) // the highest number first, as a StatefulSet does
	for _, pod := range servers {
		grace := time.Duration(*c.templates[pod].Spec.TerminationGracePeriodSeconds) * time.Second
		if err := c.pods[pod].cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := c.pods[pod].wait(grace); code != 0 {
			t.Errorf("%s ended with %d after SIGTERM", pod, code)
		}
		c.start(pod)
		c.await(pod, limit)
	}
	stalled := worst()
	if stalled == 0 {
		t.Error("nobody told of a step")
	}
	t.Logf("the longest time between two steps while all servers were restarted: %v", stalled.Round(time.Millisecond))
	if phase, step := c.step(ctx); phase == "done" {
		t.Logf("the job was over before the last server was restarted (step %d): the machine is faster than the test assumes", step)
	}
	for _, pod := range c.names("-worker-") {
		if code := c.pods[pod].wait(limit); code != 0 {
			t.Errorf("%s ended with %d", pod, code)
		}
	}
	out, _ := cli(t, 0, append([]string{"watch", "small", "-o", "json"}, c.at()...)...)
	var got result
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want that of fathom run, %s", got.ModelHash, want.ModelHash)
	}
}
