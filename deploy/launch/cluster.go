package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Target says which cluster and namespace is meant, in the way of kubectl.
type Target struct {
	// Kubeconfig is a file; empty: those of KUBECONFIG, or ~/.kube/config, or the
	// service account of the pod this runs in.
	Kubeconfig string
	// Context of the file; empty: its current one.
	Context string
	// Namespace; empty: the context's, or "default".
	Namespace string
}

// Cluster is a namespace of a Kubernetes cluster.
type Cluster struct {
	namespace string
	config    *rest.Config
	objects   dynamic.Interface
	raw       *rest.RESTClient // for what is no object: logs, versions, lists of kinds
	look      time.Duration    // how often a state that is waited for is looked at

	// mu guards kinds, the kinds of each version of a group that was looked at.
	mu    sync.Mutex
	kinds map[string]map[string]string // "apps/v1" -> "StatefulSet" -> "statefulsets"
}

// The sentinels of this package.
var (
	// ErrUnreachable: the cluster does not answer.
	ErrUnreachable = errors.New("the cluster does not answer")
	// ErrTarget: the target names no usable cluster or namespace.
	ErrTarget = errors.New("no cluster to talk to")
	// ErrRefused: the cluster will not have what was asked; trying again is no use.
	ErrRefused = errors.New("refused")
)

// oldest is the first minor version of Kubernetes 1 that has all that is used.
const oldest = 30

// Connect reads the configuration and asks the cluster for its version.
func Connect(ctx context.Context, t Target) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = t.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: t.Context}
	overrides.Context.Namespace = t.Namespace
	loading := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	config, err := loading.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%w: %w; name one with --kubeconfig and --context, or set KUBECONFIG", ErrTarget, err)
	}
	namespace, _, err := loading.Namespace()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	c, err := newCluster(config, namespace)
	if err != nil {
		return nil, err
	}
	return c, c.checkVersion(ctx)
}

func newCluster(config *rest.Config, namespace string) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 500 // the default, 5, makes a launch take seconds
	config.UserAgent = "fathom"
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	plain := rest.CopyConfig(config)
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // for the errors
	plain.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	raw, err := rest.UnversionedRESTClientFor(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return &Cluster{namespace: namespace, config: config, objects: objects, raw: raw, look: lookEvery, kinds: map[string]map[string]string{}}, nil
}

// Namespace is where all objects go.
func (c *Cluster) Namespace() string { return c.namespace }

// Host is the address of the cluster's API.
func (c *Cluster) Host() string { return c.config.Host }

func (c *Cluster) checkVersion(ctx context.Context) error {
	var v struct{ Major, Minor string }
	if err := c.getJSON(ctx, "/version", &v); err != nil {
		return err
	}
	minor, err := strconv.Atoi(strings.TrimRight(v.Minor, "+"))
	if err != nil || v.Major != "1" || minor < oldest {
		return fmt.Errorf("%w: the cluster at %s is of Kubernetes %s.%s, 1.%d or newer is needed", ErrRefused, c.config.Host, v.Major, v.Minor, oldest)
	}
	return nil
}

// getJSON reads a path of the API that is no object.
func (c *Cluster) getJSON(ctx context.Context, at string, into any) error {
	text, err := c.raw.Get().AbsPath(at).Do(ctx).Raw()
	if err != nil {
		return c.explain("GET "+at, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("GET %s: %w", at, err)
	}
	return nil
}

// explain wraps an error of the API with what was attempted, and tells a
// cluster that did not answer from one that said no.
func (c *Cluster) explain(what string, err error) error {
	var status apierrors.APIStatus
	if err == nil || errors.As(err, &status) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		if status != nil && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err)) {
			return fmt.Errorf("%s: %w: %w", what, ErrRefused, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	return fmt.Errorf("%s: %w at %s: %w", what, ErrUnreachable, c.config.Host, err)
}

// resource finds the resource of a kind, such as statefulsets of StatefulSet.
// The client's own discovery would bring sixty packages of types along.
func (c *Cluster) resource(ctx context.Context, version, kind string) (r schema.GroupVersionResource, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		return r, false, fmt.Errorf("kind %s: %w", kind, err)
	}
	kinds, looked := c.kinds[version]
	if !looked {
		root := "/apis"
		if gv.Group == "" {
			root = "/api"
		}
		var list metav1.APIResourceList
		err := c.getJSON(ctx, path.Join(root, version), &list)
		if err != nil && !apierrors.IsNotFound(err) {
			return r, false, err
		}
		kinds = map[string]string{}
		for _, one := range list.APIResources {
			if !strings.Contains(one.Name, "/") { // statefulsets/scale and the like
				kinds[one.Kind] = one.Name
			}
		}
		c.kinds[version] = kinds
	}
	name, found := kinds[kind]
	return gv.WithResource(name), found, nil
}

// Has tells whether the cluster has a kind.
func (c *Cluster) Has(ctx context.Context, version, kind string) (bool, error) {
	_, found, err := c.resource(ctx, version, kind)
	return found, err
}

// at returns the client of a resource in the namespace.
func (c *Cluster) at(r schema.GroupVersionResource) dynamic.ResourceInterface {
	return c.objects.Resource(r).Namespace(c.namespace)
}

// The resources of this package's own questions.
var (
	pods         = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	events       = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	secrets      = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	claims       = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
	namespaces   = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	statefulSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
	jobs         = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	reviews      = schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}
)

// The labels by which a job's objects are found.
const (
	nameLabel      = "app.kubernetes.io/name"
	instanceLabel  = "app.kubernetes.io/instance"
	componentLabel = "app.kubernetes.io/component"
	ownerLabel     = "app.kubernetes.io/managed-by"
	owner          = "fathom"
)

// ofJob selects all that belongs to a job, also what its StatefulSets and Jobs
// made.
func ofJob(job string) string { return nameLabel + "=" + owner + "," + instanceLabel + "=" + job }

// oursOf selects what this package wrote for a job.
func oursOf(job string) string { return ofJob(job) + "," + ownerLabel + "=" + owner }

// display names an object as kubectl does: statefulset.apps/quickstart-ps.
func display(version, kind, name string) string {
	group, _, grouped := strings.Cut(version, "/")
	if grouped {
		return strings.ToLower(kind) + "." + group + "/" + name
	}
	return strings.ToLower(kind) + "/" + name
}

// gone tells whether an error says that there is no such object.
func gone(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code == http.StatusNotFound
}
