package launch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"golang.org/x/sync/errgroup"

	"github.com/fathom-train/fathom/deploy/manifest"
)

// permission is one thing that somebody may or may not do in the namespace.
type permission struct{ verb, group, resource, sub string }

func (p permission) String() string {
	name := p.resource
	if p.sub != "" {
		name += "/" + p.sub
	}
	if p.group != "" {
		name += "." + p.group
	}
	return p.verb + " " + name
}

// asked at once.
const reviewsAtOnce = 8

// Preflight checks, before anything is changed, that the namespace exists, that
// the cluster has all kinds, and that the user may do what a launch does. The
// error names everything that is missing.
func (c *Cluster) Preflight(ctx context.Context, objects []manifest.Object, makeSecrets bool) error {
	if err := c.checkNamespace(ctx); err != nil {
		return err
	}
	needed, err := c.needed(ctx, objects, makeSecrets)
	if err != nil {
		return err
	}
	all, err := c.may(ctx, permission{"*", "*", "*", ""})
	if err != nil || all {
		return err
	}
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
		return err
	}
	var missing []string
	for i, p := range needed {
		if denied[i] {
			missing = append(missing, p.String())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: in namespace %s you lack the permission to: %s", ErrRefused, c.namespace, strings.Join(missing, "; "))
	}
	return nil
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
func (c *Cluster) needed(ctx context.Context, objects []manifest.Object, makeSecrets bool) ([]permission, error) {
	var all []permission
	add := func(r schema.GroupVersionResource, sub string, verbs ...string) {
		for _, v := range verbs {
			if p := (permission{v, r.Group, r.Resource, sub}); !slices.Contains(all, p) {
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
	return all, nil
}

// may asks the cluster whether the user may do something.
func (c *Cluster) may(ctx context.Context, p permission) (bool, error) {
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{
			"namespace": c.namespace, "verb": p.verb, "group": p.group, "resource": p.resource, "subresource": p.sub,
		}},
	}}
	answer, err := c.objects.Resource(reviews).Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, c.explain("ask for the permission to "+p.String(), err)
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return allowed, err
}
