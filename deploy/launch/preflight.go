package launch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"golang.org/x/sync/errgroup"

	"github.com/fathom-train/fathom/deploy/manifest"
)

// permission is one thing that somebody may or may not do in the namespace.
type permission struct{ verb, group, resource, sub, name string }

func (p permission) String() string {
	name := p.resource
	if p.sub != "" {
		name += "/" + p.sub
	}
	if p.group != "" {
		name += "." + p.group
	}
	if p.name != "" {
		name += " " + p.name
	}
	return p.verb + " " + name
}

// forward is what it takes to watch the training.
var forward = permission{verb: "create", resource: "pods", sub: "portforward"}

// asked at once.
const reviewsAtOnce = 8

// Preflight checks, before anything is changed, that the namespace exists, that
// the cluster has all kinds, and that the user may do what a launch does. The
// error names everything that is missing.
// follow: it goes on to watch the training, through a forwarded port.
func (c *Cluster) Preflight(ctx context.Context, objects []manifest.Object, makeSecrets, follow bool) error {
	if err := c.checkNamespace(ctx); err != nil {
		return err
	}
	needed, err := c.needed(ctx, objects, makeSecrets, follow)
	if err != nil {
		return err
	}
	all, err := c.may(ctx, permission{verb: "*", group: "*", resource: "*"})
	if err != nil || all {
		return err
	}
	missing, err := c.lacks(ctx, needed)
	if err != nil {
		return err
	}
	granted, err := c.mayNotGrant(ctx, objects)
	if err != nil {
		return err
	}
	var faults []error
	if len(missing) > 0 {
		hint := ""
		if slices.Contains(missing, forward.String()) {
			hint = " (--wait ready and --wait false do without that)"
		}
		faults = append(faults, fmt.Errorf("%w: in namespace %s you lack the permission to: %s%s", ErrRefused, c.namespace, strings.Join(missing, "; "), hint))
	}
	if len(granted) > 0 {
		faults = append(faults, fmt.Errorf("%w: the coordinator's Role gives rights that you lack in namespace %s, and nobody may give what they do not have: %s; have them given to you, or the verbs escalate and bind on roles",
			ErrRefused, c.namespace, strings.Join(granted, "; ")))
	}
	return errors.Join(faults...)
}

// lacks returns those of the permissions that the user does not have.
func (c *Cluster) lacks(ctx context.Context, needed []permission) (missing []string, err error) {
	denied := make([]bool, len(needed))
	ask, ctx := errgroup.WithContext(ctx)
	ask.SetLimit(reviewsAtOnce)
	for i, p := range needed {
		ask.Go(func() error {
			yes, err := c.may(ctx, p)
			denied[i] = !yes
			return err
		})
	}
	if err := ask.Wait(); err != nil {
		return nil, err
	}
	for i, p := range needed {
		if denied[i] {
			missing = append(missing, p.String())
		}
	}
	return missing, nil
}

// mayNotGrant returns what the Roles among the objects give and the user does
// not have: Kubernetes lets nobody give more than they have, unless they may
// escalate roles and bind to them.
func (c *Cluster) mayNotGrant(ctx context.Context, objects []manifest.Object) ([]string, error) {
	var granted []permission
	for _, o := range objects {
		if o["kind"] != "Role" {
			continue
		}
		rules, err := rulesOf(o)
		if err != nil {
			return nil, err
		}
		granted = append(granted, rules...)
	}
	missing, err := c.lacks(ctx, granted)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	const rbac = "rbac.authorization.k8s.io"
	barred, err := c.lacks(ctx, []permission{{verb: "escalate", group: rbac, resource: "roles"}, {verb: "bind", group: rbac, resource: "roles"}})
	if err != nil || len(barred) == 0 {
		return nil, err
	}
	return missing, nil
}

// rulesOf lists what a Role gives, one by one.
func rulesOf(role manifest.Object) (all []permission, err error) {
	u, err := plain(role)
	if err != nil {
		return nil, err
	}
	var typed struct {
		Rules []struct {
			APIGroups     []string `json:"apiGroups"`
			Resources     []string `json:"resources"`
			ResourceNames []string `json:"resourceNames"`
			Verbs         []string `json:"verbs"`
		} `json:"rules"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &typed); err != nil {
		return nil, fmt.Errorf("read %s: %w", role.Name(), err)
	}
	for _, r := range typed.Rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range r.APIGroups {
			for _, full := range r.Resources {
				resource, sub, _ := strings.Cut(full, "/")
				for _, verb := range r.Verbs {
					for _, name := range names {
						all = append(all, permission{verb, group, resource, sub, name})
					}
				}
			}
		}
	}
	return all, nil
}

func (c *Cluster) checkNamespace(ctx context.Context) error {
	o, err := c.objects.Resource(namespaces).Get(ctx, c.namespace, metav1.GetOptions{})
	switch {
	case gone(err):
		return fmt.Errorf("%w: there is no namespace %s; kubectl create namespace %s makes it", ErrRefused, c.namespace, c.namespace)
	case apierrors.IsForbidden(err):
		return nil // who may not look at namespaces may still work in one
	case err != nil:
		return c.explain("look at namespace "+c.namespace, err)
	case o.GetDeletionTimestamp() != nil:
		return fmt.Errorf("%w: namespace %s is being deleted", ErrRefused, c.namespace)
	}
	return nil
}

// needed lists what a launch does, each once.
func (c *Cluster) needed(ctx context.Context, objects []manifest.Object, makeSecrets, follow bool) ([]permission, error) {
	var all []permission
	add := func(r schema.GroupVersionResource, sub string, verbs ...string) {
		for _, v := range verbs {
			if p := (permission{verb: v, group: r.Group, resource: r.Resource, sub: sub}); !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	for _, o := range objects {
		version, kind := fmt.Sprint(o["apiVersion"]), fmt.Sprint(o["kind"])
		r, found, err := c.resource(ctx, version, kind)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("%w: the cluster has no kind %s (%s), which %s needs", ErrRefused, kind, version, o.Name())
		}
		add(r, "", "get", "list", "create", "patch", "delete")
	}
	add(secrets, "", "get")
	if makeSecrets {
		add(secrets, "", "create", "patch")
	}
	add(pods, "", "list")
	add(pods, "log", "get")
	add(events, "", "list")
	if follow {
		all = append(all, forward)
	}
	return all, nil
}

// may asks the cluster whether the user may do something.
func (c *Cluster) may(ctx context.Context, p permission) (bool, error) {
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{
			"namespace": c.namespace, "verb": p.verb, "group": p.group, "resource": p.resource, "subresource": p.sub, "name": p.name,
		}},
	}}
	answer, err := c.objects.Resource(reviews).Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, c.explain("ask for the permission to "+p.String(), err)
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return allowed, err
}
