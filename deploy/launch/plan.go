package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/fathom-train/fathom/deploy/manifest"
)

// manager is in whose name fields are applied.
const manager = "fathom"

// Action is what becomes of an object.
type Action string

// The actions.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	// Replaced: what changes cannot be changed in place, so the object is deleted
	// and made again. Only workers' Jobs are, which hold nothing.
	Replaced Action = "replaced"
	// Pruned: the job no longer has it.
	Pruned Action = "pruned"
)

// Change is what applying does to one object.
type Change struct {
	Object string // such as statefulset.apps/quickstart-ps
	Action Action
	// Note says what is special about it; empty: nothing.
	Note string
	// After is the object as the cluster would have it; nil when pruned.
	After map[string]any

	before   map[string]any
	resource schema.GroupVersionResource
	apply    *unstructured.Unstructured
}

// Plan is what a launch would do, as the cluster itself said.
type Plan struct {
	Changes []Change
	force   bool
}

// Plan asks the cluster what applying the objects would do, without doing it,
// and finds what is there of the job but not among the objects. All that is
// wrong with any object is in the error. force takes over fields that belong to
// others.
func (c *Cluster) Plan(ctx context.Context, job string, objects []manifest.Object, force bool) (*Plan, error) {
	p := &Plan{force: force}
	var faults []error
	for _, o := range objects {
		change, err := c.planOne(ctx, job, o, force)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, ErrUnreachable) {
				return nil, err
			}
			faults = append(faults, err)
			continue
		}
		p.Changes = append(p.Changes, change)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	pruned, err := c.planPrune(ctx, job, p.Changes)
	if err != nil {
		return nil, err
	}
	p.Changes = append(p.Changes, pruned...)
	return p, nil
}

// Changed tells whether applying changes anything.
func (p *Plan) Changed() bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Action != Unchanged })
}

func (c *Cluster) planOne(ctx context.Context, job string, o manifest.Object, force bool) (Change, error) {
	wanted, err := plain(o)
	if err != nil {
		return Change{}, err
	}
	ch := Change{Object: display(wanted.GetAPIVersion(), wanted.GetKind(), wanted.GetName()), apply: wanted}
	r, found, err := c.resource(ctx, wanted.GetAPIVersion(), wanted.GetKind())
	if err != nil {
		return ch, err
	}
	if !found {
		return ch, fmt.Errorf("%s: %w: the cluster has no such kind", ch.Object, ErrRefused)
	}
	ch.resource = r
	live, err := c.at(r).Get(ctx, wanted.GetName(), metav1.GetOptions{})
	if err != nil && !gone(err) {
		return ch, c.explain("look at "+ch.Object, err)
	}
	if exists := err == nil; exists {
		labels := live.GetLabels()
		if !force && (labels[ownerLabel] != owner || labels[instanceLabel] != job) {
			return ch, fmt.Errorf("%s: %w: it exists and was not made for job %s; give the job another name, or take the object over with --force-conflicts", ch.Object, ErrRefused, job)
		}
		ch.before = settled(live)
		if !force {
			ch.Note = keepScaled(live, wanted)
		}
	}
	after, err := c.applyOne(ctx, &ch, force, true)
	switch {
	case err == nil:
		ch.After = settled(after)
	case ch.before != nil && r == jobs && immutable(err):
		ch.Action, ch.Note = Replaced, "its pods cannot be changed in place"
		// What the cluster would fill in is not known, so only what is ours shows.
		ch.before = project(ch.before, wanted.Object).(map[string]any)
		ch.After = wanted.Object
		return ch, nil
	case ch.before == nil && wanted.GetKind() == "RoleBinding" && gone(err):
		// The Role it names is made before it, but not in a dry run.
		ch.After = wanted.Object
	default:
		return ch, c.refusal(ch.Object, err)
	}
	switch {
	case ch.before == nil:
		ch.Action = Created
	case reflect.DeepEqual(ch.before, ch.After):
		ch.Action = Unchanged
	default:
		ch.Action = Configured
	}
	return ch, nil
}

func (c *Cluster) applyOne(ctx context.Context, ch *Change, force, dry bool) (*unstructured.Unstructured, error) {
	o := metav1.ApplyOptions{FieldManager: manager, Force: force}
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return c.at(ch.resource).Apply(ctx, ch.apply.GetName(), ch.apply, o)
}

// refusal says why an object cannot be applied: for a conflict field by field.
func (c *Cluster) refusal(object string, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) && apierrors.IsConflict(err) {
		details := status.Status().Details
		var faults []error
		if details != nil {
			for _, cause := range details.Causes {
				if cause.Type == metav1.CauseTypeFieldManagerConflict {
					faults = append(faults, fmt.Errorf("%s: %w: %s: %s", object, ErrRefused, cause.Field, cause.Message))
				}
			}
		}
		if len(faults) > 0 {
			return errors.Join(append(faults, errors.New("--force-conflicts takes over what belongs to others"))...)
		}
	}
	if immutable(err) || apierrors.IsInvalid(err) && strings.Contains(err.Error(), "updates to statefulset spec") {
		err = fmt.Errorf("%w\nsuch a change needs fathom delete (the volumes stay) and another launch", err)
	}
	return c.explain(object, err)
}

// immutable tells whether an object was refused only because of fields that
// cannot change any more.
func immutable(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) || status.Status().Details == nil {
		return false
	}
	causes := status.Status().Details.Causes
	return len(causes) > 0 && !slices.ContainsFunc(causes, func(c metav1.StatusCause) bool {
		return !strings.Contains(c.Message, "immutable")
	})
}

// scaled are the fields of a workers' Job that Scale and the coordinator change.
var scaled = []string{"parallelism", "completions"}

// keepScaled leaves out of the wanted Job the number of workers if somebody
// else has set it since, and says so.
func keepScaled(live, wanted *unstructured.Unstructured) (note string) {
	if live.GetKind() != "Job" {
		return ""
	}
	for _, field := range scaled {
		if who := otherOwner(live, field); who != "" {
			n, _, _ := unstructured.NestedInt64(live.Object, "spec", field) // decoded by the client, so a number
			unstructured.RemoveNestedField(wanted.Object, "spec", field)
			note = fmt.Sprintf("keeps %d workers, as set by %s", n, who)
		}
	}
	return note
}

// otherOwner names who else than launch owns a field of the spec.
func otherOwner(o *unstructured.Unstructured, field string) string {
	for _, m := range o.GetManagedFields() {
		if m.Manager == manager && m.Operation == metav1.ManagedFieldsOperationApply || m.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) == nil && fields.Spec["f:"+field] != nil {
			return m.Manager
		}
	}
	return ""
}

// prunable are the kinds that a job may have objects of; nothing else is ever
// pruned or deleted with the job.
var prunable = []struct{ version, kind string }{
	{"monitoring.coreos.com/v1", "PodMonitor"}, {"batch/v1", "Job"}, {"apps/v1", "StatefulSet"},
	{"networking.k8s.io/v1", "NetworkPolicy"}, {"policy/v1", "PodDisruptionBudget"}, {"v1", "Service"},
	{"cert-manager.io/v1", "Certificate"}, {"v1", "ConfigMap"},
	{"rbac.authorization.k8s.io/v1", "RoleBinding"}, {"rbac.authorization.k8s.io/v1", "Role"}, {"v1", "ServiceAccount"},
}

// planPrune finds the job's objects that were not rendered.
func (c *Cluster) planPrune(ctx context.Context, job string, keep []Change) ([]Change, error) {
	kept := map[string]bool{}
	for _, k := range keep {
		kept[k.Object] = true
	}
	all, err := c.owned(ctx, job)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(ch Change) bool { return kept[ch.Object] }), nil
}

// owned lists what was made for the job, in the order in which to delete it.
func (c *Cluster) owned(ctx context.Context, job string) ([]Change, error) {
	var all []Change
	for _, k := range prunable {
		r, found, err := c.resource(ctx, k.version, k.kind)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		list, err := c.at(r).List(ctx, metav1.ListOptions{LabelSelector: oursOf(job)})
		if apierrors.IsForbidden(err) {
			continue // then none of it was made in this user's name
		}
		if err != nil {
			return nil, c.explain("list "+r.Resource, err)
		}
		for _, o := range list.Items {
			if len(o.GetOwnerReferences()) > 0 || o.GetDeletionTimestamp() != nil {
				continue // it goes with its owner, or is going
			}
			all = append(all, Change{Object: display(k.version, k.kind, o.GetName()), Action: Pruned, before: settled(&o), resource: r, apply: &o})
		}
	}
	return all, nil
}

// Diff returns the plan as one text in the unified form.
func (p *Plan) Diff() (string, error) {
	var b strings.Builder
	for _, ch := range p.Changes {
		if ch.Action == Unchanged {
			continue
		}
		before, err := asYAML(ch.before)
		if err != nil {
			return "", err
		}
		after, err := asYAML(ch.After)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "# %s %s", ch.Object, ch.Action)
		if ch.Note != "" {
			fmt.Fprintf(&b, ": %s", ch.Note)
		}
		b.WriteString("\n" + udiff.Unified("live/"+ch.Object, "job/"+ch.Object, before, after))
	}
	return b.String(), nil
}

func asYAML(o map[string]any) (string, error) {
	if o == nil {
		return "", nil
	}
	text, err := yaml.Marshal(o)
	return string(text), err
}

// plain turns a rendered object into what the client takes: maps, lists and
// 64-bit numbers.
func plain(o manifest.Object) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.Name(), err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.Name(), err)
	}
	return u, nil
}

// settled is an object without what changes by itself.
func settled(o *unstructured.Unstructured) map[string]any {
	o = o.DeepCopy()
	unstructured.RemoveNestedField(o.Object, "status")
	for _, f := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"} {
		unstructured.RemoveNestedField(o.Object, "metadata", f)
	}
	return o.Object
}

// project keeps of a value what the form has, too.
func project(value, form any) any {
	switch f := form.(type) {
	case map[string]any:
		v, ok := value.(map[string]any)
		if !ok {
			return value
		}
		kept := map[string]any{}
		for k, inner := range f {
			if have, ok := v[k]; ok {
				kept[k] = project(have, inner)
			}
		}
		return kept
	case []any:
		v, ok := value.([]any)
		if !ok || len(v) != len(f) {
			return value
		}
		kept := make([]any, len(v))
		for i := range v {
			kept[i] = project(v[i], f[i])
		}
		return kept
	}
	return value
}
