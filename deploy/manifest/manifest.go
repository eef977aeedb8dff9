// Package manifest renders a job as the Kubernetes objects that run its
// cluster. It is pure: the same job and options give the same text, so that it
// can be kept in a repository and compared.
//
// The objects are plain maps: types would bring their zero values along, which
// show as changes of fields that nobody set. The tests decode them strictly
// into the types all the same.
package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto/identity"
)

// Object is one Kubernetes object, in the shape of its JSON.
type Object map[string]any

// Options are what the objects need besides the job.
type Options struct {
	// Namespace of all objects; default "default".
	Namespace string
	// Image is what every container runs, with a tag or digest; required.
	Image string
	// StorageClass of the volumes; empty: the cluster's default.
	StorageClass string
	// ServerStorage and EtcdStorage are the sizes of a volume, such as 20Gi.
	ServerStorage, EtcdStorage string
	// DataClaim is a claim with the data, mounted read-only at the job's
	// data.root; empty: the data are generated, or in the image.
	DataClaim string
	// Etcd are https URLs of an etcd that exists, EtcdSecret the secret of the
	// credentials towards it; none: three members are rendered.
	Etcd       []string
	EtcdSecret string
	// Coordinators is how many coordinators stand for election; default 2.
	Coordinators int
	// Issuer is the cert-manager issuer that signs the certificates: NAME of the
	// namespace, ClusterIssuer/NAME, or KIND.GROUP/NAME of an external one; empty:
	// the secrets exist (Secrets lists them).
	Issuer string
	// Secrets name secrets that exist, by role: coordinator, ps, worker, etcd,
	// admin or viewer. Roles that are not there have the names that Secrets gives.
	Secrets map[string]string
	// Standing clusters take further jobs: the workers go when a job is over and
	// come back with the next one, instead of ending with this one.
	Standing bool
	// Queue is a queue for the workers: of Volcano if that is the Scheduler, else
	// of Kueue; empty: none.
	Queue string
	// Scheduler places the workers' pods, such as volcano; empty: the cluster's.
	Scheduler string
	// Monitor adds a PodMonitor, for clusters that have the kind.
	Monitor bool
	// Pools are servers apart from the others, which are spec.cluster.ps less all
	// that are in pools.
	Pools []Pool
	// ServerMemory and WorkerMemory are requested and the limit, in bytes.
	ServerMemory, WorkerMemory int64
	// ServerCPU and WorkerCPU are requested, in thousandths; default 2000.
	ServerCPU, WorkerCPU int
}

// ErrOptions is what every error about Options is.
var ErrOptions = errors.New("kubernetes options")

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field    *string
		standard string
	}{{&o.Namespace, "default"}, {&o.ServerStorage, "20Gi"}, {&o.EtcdStorage, "2Gi"}} {
		if *d.field == "" {
			*d.field = d.standard
		}
	}
	if o.Coordinators == 0 {
		o.Coordinators = 2
	}
	if o.ServerCPU == 0 {
		o.ServerCPU = 2000
	}
	if o.WorkerCPU == 0 {
		o.WorkerCPU = 2000
	}
	o.Pools = slices.Clone(o.Pools)
	for i := range o.Pools {
		p := &o.Pools[i]
		p.Storage, p.StorageClass = cmp.Or(p.Storage, o.ServerStorage), cmp.Or(p.StorageClass, o.StorageClass)
		p.CPU, p.Memory = cmp.Or(p.CPU, o.ServerCPU), cmp.Or(p.Memory, o.ServerMemory)
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.Image == "":
		return fmt.Errorf("%w: an image is needed", ErrOptions)
	case !pinned(o.Image):
		return fmt.Errorf("%w: image %s must have a tag other than latest, or a digest", ErrOptions, o.Image)
	case o.Coordinators < 0 || o.Coordinators > 7:
		return fmt.Errorf("%w: %d coordinators, want 1 to 7", ErrOptions, o.Coordinators)
	case len(o.Etcd) > 0 && o.EtcdSecret == "":
		return fmt.Errorf("%w: an etcd that exists needs the secret of the credentials towards it", ErrOptions)
	case o.ServerMemory <= 0 || o.WorkerMemory <= 0:
		return fmt.Errorf("%w: the memory of servers and workers is needed", ErrOptions)
	}
	for _, role := range slices.Sorted(maps.Keys(o.Secrets)) {
		if !identity.Role(role).Valid() {
			return fmt.Errorf("%w: a secret for %q: the roles are %v", ErrOptions, role, identity.Roles())
		}
		if o.Secrets[role] == "" {
			return fmt.Errorf("%w: the secret of %s has no name", ErrOptions, role)
		}
	}
	if kind, name, found := strings.Cut(o.Issuer, "/"); found && (kind == "" || name == "" || strings.Contains(name, "/")) {
		return fmt.Errorf("%w: issuer %s: want NAME, ClusterIssuer/NAME or KIND.GROUP/NAME", ErrOptions, o.Issuer)
	}
	for _, u := range o.Etcd {
		if !strings.HasPrefix(u, "https://") {
			return fmt.Errorf("%w: etcd %s: want an https URL", ErrOptions, u)
		}
	}
	return nil
}

// pinned tells whether an image names one content, or at least one version.
func pinned(image string) bool {
	_, name, found := cutLast(image, "/")
	if !found {
		name = image
	}
	if strings.Contains(name, "@sha256:") {
		return true
	}
	_, tag, tagged := strings.Cut(name, ":")
	return tagged && tag != "" && tag != "latest"
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// setNameMax is the longest name of a StatefulSet: with a dash and ten letters
// more its pods carry it as a label of at most 63.
const setNameMax = 52

// render is a job being rendered.
type render struct {
	job *job.Job
	o   Options
}

// Render returns the objects in the order in which they should be applied.
func Render(j *job.Job, o Options) ([]Object, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := j.Validate(); err != nil {
		return nil, err
	}
	r := render{j, o}
	for _, set := range append([]string{r.name(compCoordinator)}, r.poolSets()...) {
		if len(set) > setNameMax {
			return nil, fmt.Errorf("%w: a set of pods would have the name %s with %d letters, at most %d are possible: give the job or the pool a shorter name", ErrOptions, set, len(set), setNameMax)
		}
	}
	if err := r.checkPools(); err != nil {
		return nil, err
	}
	var all []Object
	all = append(all, r.accounts()...)
	all = append(all, r.rights()...)
	all = append(all, r.configMap())
	all = append(all, r.certificates()...)
	all = append(all, r.services()...)
	all = append(all, r.budgets()...)
	all = append(all, r.policies()...)
	if len(o.Etcd) == 0 {
		all = append(all, r.etcd())
	}
	all = append(all, r.coordinator())
	all = append(all, r.servers()...)
	all = append(all, r.workers())
	if o.Monitor {
		all = append(all, r.monitor())
	}
	return all, nil
}

// YAML returns the objects as one stream of documents.
func YAML(objects []Object) ([]byte, error) {
	var b bytes.Buffer
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", o.Name(), err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return b.Bytes(), nil
}

// Name returns kind and name, as in messages.
func (o Object) Name() string {
	meta, _ := o["metadata"].(Object)
	return fmt.Sprintf("%v/%v", o["kind"], meta["name"])
}

// component is one of the kinds of pods.
type component string

const (
	compEtcd        component = "etcd"
	compCoordinator component = "coordinator"
	compPS          component = "ps"
	compWorker      component = "worker"
)

// components returns those that are rendered.
func (r render) components() []component {
	all := []component{compCoordinator, compPS, compWorker}
	if len(r.o.Etcd) == 0 {
		all = append([]component{compEtcd}, all...)
	}
	return all
}

// name of the objects of a component.
func (r render) name(c component) string { return r.job.Metadata.Name + "-" + string(c) }

// host is the name at which a component's pod is dialled; pod may be "*".
func (r render) host(c component, pod string) string {
	return pod + "." + r.name(c) + "." + r.o.Namespace + ".svc"
}

// labels select a component's pods.
func (r render) labels(c component) Object {
	return Object{
		"app.kubernetes.io/name":      "fathom",
		"app.kubernetes.io/instance":  r.job.Metadata.Name,
		"app.kubernetes.io/component": string(c),
	}
}

// meta returns the metadata of an object of a component, or of the job's when c
// is empty.
func (r render) meta(name string, c component) Object {
	labels := Object{
		"app.kubernetes.io/name":       "fathom",
		"app.kubernetes.io/instance":   r.job.Metadata.Name,
		"app.kubernetes.io/managed-by": "fathom",
	}
	if c != "" {
		labels["app.kubernetes.io/component"] = string(c)
	}
	return Object{"name": name, "namespace": r.o.Namespace, "labels": labels}
}

func object(version, kind string, meta Object, fields Object) Object {
	o := Object{"apiVersion": version, "kind": kind, "metadata": meta}
	for k, v := range fields {
		o[k] = v
	}
	return o
}
