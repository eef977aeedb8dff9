package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// scaleManager is in whose name the number of workers is set by hand; a later
// launch sees by it that the number is not its own any more.
const scaleManager = "fathom-scale"

// workersMax bounds what Scale asks for, against slips of the finger.
const workersMax = 10_000

// Jobs lists the jobs that were launched into the namespace.
func (c *Cluster) Jobs(ctx context.Context) ([]string, error) {
	list, err := c.at(statefulSets).List(ctx, metav1.ListOptions{LabelSelector: nameLabel + "=" + owner + "," + componentLabel + "=coordinator"})
	if err != nil {
		return nil, c.explain("list statefulsets", err)
	}
	var all []string
	for _, o := range list.Items {
		all = append(all, o.GetLabels()[instanceLabel])
	}
	slices.Sort(all)
	return all, nil
}

// Find settles which job of the namespace is meant: the one of that name, or the
// only one.
func (c *Cluster) Find(ctx context.Context, job string) (string, error) {
	all, err := c.Jobs(ctx)
	switch {
	case err != nil:
		return "", err
	case slices.Contains(all, job):
		return job, nil
	case len(all) == 0:
		return "", fmt.Errorf("%w: namespace %s has no launched job", ErrRefused, c.namespace)
	case job == "" && len(all) == 1:
		return all[0], nil
	case job == "":
		return "", fmt.Errorf("%w: namespace %s has several launched jobs, name one: %s", ErrRefused, c.namespace, strings.Join(all, ", "))
	}
	return "", fmt.Errorf("%w: namespace %s has no launched job %s; there are: %s", ErrRefused, c.namespace, job, strings.Join(all, ", "))
}

// Scale sets the number of workers.
func (c *Cluster) Scale(ctx context.Context, job string, workers int) error {
	if workers < 1 || workers > workersMax {
		return fmt.Errorf("%w: %d workers, want 1 to %d (to have none, suspend the job)", ErrRefused, workers, workersMax)
	}
	if err := c.workersEnded(ctx, job); err != nil {
		return err
	}
	return c.patchWorkers(ctx, job, "scale", map[string]any{"parallelism": workers, "completions": workers})
}

// Suspend takes the workers away; what was trained stays with the servers.
func (c *Cluster) Suspend(ctx context.Context, job string) error { return c.suspend(ctx, job, true) }

// Resume brings them back.
func (c *Cluster) Resume(ctx context.Context, job string) error { return c.suspend(ctx, job, false) }

// Suspendable is an error when the workers have ended.
func (c *Cluster) Suspendable(ctx context.Context, job string) error { return c.workersEnded(ctx, job) }

func (c *Cluster) suspend(ctx context.Context, job string, suspend bool) error {
	if err := c.workersEnded(ctx, job); err != nil {
		return err
	}
	return c.patchWorkers(ctx, job, "suspend", map[string]any{"suspend": suspend})
}

// workersEnded is an error when the Job of the workers is over.
func (c *Cluster) workersEnded(ctx context.Context, job string) error {
	s, err := c.State(ctx, job)
	if err == nil && (s.Done || s.Failed != "") {
		return fmt.Errorf("%w: the workers of job %s have ended", ErrRefused, job)
	}
	return err
}

func (c *Cluster) patchWorkers(ctx context.Context, job, what string, spec map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return err
	}
	_, err = c.at(jobs).Patch(ctx, job+"-worker", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: scaleManager})
	return c.explain(what+" the workers of job "+job, err)
}

// Restart has the pods of a component made anew, one at a time, pool by pool and
// from the last to the first. Before each, all its pods must be ready and sound must not object;
// it waits for both, for at most timeout each time.
func (c *Cluster) Restart(ctx context.Context, job, component string, timeout time.Duration, sound func(context.Context) error, report func(pod string)) error {
	sets, err := list[set](ctx, c, statefulSets, job)
	if err != nil {
		return err
	}
	sets = slices.DeleteFunc(sets, func(s set) bool { return s.Metadata.Labels[componentLabel] != component })
	if len(sets) == 0 {
		return fmt.Errorf("%w: job %s has no pods of %s that can be restarted one by one", ErrRefused, job, component)
	}
	slices.SortFunc(sets, func(a, b set) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	var names []string
	for _, s := range sets {
		for n := s.want() - 1; n >= 0; n-- {
			names = append(names, fmt.Sprintf("%s-%d", s.Metadata.Name, n))
		}
	}
	want := len(names)
	for _, name := range names {
		all, err := c.waitSound(ctx, job, component, want, timeout, "", sound)
		if err != nil {
			return fmt.Errorf("before the restart of pod %s: %w", name, err)
		}
		at := slices.IndexFunc(all, func(p pod) bool { return p.Metadata.Name == name })
		if at < 0 {
			return fmt.Errorf("there is no pod %s", name)
		}
		if err := c.evict(ctx, name, timeout); err != nil {
			return err
		}
		if _, err := c.waitSound(ctx, job, component, want, timeout, all[at].Metadata.UID, sound); err != nil {
			return fmt.Errorf("after the restart of pod %s: %w", name, err)
		}
		report(name)
	}
	return nil
}

// waitSound waits until as many pods as wanted are ready, none of them the old
// one, and sound does not object.
func (c *Cluster) waitSound(ctx context.Context, job, component string, want int, timeout time.Duration, old string, sound func(context.Context) error) (ready []pod, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	why := errors.New("not looked yet")
	err = every(limited, c.look, func() (bool, error) {
		all, err := list[pod](limited, c, pods, job)
		if err != nil {
			if !errors.Is(err, ErrUnreachable) && limited.Err() == nil {
				why = err
			}
			return false, nil
		}
		ready = slices.DeleteFunc(all, func(p pod) bool {
			return p.component() != component || !p.ready() || p.Metadata.UID == old
		})
		if len(ready) != want {
			why = fmt.Errorf("%d of %d pods of %s are ready", len(ready), want, component)
			return false, nil
		}
		why = sound(limited)
		return why == nil, nil
	})
	if errors.Is(err, errTimeout) {
		return nil, &Failure{Timeout: true, Text: fmt.Sprintf("waited %s: %v", timeout, why)}
	}
	return ready, err
}

// evict takes a pod away unless a budget forbids it, for which it waits.
func (c *Cluster) evict(ctx context.Context, name string, timeout time.Duration) error {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	eviction := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata": map[string]any{"name": name, "namespace": c.namespace}}}
	err := every(limited, c.look, func() (bool, error) {
		_, err := c.at(pods).Create(limited, eviction, metav1.CreateOptions{}, "eviction")
		if err = c.explain("evict pod "+name, err); apierrors.IsTooManyRequests(err) || errors.Is(err, ErrUnreachable) || limited.Err() != nil {
			return false, nil
		}
		return err == nil, err
	})
	if errors.Is(err, errTimeout) {
		return &Failure{Timeout: true, Text: fmt.Sprintf("the disruption budget did not let pod %s go within %s", name, timeout)}
	}
	return err
}

// Deletion is what Delete would take away.
type Deletion struct {
	// Objects and Volumes are named as kubectl does.
	Objects, Volumes []string
	all              []Change
}

// PlanDelete lists what there is of a job: what was made for it and, with purge,
// the volumes with the servers' state.
func (c *Cluster) PlanDelete(ctx context.Context, job string, purge bool) (*Deletion, error) {
	all, err := c.owned(ctx, job)
	if err != nil {
		return nil, err
	}
	d := &Deletion{all: all}
	add := func(r schema.GroupVersionResource, kind, selector string) (names []string, err error) {
		list, err := c.at(r).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, c.explain("list "+r.Resource, err)
		}
		for _, o := range list.Items {
			ch := Change{Object: display("v1", kind, o.GetName()), resource: r, apply: &o}
			d.all, names = append(d.all, ch), append(names, ch.Object)
		}
		return names, nil
	}
	if _, err := add(secrets, "Secret", oursOf(job)); err != nil {
		return nil, err
	}
	for _, ch := range d.all {
		d.Objects = append(d.Objects, ch.Object)
	}
	if purge {
		// Volume claims are made by the StatefulSets, and carry their pods' labels.
		if d.Volumes, err = add(claims, "PersistentVolumeClaim", ofJob(job)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Delete takes away what was listed.
func (c *Cluster) Delete(ctx context.Context, d *Deletion, report func(object string)) error {
	for _, ch := range d.all {
		if err := c.remove(ctx, ch.resource, ch.apply.GetName(), ch.apply.GetUID()); err != nil {
			return c.explain("delete "+ch.Object, err)
		}
		report(ch.Object)
	}
	return nil
}
