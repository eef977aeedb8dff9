package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

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
	return []string{"--coordinator", strings.Join(all, ","), "--credentials", c.credentials()}
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
// model of `fathom run`; a rolling restart of the servers while they do so, as
// StatefulSets make one, changes nothing. The workers end with the job.
func TestRenderedPodsTrainTheSameModel(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", strings.Replace(smallJob, "epochs: 2", "epochs: 20", 1)) // longer than the restarts take
	want := start(t, nil, "run", job).result(limit)
	t.Run("one set of servers", func(t *testing.T) {
		trainInPods(t, newPodCluster(t, job), want.ModelHash)
	})
	t.Run("two pools", func(t *testing.T) {
		job := writeFile(t, "small.yaml", strings.Replace(smallJob, "epochs: 2", "epochs: 20", 1)+"  cluster: {ps: 6}\n")
		trainInPods(t, newPodCluster(t, job, "--pool", "fast=3"), want.ModelHash)
	})
}

func trainInPods(t *testing.T, c *podCluster, hash string) {
	for _, pod := range slices.Concat(c.names("-etcd-"), c.names("-coordinator-"), c.names("-ps-"), c.names("-worker-")) {
		c.start(pod)
	}
	for _, pod := range slices.Concat(c.names("-etcd-"), c.names("-coordinator-"), c.names("-ps-"), c.names("-worker-")) {
		c.await(pod, limit)
		c.confined(pod)
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
	for _, n := range c.servers() {
		if n.Replicas == 0 || n.Pool != c.pool(n.Node) {
			t.Errorf("%s of pool %q has %d replicas", n.Node, n.Pool, n.Replicas)
		}
	}
	worst := c.stalls()
	// The highest number first, and sets at the same time, as StatefulSets do it.
	for number := 2; number >= 0; number-- {
		c.restart(slices.DeleteFunc(c.names("-ps-"), func(pod string) bool { return !strings.HasSuffix(pod, fmt.Sprint("-", number)) }))
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
	if got.ModelHash != hash {
		t.Errorf("model hash %s, want that of fathom run, %s", got.ModelHash, hash)
	}
}

// restart stops pods as a kubelet does, and starts them again.
func (c *podCluster) restart(pods []string) {
	c.t.Helper()
	for _, pod := range pods {
		if err := c.pods[pod].cmd.Process.Signal(syscall.SIGTERM); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, pod := range pods {
		grace := time.Duration(*c.templates[pod].Spec.TerminationGracePeriodSeconds) * time.Second
		if code := c.pods[pod].wait(grace); code != 0 {
			c.t.Errorf("%s ended with %d after SIGTERM", pod, code)
		}
		c.start(pod)
	}
	for _, pod := range pods {
		c.await(pod, limit)
	}
}

// podServer is what `fathom nodes` tells of a server.
type podServer struct {
	Node, Role, Pool string
	Replicas         int
}

func (c *podCluster) servers() []podServer {
	c.t.Helper()
	out, _ := cli(c.t, 0, append([]string{"nodes", "-o", "json"}, c.at()...)...)
	var all []podServer
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	all = slices.DeleteFunc(all, func(n podServer) bool { return n.Role != "ps" })
	if len(all) != len(c.names("-ps-")) {
		c.t.Fatalf("servers %v", all)
	}
	return all
}

// pool is the one that a pod's labels tell.
func (c *podCluster) pool(pod string) string { return c.templates[pod].Labels["fathom.dev/pool"] }
