package e2e

import (
	"bytes"
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

	"github.com/fathom-train/fathom/proto/identity"
)

// podUser is the user of the rendered pods.
const podUser = 65532

// podCluster runs the pods of a rendered job as processes of this machine: each
// has an address of the loopback to itself, and the ports, arguments, environment,
// files and user of its pod. Where the machine allows it, each has a read-only
// root of its own with the files at their places and the pods under their names.
type podCluster struct {
	t         *testing.T
	dir       string
	job       []byte
	network   string            // the beginning of the addresses
	addresses map[string]string // by pod
	service   map[string]string // by pod
	templates map[string]corev1.PodTemplateSpec
	pods      map[string]*fathomRun
	admin     *identity.Source
}

// hostName finds the names under which pods are dialled.
var hostName = regexp.MustCompile(`([a-z0-9-]+)\.[a-z0-9-]+\.default\.svc`)

// newPodCluster renders the job, and prepares names, files and certificates.
func newPodCluster(t *testing.T, job string, flags ...string) *podCluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "fathom-pods-") // one whose parents another user may pass
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	host, _ := loopback()
	c := &podCluster{t: t, dir: dir, network: host[:strings.LastIndex(host, ".")], addresses: map[string]string{}, service: map[string]string{}, templates: map[string]corev1.PodTemplateSpec{}, pods: map[string]*fathomRun{}}
	if err := os.Chmod(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	flags = append([]string{"manifest", job, "--image", "registry.example/fathom:v1"}, flags...)
	text, _ := cli(t, 0, flags...)
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
				c.add(fmt.Sprintf("%s-%d", set.Name, i), set.Spec.ServiceName, set.Spec.Template)
			}
		case "Job":
			var set batchv1.Job
			c.decode(document, &set)
			for i := range int(*set.Spec.Completions) {
				c.add(fmt.Sprintf("%s-%d", set.Name, i), set.Spec.Template.Spec.Subdomain, set.Spec.Template)
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
	script, _ := cli(t, 0, append(flags, "--secrets")...)
	c.issue(script)
	var hosts strings.Builder
	for pod, address := range c.addresses {
		fmt.Fprintf(&hosts, "%s %s.%s.default.svc\n", address, pod, c.service[pod])
	}
	if err := os.WriteFile(filepath.Join(c.dir, "hosts"), []byte(hosts.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := podRoots(); err != nil {
		t.Logf("the pods have no roots of their own: %v", err)
	}
	return c
}

func (c *podCluster) decode(document string, into any) {
	c.t.Helper()
	if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
		c.t.Fatal(err)
	}
}

func (c *podCluster) add(pod, service string, template corev1.PodTemplateSpec) {
	c.addresses[pod] = fmt.Sprintf("%s.%d", c.network, len(c.addresses)+1)
	c.service[pod], c.templates[pod] = service, template
}

// issue makes the secrets by the manifest's own script, for the addresses, too,
// at which the test calls.
func (c *podCluster) issue(script string) {
	c.t.Helper()
	ca := filepath.Join(c.dir, "ca")
	for line := range strings.Lines(script) {
		args := strings.Fields(strings.ReplaceAll(line, "'", ""))
		if args[0] != "fathom" {
			continue // kubectl, which puts into the cluster what was made
		}
		for i, a := range args {
			switch {
			case a == "--ca":
				args[i+1] = ca
			case a == "--out":
				args[i+1] = filepath.Join(c.dir, args[i+1])
			}
		}
		for pod, service := range c.service {
			if slices.Contains(args, service) {
				args = append(args, "--host", c.addresses[pod])
			}
		}
		cli(c.t, 0, args[1:]...)
	}
	made, err := filepath.Glob(filepath.Join(c.dir, "*-tls"))
	if err != nil || len(made) != 5 {
		c.t.Fatalf("secrets %v, %v", made, err)
	}
	for _, dir := range made {
		c.own(dir)
	}
	if c.admin, err = identity.Load(c.credentials(), nil); err != nil {
		c.t.Fatal(err)
	}
}

// credentials are those of the admin.
func (c *podCluster) credentials() string { return filepath.Join(c.dir, "small-admin-tls") }

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
	r := &fathomRun{t: c.t, done: make(chan struct{}), cmd: c.command(pod)}
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

// command is what runs in a pod: in a root of its own, or with other paths and
// addresses for names.
func (c *podCluster) command(pod string) *exec.Cmd {
	c.t.Helper()
	program, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	spec := c.templates[pod].Spec
	container := spec.Containers[0]
	args, env := c.arguments(pod), []string{"POD_NAME=" + pod}
	for _, e := range container.Env {
		if e.Value != "" {
			env = append(env, e.Name+"="+e.Value)
		}
	}
	sources := c.volumes(pod)
	if podRoots() != nil {
		for _, m := range container.VolumeMounts {
			for i, a := range args {
				args[i] = strings.ReplaceAll(a, m.MountPath, sources[m.Name])
			}
		}
		for i, a := range args {
			args[i] = hostName.ReplaceAllStringFunc(a, func(h string) string { return c.addresses[h[:strings.Index(h, ".")]] })
		}
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env = sources["tmp"], append(env, "TMPDIR="+sources["tmp"])
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: podUser, Gid: podUser}}
		}
		return cmd
	}
	view := podView{Dir: c.mkdir(pod, "root"), User: int(*spec.SecurityContext.RunAsUser), Args: append([]string{"/fathom"}, args...), Env: env,
		Mounts: []podMount{{From: program, To: "/fathom"}, {From: filepath.Join(c.dir, "hosts"), To: "/etc/hosts"}}}
	for _, libraries := range []string{"/lib", "/lib64", "/usr/lib"} { // the program of the image is static, that of the test may not be
		if _, err := os.Stat(libraries); err == nil {
			view.Mounts = append(view.Mounts, podMount{From: libraries, To: libraries})
		}
	}
	for _, m := range container.VolumeMounts {
		view.Mounts = append(view.Mounts, podMount{From: sources[m.Name], To: m.MountPath, Writable: !m.ReadOnly})
	}
	cmd, err := view.command()
	if err != nil {
		c.t.Fatal(err)
	}
	return cmd
}

// arguments are those of a pod's container, listening at its address.
func (c *podCluster) arguments(pod string) (args []string) {
	expand := strings.NewReplacer("$(POD_NAME)", pod, "$(JOB_COMPLETION_INDEX)", pod[strings.LastIndex(pod, "-")+1:], "0.0.0.0", c.addresses[pod])
	given := c.templates[pod].Spec.Containers[0].Args
	for i, a := range given {
		if a == "--workers-job" || i > 0 && given[i-1] == "--workers-job" {
			continue // there is no API to keep the workers by
		}
		a = expand.Replace(a)
		if strings.HasPrefix(a, ":") {
			a = c.addresses[pod] + a
		}
		args = append(args, a)
	}
	return args
}

// volumes are the directories of a pod's volumes, by their names.
func (c *podCluster) volumes(pod string) map[string]string {
	c.t.Helper()
	at := map[string]string{"data": c.mkdir(pod, "data")} // claimed by a set's template
	for _, v := range c.templates[pod].Spec.Volumes {
		switch {
		case v.Secret != nil:
			at[v.Name] = filepath.Join(c.dir, v.Secret.SecretName)
		case v.ConfigMap != nil:
			at[v.Name] = c.mkdir(pod, v.Name)
			if err := os.WriteFile(filepath.Join(at[v.Name], "job.json"), c.job, 0o644); err != nil {
				c.t.Fatal(err)
			}
		case v.EmptyDir != nil:
			at[v.Name] = c.mkdir(pod, v.Name)
		default:
			c.t.Fatalf("%s has a volume %s of a kind that the test does not know", pod, v.Name)
		}
	}
	return at
}

// mkdir makes a directory of a pod's.
func (c *podCluster) mkdir(pod, name string) string {
	c.t.Helper()
	dir := filepath.Join(c.dir, pod, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	c.own(dir)
	return dir
}

// confined fails when the kernel lets a pod's process do more than its pod may.
func (c *podCluster) confined(pod string) {
	c.t.Helper()
	if podRoots() != nil {
		return
	}
	of := func(file string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.pods[pod].cmd.Process.Pid, file))
		if err != nil {
			c.t.Fatal(err)
		}
		return string(text)
	}
	status := of("status")
	for _, want := range []string{fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d", podUser), fmt.Sprintf("Gid:\t%d\t%[1]d\t%[1]d", podUser), "CapEff:\t0000000000000000"} {
		if !strings.Contains(status, want) {
			c.t.Errorf("%s has no %q:\n%s", pod, want, status)
		}
	}
	var writable, want []string
	for line := range strings.Lines(of("mountinfo")) {
		if f := strings.Fields(line); strings.HasPrefix(f[5], "rw") && !strings.Contains(line, " - tmpfs pod ro") {
			writable = append(writable, f[4])
		}
	}
	for _, m := range c.templates[pod].Spec.Containers[0].VolumeMounts {
		if !m.ReadOnly {
			want = append(want, m.MountPath)
		}
	}
	slices.Sort(want)
	if slices.Sort(writable); !slices.Equal(writable, want) {
		c.t.Errorf("%s can write to %v, want %v", pod, writable, want)
	}
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
