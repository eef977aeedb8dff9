package launch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fathom-train/fathom/deploy/manifest"
)

// State is how a job's pods are.
type State struct {
	Components []Component
	// Ready: all pods are as wanted, and the workers run or have ended.
	Ready bool
	// Done: the workers have ended, because the job has.
	Done bool
	// Suspended: the workers were taken away; nothing trains.
	Suspended bool
	// Failed is why the workers ended without the job being done; empty: they did
	// not. Input tells whether the job or its data is at fault.
	Failed string
	Input  bool

	pods []pod
}

// Component is one kind of pods of a job.
type Component struct {
	Name  string `json:"component"`
	Pool  string `json:"pool,omitempty"` // of servers
	Want  int    `json:"pods"`
	Ready int    `json:"ready"`
	// Text says what is amiss, or how it is.
	Text string `json:"state"`
}

// Label names the component and its pool.
func (c Component) Label() string {
	if c.Pool == "" {
		return c.Name
	}
	return c.Name + " " + c.Pool
}

// pod is what is read of a pod.
type pod struct {
	Metadata struct {
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp *string           `json:"deletionTimestamp"`
	} `json:"metadata"`
	Status struct {
		Phase      string      `json:"phase"`
		Reason     string      `json:"reason"`
		Message    string      `json:"message"`
		Conditions []condition `json:"conditions"`
		Containers []container `json:"containerStatuses"`
	} `json:"status"`
}

type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

type container struct {
	RestartCount int64          `json:"restartCount"`
	State        containerState `json:"state"`
	LastState    containerState `json:"lastState"`
}

type containerState struct {
	Waiting *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"waiting"`
	Terminated *struct {
		ExitCode int64  `json:"exitCode"`
		Reason   string `json:"reason"`
		Message  string `json:"message"`
	} `json:"terminated"`
}

func (p *pod) component() string { return p.Metadata.Labels[componentLabel] }
func (p *pod) pool() string      { return p.Metadata.Labels[manifest.PoolLabel] }

func (p *pod) condition(name string) condition {
	for _, c := range p.Status.Conditions {
		if c.Type == name {
			return c
		}
	}
	return condition{}
}

func (p *pod) ready() bool {
	return p.Metadata.DeletionTimestamp == nil && p.condition("Ready").Status == "True"
}

// crashes is how often a container must have died before it counts as one that
// will not come up: the first time it may have been early.
const crashes = 3

// trouble says why a pod is not ready, in a few words, and whether waiting
// longer is no use. A pod that is only starting is in no trouble.
func (p *pod) trouble() (reason string, hopeless bool) {
	if p.Status.Phase == "Failed" {
		return strings.Trim("failed: "+p.Status.Reason+" "+p.Status.Message, ": "), false // its owner makes another
	}
	for _, c := range p.Status.Containers {
		if t := c.LastState.Terminated; t != nil && c.RestartCount > 0 {
			reason = fmt.Sprintf("crashed %d times, last with exit code %d (%s)", c.RestartCount, t.ExitCode, t.Reason)
		}
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			reason = fmt.Sprintf("exit code %d (%s)", t.ExitCode, t.Reason)
		}
		w := c.State.Waiting
		if w == nil {
			continue
		}
		switch w.Reason {
		case "ContainerCreating", "PodInitializing", "":
		case "CrashLoopBackOff":
			return reason, c.RestartCount >= crashes
		case "ImagePullBackOff", "InvalidImageName":
			return w.Reason + ": " + w.Message, true
		default:
			return strings.TrimSuffix(w.Reason+": "+w.Message, ": "), false
		}
	}
	if s := p.condition("PodScheduled"); s.Status == "False" {
		return s.Reason + ": " + s.Message, false
	}
	return reason, false
}

// set is what is read of a StatefulSet and of the workers' Job.
type set struct {
	Metadata struct {
		Name       string            `json:"name"`
		Labels     map[string]string `json:"labels"`
		Generation int64             `json:"generation"`
	} `json:"metadata"`
	Spec struct {
		Replicas    *int64 `json:"replicas"`
		Parallelism *int64 `json:"parallelism"`
		Suspend     bool   `json:"suspend"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64       `json:"observedGeneration"`
		ReadyReplicas      int64       `json:"readyReplicas"`
		UpdatedReplicas    int64       `json:"updatedReplicas"`
		Ready              int64       `json:"ready"`
		Succeeded          int64       `json:"succeeded"`
		Conditions         []condition `json:"conditions"`
	} `json:"status"`
}

// State looks at the job's pods. A job of which there is nothing is an error.
func (c *Cluster) State(ctx context.Context, job string) (State, error) {
	var s State
	// The sets first: pods that are then found missing are not yet made.
	sets, err := list[set](ctx, c, statefulSets, job)
	if err != nil {
		return s, err
	}
	workers, err := list[set](ctx, c, jobs, job)
	if err != nil {
		return s, err
	}
	if s.pods, err = list[pod](ctx, c, pods, job); err != nil {
		return s, err
	}
	if len(sets) == 0 && len(workers) == 0 {
		return s, fmt.Errorf("%w: namespace %s has nothing of a job %s", ErrRefused, c.namespace, job)
	}
	slices.SortFunc(s.pods, func(a, b pod) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	slices.SortFunc(sets, func(a, b set) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	s.Ready = true
	for _, set := range sets {
		s.addServers(set)
	}
	// Etcd comes before what needs it.
	slices.SortStableFunc(s.Components, func(a, b Component) int { return rank(a.Name) - rank(b.Name) })
	for _, w := range workers {
		s.addWorkers(w)
	}
	return s, nil
}

// Launched returns the job as it was launched, in JSON, and how many servers it
// has now by pool; nil when there is no such job.
func (c *Cluster) Launched(ctx context.Context, job string) (spec []byte, servers map[string]int, err error) {
	at := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	o, err := c.at(at).Get(ctx, manifest.JobConfig(job), metav1.GetOptions{})
	if gone(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, c.explain("look at the launched job", err)
	}
	text, _, err := unstructured.NestedString(o.Object, "data", manifest.JobFile)
	if err != nil {
		return nil, nil, fmt.Errorf("configmap/%s: %w", o.GetName(), err)
	}
	sets, err := list[set](ctx, c, statefulSets, job)
	if err != nil {
		return nil, nil, err
	}
	servers = map[string]int{}
	for _, s := range sets {
		if s.Metadata.Labels[componentLabel] == "ps" {
			servers[s.Metadata.Labels[manifest.PoolLabel]] = s.want()
		}
	}
	return []byte(text), servers, nil
}

// want is how many pods a StatefulSet is to have.
func (s set) want() int {
	if s.Spec.Replicas == nil {
		return 1
	}
	return int(*s.Spec.Replicas)
}

func rank(component string) int {
	return slices.Index([]string{"etcd", "coordinator", "ps", "worker"}, component)
}

func (s *State) addServers(set set) {
	want := int64(set.want())
	c := Component{Name: set.Metadata.Labels[componentLabel], Pool: set.Metadata.Labels[manifest.PoolLabel], Want: set.want(), Ready: int(set.Status.ReadyReplicas)}
	settled := set.Status.ObservedGeneration >= set.Metadata.Generation
	switch {
	case settled && set.Status.ReadyReplicas == want && set.Status.UpdatedReplicas == want:
		c.Text = "ready"
	case settled && set.Status.ReadyReplicas == want:
		c.Text = fmt.Sprintf("%d of %d are of the new version", set.Status.UpdatedReplicas, want)
	default:
		c.Text = s.amiss(c)
	}
	s.Ready = s.Ready && c.Text == "ready"
	s.Components = append(s.Components, c)
}

func (s *State) addWorkers(job set) {
	want := int64(1)
	if job.Spec.Parallelism != nil {
		want = *job.Spec.Parallelism
	}
	c := Component{Name: job.Metadata.Labels[componentLabel], Want: int(want), Ready: int(job.Status.Ready)}
	running := job.Status.Ready + job.Status.Succeeded
	switch {
	case hasCondition(job, "Complete") || hasCondition(job, "SuccessCriteriaMet"):
		s.Done, c.Text = true, "done"
	case hasCondition(job, "Failed") || hasCondition(job, "FailureTarget"):
		f := conditionOf(job, "Failed")
		if f.Type == "" {
			f = conditionOf(job, "FailureTarget")
		}
		s.Failed, s.Input = f.Message, f.Reason == "PodFailurePolicy"
		c.Text = "failed: " + f.Reason
	case job.Spec.Suspend:
		s.Suspended, c.Text = true, "suspended"
	case running >= want:
		c.Text = "running"
	default:
		c.Text = s.amiss(c)
	}
	s.Ready = s.Ready && (s.Done || s.Suspended || running >= want)
	s.Components = append(s.Components, c)
}

func hasCondition(s set, name string) bool { return conditionOf(s, name).Type != "" }

// conditionOf returns a condition that holds.
func conditionOf(s set, name string) condition {
	for _, c := range s.Status.Conditions {
		if c.Type == name && c.Status == "True" {
			return c
		}
	}
	return condition{}
}

// amiss says what the pods of a component wait for.
func (s *State) amiss(c Component) string {
	for _, p := range s.pods {
		if p.component() != c.Name || p.pool() != c.Pool || p.ready() {
			continue
		}
		if reason, _ := p.trouble(); reason != "" {
			return p.Metadata.Name + ": " + reason
		}
	}
	return "starting"
}

// list reads the job's objects of a resource, as structs of what is needed.
func list[T any](ctx context.Context, c *Cluster, r schema.GroupVersionResource, job string) ([]T, error) {
	found, err := c.at(r).List(ctx, metav1.ListOptions{LabelSelector: ofJob(job)})
	if err != nil {
		return nil, c.explain("list "+r.Resource, err)
	}
	all := make([]T, len(found.Items))
	for i, o := range found.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &all[i]); err != nil {
			return nil, fmt.Errorf("read %s/%s: %w", r.Resource, o.GetName(), err)
		}
	}
	return all, nil
}
