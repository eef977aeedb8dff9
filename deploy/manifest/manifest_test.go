package manifest_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/manifest"
	"github.com/fathom-train/fathom/proto/identity"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const image = "registry.example/fathom:v1.2.3"

func quickstart(t *testing.T, sets ...string) *job.Job {
	t.Helper()
	path := filepath.Join("..", "jobs", "quickstart.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	j, err := job.Parse(path, text, sets)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func options() manifest.Options {
	return manifest.Options{Image: image, ServerMemory: 2 << 30, WorkerMemory: 4 << 30}
}

// cases are the options that change what is rendered.
func cases() map[string]manifest.Options {
	plain, full := options(), options()
	full.Namespace, full.StorageClass, full.DataClaim = "ml", "fast", "samples"
	full.Etcd, full.EtcdSecret = []string{"https://etcd.example:2379"}, "etcd-client"
	full.Secrets = map[string]string{"worker": "team-worker-tls"}
	full.Issuer, full.Queue, full.Monitor, full.Coordinators, full.Standing = "ClusterIssuer/fathom-ca", "gpu-free", true, 3, true
	pools := options()
	pools.StorageClass = "standard"
	pools.Pools = []manifest.Pool{{Name: "fast", Servers: 3, Memory: 8 << 30, CPU: 4000, Storage: "100Gi", StorageClass: "nvme",
		Nodes:     map[string]string{"node.example/disk": "nvme", "topology.kubernetes.io/zone": "a"},
		Tolerates: []manifest.Taint{{Key: "dedicated", Value: "fathom"}, {Key: "spot"}}},
		{Name: "large-2", Servers: 4}}
	return map[string]manifest.Options{"plain": plain, "full": full, "pools": pools}
}

func render(t *testing.T, o manifest.Options) []manifest.Object {
	t.Helper()
	var sets []string
	if len(o.Pools) > 0 {
		sets = []string{"spec.cluster.ps=10"} // three of them in no pool
	}
	objects, err := manifest.Render(quickstart(t, sets...), o)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestRenderedObjectsAreGolden(t *testing.T) {
	for name, o := range cases() {
		objects := render(t, o)
		for _, object := range objects {
			if object["kind"] == "ConfigMap" { // the job's own text has its tests elsewhere
				object["data"] = manifest.Object{"job.json": "..."}
			}
		}
		got, err := manifest.YAML(objects)
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name+".yaml")
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got), -update rewrites it:\n%s", name, diff)
		}
	}
}

func TestRenderingTwiceGivesTheSameText(t *testing.T) {
	for name, o := range cases() {
		first, err := manifest.YAML(render(t, o))
		if err != nil {
			t.Fatal(err)
		}
		again, err := manifest.YAML(render(t, o))
		if err != nil || !bytes.Equal(first, again) {
			t.Errorf("%s: rendered twice, the text differs: %v", name, err)
		}
	}
}

// typed are the objects of one rendering, decoded into the API's own types.
type typed struct {
	names    map[string]bool
	sets     map[string]*appsv1.StatefulSet
	jobs     map[string]*batchv1.Job
	services map[string]*corev1.Service
	budgets  map[string]*policyv1.PodDisruptionBudget
	policies map[string]*networkingv1.NetworkPolicy
	accounts map[string]*corev1.ServiceAccount
	roles    map[string]*rbacv1.Role
	bindings map[string]*rbacv1.RoleBinding
	certs    map[string]map[string]any
}

// decode refuses every field that the API does not know.
func decode(t *testing.T, objects []manifest.Object) typed {
	t.Helper()
	d := typed{map[string]bool{}, map[string]*appsv1.StatefulSet{}, map[string]*batchv1.Job{}, map[string]*corev1.Service{},
		map[string]*policyv1.PodDisruptionBudget{}, map[string]*networkingv1.NetworkPolicy{}, map[string]*corev1.ServiceAccount{}, map[string]*rbacv1.Role{}, map[string]*rbacv1.RoleBinding{}, map[string]map[string]any{}}
	for _, o := range objects {
		if d.names[o.Name()] {
			t.Errorf("%s is rendered twice", o.Name())
		}
		d.names[o.Name()] = true
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		name := o["metadata"].(manifest.Object)["name"].(string)
		var into any
		switch o["kind"] {
		case "StatefulSet":
			d.sets[name] = &appsv1.StatefulSet{}
			into = d.sets[name]
		case "Job":
			d.jobs[name] = &batchv1.Job{}
			into = d.jobs[name]
		case "Service":
			d.services[name] = &corev1.Service{}
			into = d.services[name]
		case "PodDisruptionBudget":
			d.budgets[name] = &policyv1.PodDisruptionBudget{}
			into = d.budgets[name]
		case "NetworkPolicy":
			d.policies[name] = &networkingv1.NetworkPolicy{}
			into = d.policies[name]
		case "ServiceAccount":
			d.accounts[name] = &corev1.ServiceAccount{}
			into = d.accounts[name]
		case "Role":
			d.roles[name] = &rbacv1.Role{}
			into = d.roles[name]
		case "RoleBinding":
			d.bindings[name] = &rbacv1.RoleBinding{}
			into = d.bindings[name]
		case "ConfigMap":
			into = &corev1.ConfigMap{}
		case "Certificate":
			d.certs[name] = o["spec"].(manifest.Object)
			continue // not one of the API's own kinds
		case "PodMonitor":
			continue
		default:
			t.Fatalf("unexpected kind %v", o["kind"])
		}
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			t.Errorf("%s: %v", o.Name(), err)
		}
	}
	return d
}

// templates are the pods of all controllers.
func (d typed) templates() map[string]corev1.PodTemplateSpec {
	all := map[string]corev1.PodTemplateSpec{}
	for name, s := range d.sets {
		all[name] = s.Spec.Template
	}
	for name, j := range d.jobs {
		all[name] = j.Spec.Template
	}
	return all
}

func TestObjectsFitTogether(t *testing.T) {
	restricted := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range cases() {
		d := decode(t, render(t, o))
		if len(d.templates()) < 3 {
			t.Fatalf("%s: %d kinds of pods", name, len(d.templates()))
		}
		for pod, template := range d.templates() {
			what := name + "/" + pod
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec))
			if !result.Allowed {
				t.Errorf("%s breaks the restricted standard: %s: %s", what, result.ForbiddenReason(), result.ForbiddenDetail())
			}
			if d.accounts[template.Spec.ServiceAccountName] == nil {
				t.Errorf("%s: no service account %q", what, template.Spec.ServiceAccountName)
			}
			checkContainer(t, what, template.Spec, pod != "quickstart-worker")
		}
		for pod, s := range d.sets {
			checkSelector(t, name+"/"+pod, s.Spec.Selector, s.Spec.Template.Labels)
			service := d.services[s.Spec.ServiceName]
			if service == nil || !service.Spec.PublishNotReadyAddresses || service.Spec.ClusterIP != "None" {
				t.Errorf("%s/%s: its service is %+v", name, pod, service)
				continue
			}
			checkSelector(t, name+"/"+pod+" service", &metav1.LabelSelector{MatchLabels: service.Spec.Selector}, s.Spec.Template.Labels)
			for _, p := range service.Spec.Ports {
				if !hasPort(s.Spec.Template.Spec.Containers[0], p.TargetPort.String()) {
					t.Errorf("%s/%s: the service's port %s is none of the container's", name, pod, p.TargetPort.String())
				}
			}
			budget := d.budgets[pod]
			if budget == nil || budget.Spec.MaxUnavailable.IntValue() != 1 {
				t.Errorf("%s/%s: no budget of one", name, pod)
				continue
			}
			checkSelector(t, name+"/"+pod+" budget", budget.Spec.Selector, s.Spec.Template.Labels)
			// A pod with two budgets cannot be evicted at all.
			for other, b := range d.budgets {
				selects, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
				if err != nil {
					t.Fatal(err)
				}
				if selects.Matches(labels.Set(s.Spec.Template.Labels)) != (other == pod) {
					t.Errorf("%s: the budget %s for the pods of %s: %v", name, other, pod, b.Spec.Selector)
				}
			}
		}
		for pod, template := range d.templates() {
			p := d.policies["quickstart-"+template.Labels["app.kubernetes.io/component"]]
			if p == nil {
				t.Errorf("%s/%s: no network policy", name, pod)
				continue
			}
			checkSelector(t, name+"/"+pod+" policy", &p.Spec.PodSelector, template.Labels)
			for _, rule := range p.Spec.Ingress {
				for _, port := range rule.Ports {
					if !hasPort(template.Spec.Containers[0], port.Port.String()) {
						t.Errorf("%s/%s: a rule for %s, which is none of the container's ports", name, pod, port.Port)
					}
				}
				if len(rule.From) == 0 {
					t.Errorf("%s/%s: port %v is open to everybody", name, pod, rule.Ports)
				}
			}
			if len(p.Spec.Ingress) != len(template.Spec.Containers[0].Ports) {
				t.Errorf("%s/%s: %d rules for %d ports", name, pod, len(p.Spec.Ingress), len(template.Spec.Containers[0].Ports))
			}
		}
	}
}

// Pools differ in what was asked for, and are told apart.
func TestPoolsAreSetsOfTheirOwn(t *testing.T) {
	o := cases()["pools"]
	d := decode(t, render(t, o))
	type seen struct {
		Replicas                       int32
		Memory                         int64
		CPU, Storage, Class            string
		Nodes                          map[string]string
		Tolerations                    int
		Pool                           string
		Service, Label, SpreadSelector string
	}
	got := map[string]seen{}
	for name, s := range d.sets {
		if s.Labels["app.kubernetes.io/component"] != "ps" {
			continue
		}
		spec := s.Spec.Template.Spec
		c, claim := spec.Containers[0], s.Spec.VolumeClaimTemplates[0].Spec
		pool := ""
		if i := slices.Index(c.Args, "--pool"); i >= 0 {
			pool = c.Args[i+1]
		}
		got[name] = seen{*s.Spec.Replicas, c.Resources.Limits.Memory().Value(), c.Resources.Requests.Cpu().String(), claim.Resources.Requests.Storage().String(),
			*claim.StorageClassName, spec.NodeSelector, len(spec.Tolerations), pool, s.Spec.ServiceName, s.Labels[manifest.PoolLabel],
			spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels[manifest.PoolLabel]}
	}
	want := map[string]seen{
		"quickstart-ps":         {3, 2 << 30, "2", "20Gi", "standard", nil, 0, "", "quickstart-ps", "", ""},
		"quickstart-ps-fast":    {3, 8 << 30, "4", "100Gi", "nvme", o.Pools[0].Nodes, 2, "fast", "quickstart-ps", "fast", "fast"},
		"quickstart-ps-large-2": {4, 2 << 30, "2", "20Gi", "standard", nil, 0, "large-2", "quickstart-ps", "large-2", "large-2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	tolerations := d.sets["quickstart-ps-fast"].Spec.Template.Spec.Tolerations
	if diff := cmp.Diff([]corev1.Toleration{{Key: "dedicated", Operator: "Equal", Value: "fathom"}, {Key: "spot", Operator: "Exists"}}, tolerations); diff != "" {
		t.Error(diff)
	}
	// All in pools: the set of the others is gone.
	objects, err := manifest.Render(quickstart(t, "spec.cluster.ps=7"), o)
	if err != nil {
		t.Fatal(err)
	}
	if d := decode(t, objects); len(d.sets) != 4 || d.sets["quickstart-ps"] != nil || d.budgets["quickstart-ps"] != nil {
		t.Errorf("sets %v, budgets %v", d.sets, d.budgets)
	}
}

// Only the coordinator talks to the API, and may do there only what package scale
// does (whose tests use this very Role).
func TestOnlyTheCoordinatorHasRights(t *testing.T) {
	for name, o := range cases() {
		d := decode(t, render(t, o))
		for pod, template := range d.templates() {
			if token := template.Spec.AutomountServiceAccountToken; token == nil || *token != (pod == "quickstart-coordinator") {
				t.Errorf("%s/%s: token %v", name, pod, token)
			}
		}
		if len(d.roles) != 1 || len(d.bindings) != 1 {
			t.Fatalf("%s: %d roles, %d bindings", name, len(d.roles), len(d.bindings))
		}
		b := d.bindings["quickstart-coordinator"]
		account := d.sets["quickstart-coordinator"].Spec.Template.Spec.ServiceAccountName
		if len(b.Subjects) != 1 || b.Subjects[0].Name != account || b.Subjects[0].Namespace != d.accounts[account].Namespace || d.roles[b.RoleRef.Name] == nil {
			t.Errorf("%s: binding %+v", name, b)
		}
		for _, rule := range d.roles[b.RoleRef.Name].Rules {
			if slices.Contains(rule.Resources, "jobs") && (len(rule.ResourceNames) != 1 || d.jobs[rule.ResourceNames[0]] == nil) {
				t.Errorf("%s: the rule for Jobs names %v", name, rule.ResourceNames)
			}
			for _, all := range slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources) {
				if all == "*" || all == "secrets" || all == "delete" {
					t.Errorf("%s: rule %+v", name, rule)
				}
			}
		}
	}
}

func checkSelector(t *testing.T, what string, selector *metav1.LabelSelector, labels map[string]string) {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || s.Empty() {
		t.Errorf("%s: selector %v: %v", what, selector, err)
		return
	}
	for k, v := range selector.MatchLabels {
		if labels[k] != v {
			t.Errorf("%s: selects %s=%s, the pods have %q", what, k, v, labels[k])
		}
	}
}

func hasPort(c corev1.Container, name string) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
}

func checkContainer(t *testing.T, what string, spec corev1.PodSpec, serves bool) {
	t.Helper()
	if len(spec.Containers) != 1 {
		t.Fatalf("%s: %d containers", what, len(spec.Containers))
	}
	c := spec.Containers[0]
	if c.Image != image || c.StartupProbe == nil || c.LivenessProbe == nil || serves && c.ReadinessProbe == nil {
		t.Errorf("%s: image %s, probes %v %v %v", what, c.Image, c.StartupProbe, c.LivenessProbe, c.ReadinessProbe)
	}
	for _, p := range c.Ports {
		if p.Name == "" {
			t.Errorf("%s: port %d has no name", what, p.ContainerPort)
		}
	}
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if p != nil && (!hasPort(c, p.HTTPGet.Port.String()) || p.HTTPGet.Scheme != corev1.URISchemeHTTPS) {
			t.Errorf("%s: probe %+v", what, p.HTTPGet)
		}
	}
	if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("%s: the root file system can be written", what)
	}
	if c.Resources.Requests.Memory().IsZero() || !c.Resources.Requests.Memory().Equal(*c.Resources.Limits.Memory()) {
		t.Errorf("%s: memory requested %v, limited %v", what, c.Resources.Requests.Memory(), c.Resources.Limits.Memory())
	}
	for _, m := range c.VolumeMounts {
		if m.Name == "data" {
			continue // of the claim templates
		}
		if !slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("%s: no volume %s", what, m.Name)
		}
	}
	args := strings.Join(c.Args, " ")
	if strings.Contains(args, "--insecure") || !strings.Contains(args, "--credentials") {
		t.Errorf("%s: starts with %s", what, args)
	}
}

// certificateSpec are the fields of a cert-manager.io/v1 Certificate that are
// used, as its API reference names them.
type certificateSpec struct {
	SecretName string          `json:"secretName"`
	CommonName string          `json:"commonName"`
	Duration   metav1.Duration `json:"duration"`
	DNSNames   []string        `json:"dnsNames"`
	URIs       []string        `json:"uris"`
	Usages     []string        `json:"usages"`
	PrivateKey struct {
		Algorithm      string `json:"algorithm"`
		Size           int    `json:"size"`
		RotationPolicy string `json:"rotationPolicy"`
	} `json:"privateKey"`
	IssuerRef struct {
		Name  string `json:"name"`
		Kind  string `json:"kind"`
		Group string `json:"group"`
	} `json:"issuerRef"`
}

// Every name that a process is told to dial is in the certificate of whom it
// dials, and that certificate's identity is the pod's.
func TestCertificatesCoverEveryDialledName(t *testing.T) {
	for name, o := range cases() {
		d := decode(t, render(t, o))
		secrets := map[string]manifest.Secret{}
		for _, s := range manifest.Secrets("quickstart", o) {
			secrets[string(s.Role)] = s
		}
		dialled := 0
		for pod, template := range d.templates() {
			for _, arg := range template.Spec.Containers[0].Args {
				for part := range strings.SplitSeq(arg, ",") {
					_, host, found := strings.Cut(part, "://")
					if !found {
						host = part
					}
					host, _, _ = strings.Cut(host, ":")
					host = strings.NewReplacer("$(POD_NAME)", pod+"-0", "$(JOB_COMPLETION_INDEX)", "0").Replace(host)
					parts := strings.Split(host, ".")
					if len(parts) != 4 || parts[3] != "svc" {
						if strings.Contains(host, "$(") && host != pod+"-0" {
							t.Errorf("%s/%s: nobody can have a certificate for %s", name, pod, host)
						}
						continue
					}
					dialled++
					if d.services[parts[1]] == nil {
						t.Errorf("%s/%s dials %s: there is no service %s", name, pod, host, parts[1])
					}
					s := secrets[strings.TrimPrefix(parts[1], "quickstart-")]
					if err := (&x509.Certificate{DNSNames: s.Hosts}).VerifyHostname(host); err != nil {
						t.Errorf("%s/%s dials %s: %v", name, pod, host, err)
					}
					if who := (identity.Identity{Cluster: "quickstart", Role: s.Role, Name: s.Identity}); !who.Covers(parts[0]) {
						t.Errorf("%s: the certificate of %s is not for the pod %s", name, who, parts[0])
					}
				}
			}
		}
		if dialled < 8 {
			t.Errorf("%s: only %d names are dialled", name, dialled)
		}
	}
}

// Every secret that a pod or a monitor needs is given, or made by cert-manager for
// the right role; what is given is left alone.
func TestQueuesOfKueueAndVolcano(t *testing.T) {
	const kueue, volcano = "kueue.x-k8s.io/queue-name", "scheduling.volcano.sh/queue-name"
	for scheduler, want := range map[string]string{"": kueue, "own": kueue, "volcano": volcano} {
		o := options()
		o.Queue, o.Scheduler = "night", scheduler
		d := decode(t, render(t, o))
		job := d.jobs["quickstart-worker"]
		got := map[string]string{}
		for key, value := range map[string]string{kueue: job.Labels[kueue], volcano: job.Spec.Template.Annotations[volcano]} {
			if value != "" {
				got[key] = value
			}
		}
		if diff := cmp.Diff(map[string]string{want: "night"}, got); diff != "" || job.Spec.Template.Spec.SchedulerName != scheduler {
			t.Errorf("scheduler %q: %s, %q", scheduler, diff, job.Spec.Template.Spec.SchedulerName)
		}
	}
}

func TestSecretsAreGivenOrMade(t *testing.T) {
	for name, o := range cases() {
		d := decode(t, render(t, o))
		byName, made := map[string]manifest.Secret{}, map[string]certificateSpec{}
		for _, s := range manifest.Secrets("quickstart", o) {
			byName[s.Name] = s
		}
		for object, spec := range d.certs {
			text, err := yaml.Marshal(spec)
			if err != nil {
				t.Fatal(err)
			}
			var c certificateSpec
			if err := yaml.UnmarshalStrict(text, &c); err != nil {
				t.Errorf("%s/%s: %v", name, object, err)
			}
			made[c.SecretName] = c
		}
		for pod, template := range d.templates() {
			for _, v := range template.Spec.Volumes {
				if v.Secret != nil && v.Secret.SecretName != o.EtcdSecret && string(byName[v.Secret.SecretName].Role) != template.Labels["app.kubernetes.io/component"] {
					t.Errorf("%s/%s mounts the secret %s, which is for the role %q", name, pod, v.Secret.SecretName, byName[v.Secret.SecretName].Role)
				}
			}
		}
		for secret, s := range byName {
			c, rendered := made[secret]
			if rendered != (o.Issuer != "" && !s.Given) || s.Given != (o.Secrets[string(s.Role)] == secret) {
				t.Errorf("%s: %+v, rendered: %v", name, s, rendered)
			}
			if !rendered {
				continue
			}
			var uris []*url.URL
			for _, u := range c.URIs {
				parsed, err := url.Parse(u)
				if err != nil {
					t.Fatal(err)
				}
				uris = append(uris, parsed)
			}
			who, err := identity.Of(&x509.Certificate{URIs: uris})
			if err != nil || who != (identity.Identity{Cluster: "quickstart", Role: s.Role, Name: s.Identity}) || c.CommonName != who.CommonName() {
				t.Errorf("%s: %s is made for %v: %v", name, secret, who, err)
			}
			if !slices.Equal(c.DNSNames, s.Hosts) || !slices.Equal(c.Usages, []string{"digital signature", "server auth", "client auth"}) ||
				c.IssuerRef.Name != "fathom-ca" || c.IssuerRef.Kind != "ClusterIssuer" || c.IssuerRef.Group != "cert-manager.io" || c.Duration.Duration < 24*time.Hour {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, change := range map[string]func(*manifest.Options){
		"an image is needed":        func(o *manifest.Options) { o.Image = "" },
		"other than latest":         func(o *manifest.Options) { o.Image = "localhost:5000/fathom" },
		"a digest":                  func(o *manifest.Options) { o.Image = "fathom:latest" },
		"want 1 to 7":               func(o *manifest.Options) { o.Coordinators = 8 },
		"needs the secret":          func(o *manifest.Options) { o.Etcd = []string{"https://e:2379"} },
		"want an https URL":         func(o *manifest.Options) { o.Etcd, o.EtcdSecret = []string{"http://e:2379"}, "s" },
		"the roles are":             func(o *manifest.Options) { o.Secrets = map[string]string{"server": "x"} },
		"secret of ps has no name":  func(o *manifest.Options) { o.Secrets = map[string]string{"ps": ""} },
		"want NAME, ClusterIssuer":  func(o *manifest.Options) { o.Issuer = "ClusterIssuer/" },
		"the memory of servers and": func(o *manifest.Options) { o.ServerMemory = 0 },
		`pool "2nd": want a letter`: func(o *manifest.Options) { o.Pools = []manifest.Pool{{Name: "2nd", Servers: 3}} },
		"pool a has 2 servers":      func(o *manifest.Options) { o.Pools = []manifest.Pool{{Name: "a", Servers: 2}} },
		"the pools have 4: the -1":  func(o *manifest.Options) { o.Pools = []manifest.Pool{{Name: "a", Servers: 4}} },
		"at most 52 are possible": func(o *manifest.Options) {
			o.Pools = []manifest.Pool{{Name: strings.Repeat("a", 40), Servers: 3}}
		},
	} {
		o := options()
		change(&o)
		_, err := manifest.Render(quickstart(t), o)
		if !errors.Is(err, manifest.ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	o := options()
	o.Image = "fathom@sha256:" + strings.Repeat("0", 64)
	if _, err := manifest.Render(quickstart(t), o); err != nil {
		t.Errorf("an image by digest: %v", err)
	}
	o.Pools = []manifest.Pool{{Name: "a", Servers: 3}, {Name: "a", Servers: 3}}
	if _, err := manifest.Render(quickstart(t, "spec.cluster.ps=6"), o); !errors.Is(err, manifest.ErrOptions) || !strings.Contains(err.Error(), "named twice") {
		t.Errorf("a pool twice: %v", err)
	}
	if _, err := manifest.Render(quickstart(t, "metadata.name="+strings.Repeat("x", 40)), options()); err != nil {
		t.Errorf("the longest name: %v", err)
	}
	if _, err := manifest.Render(quickstart(t, "metadata.name="+strings.Repeat("x", 41)), options()); !errors.Is(err, manifest.ErrOptions) {
		t.Errorf("a long name: %v", err)
	}
}
