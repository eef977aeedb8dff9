package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const (
	// manager is who the changes are of, in the objects' managed fields.
	manager = "fathom-coordinator"
	// runAnnotation of the Job names the run it was sized for.
	runAnnotation = "fathom.dev/run"
	// podsPage bounds one answer of a list.
	podsPage = 500
	// namespaceFile tells a pod its namespace.
	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

var (
	jobs   = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	pods   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	events = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

// Kubernetes is the API of a cluster, for one Job.
type Kubernetes struct {
	client               dynamic.Interface
	namespace, job, self string
}

// InCluster returns the API that a pod is given access to by its service account.
// self is the pod's name, job that of the workers' Job in its namespace.
func InCluster(self, job string) (*Kubernetes, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("the workers' Job %s can be kept from inside of its cluster only: %w", job, err)
	}
	namespace, err := os.ReadFile(namespaceFile)
	if err != nil {
		return nil, fmt.Errorf("find out the namespace of the workers' Job %s: %w", job, err)
	}
	return Connect(config, strings.TrimSpace(string(namespace)), self, job)
}

// Connect is InCluster for the API that a configuration names.
func Connect(config *rest.Config, namespace, self, job string) (*Kubernetes, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = manager
	config.QPS, config.Burst = 50, 100 // a page of pods is a request
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster's API: %w", err)
	}
	return &Kubernetes{client: client, namespace: namespace, job: job, self: self}, nil
}

// Look implements API.
func (k *Kubernetes) Look(ctx context.Context) (*Set, error) {
	j, err := k.client.Resource(jobs).Namespace(k.namespace).Get(ctx, k.job, metav1.GetOptions{})
	if err != nil {
		return nil, k.failed("read the workers' Job", err)
	}
	set := &Set{Run: j.GetAnnotations()[runAnnotation], version: j.GetResourceVersion(), uid: string(j.GetUID())}
	parallelism, _, err := unstructured.NestedInt64(j.Object, "spec", "parallelism")
	if err != nil {
		return nil, k.failed("read the workers' Job", err)
	}
	set.Parallelism = int(parallelism)
	if set.Suspended, _, err = unstructured.NestedBool(j.Object, "spec", "suspend"); err != nil {
		return nil, k.failed("read the workers' Job", err)
	}
	set.Finished = finished(j)
	if set.Finished != "" {
		return set, nil
	}
	options := metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=" + k.job, Limit: podsPage}
	for {
		page, err := k.client.Resource(pods).Namespace(k.namespace).List(ctx, options)
		if err != nil {
			return nil, k.failed("list the workers' pods", err)
		}
		for i := range page.Items {
			set.Pods = append(set.Pods, k.pod(&page.Items[i]))
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return set, nil
		}
	}
}

// finished returns the reason of a Job that is complete or has failed.
func finished(j *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(j.Object, "status", "conditions") // none: not finished
	for _, c := range conditions {
		fields, _ := c.(map[string]any)
		kind, _ := fields["type"].(string)
		if fields["status"] == "True" && (kind == "Complete" || kind == "Failed") {
			why := []string{kind}
			for _, f := range []string{"reason", "message"} {
				if text, _ := fields[f].(string); text != "" {
					why = append(why, text)
				}
			}
			return strings.Join(why, ": ")
		}
	}
	return ""
}

// pod reads what matters; what is missing or of another kind makes it a pod that
// does not run, which is left alone.
func (k *Kubernetes) pod(u *unstructured.Unstructured) Pod {
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	started, _, _ := unstructured.NestedString(u.Object, "status", "startTime")
	p := Pod{
		Name:    u.GetName(),
		Node:    k.job + "-" + u.GetAnnotations()["batch.kubernetes.io/job-completion-index"],
		Leaving: u.GetDeletionTimestamp() != nil,
	}
	var err error
	p.Started, err = time.Parse(time.RFC3339, started)
	p.Running = err == nil && phase == "Running"
	return p
}

// Resize implements API. The two numbers may differ only while there are no pods:
// with no index left, the Job would be complete for ever.
func (k *Kubernetes) Resize(ctx context.Context, of *Set, n int, run string) error {
	spec := map[string]any{"parallelism": n}
	if n > 0 {
		spec["completions"] = n
	}
	patch, err := json.Marshal(map[string]any{
		// The version lets the patch fail if somebody else was faster.
		"metadata": map[string]any{"resourceVersion": of.version, "annotations": map[string]any{runAnnotation: run}},
		"spec":     spec,
	})
	if err != nil {
		return err
	}
	_, err = k.client.Resource(jobs).Namespace(k.namespace).Patch(ctx, k.job, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: manager})
	return k.failed("resize the workers' Job", err)
}

// Evict implements API. An eviction, unlike a deletion, does not count as a
// failure of the worker.
func (k *Kubernetes) Evict(ctx context.Context, pod string) error {
	eviction := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata": map[string]any{"name": pod, "namespace": k.namespace},
	}}
	_, err := k.client.Resource(pods).Namespace(k.namespace).Create(ctx, eviction, metav1.CreateOptions{FieldManager: manager}, "eviction")
	if apierrors.IsNotFound(err) {
		return nil // it is gone
	}
	return k.failed("evict "+pod, err)
}

// Tell implements API.
func (k *Kubernetes) Tell(ctx context.Context, of *Set, reason, message string) error {
	at := time.Now().UTC().Format(time.RFC3339)
	event := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       map[string]any{"generateName": k.job + ".", "namespace": k.namespace},
		"involvedObject": map[string]any{"apiVersion": "batch/v1", "kind": "Job", "name": k.job, "namespace": k.namespace, "uid": of.uid},
		"reason":         reason, "message": message, "type": "Normal",
		"source":         map[string]any{"component": manager, "host": k.self},
		"firstTimestamp": at, "lastTimestamp": at, "count": int64(1),
	}}
	_, err := k.client.Resource(events).Namespace(k.namespace).Create(ctx, event, metav1.CreateOptions{FieldManager: manager})
	return k.failed("note an event", err)
}

// failed says what was tried, and what to do about a right that is missing.
func (k *Kubernetes) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	hint := ""
	if apierrors.IsForbidden(err) {
		hint = "; the Role that allows it is among the objects of fathom manifest"
	}
	return fmt.Errorf("%s %s/%s: %w%s", what, k.namespace, k.job, err, hint)
}
