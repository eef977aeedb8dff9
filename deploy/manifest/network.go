package manifest

import (
	"strings"

	"github.com/fathom-train/fathom/proto/identity"
)

// The ports of the pods, by their names in the objects.
const (
	grpcPort    = 7070
	metricsPort = 9090
	clientPort  = 2379 // of etcd
	peerPort    = 2380 // of etcd
)

func (r render) accounts() []Object {
	var all []Object
	for _, c := range r.components() {
		all = append(all, object("v1", "ServiceAccount", r.meta(r.name(c), c), Object{"automountServiceAccountToken": false}))
	}
	return all
}

// rights let the coordinators keep the workers' Job, and nothing else. Pods have
// no names that could be listed here: they may be seen, and evicted, which the
// budgets of the other pods withstand.
func (r render) rights() []Object {
	name := r.name(compCoordinator)
	rule := func(verbs []any, group, resource string) Object {
		return Object{"apiGroups": []any{group}, "resources": []any{resource}, "verbs": verbs}
	}
	workers := rule([]any{"get", "patch"}, "batch", "jobs")
	workers["resourceNames"] = []any{r.name(compWorker)}
	return []Object{
		object("rbac.authorization.k8s.io/v1", "Role", r.meta(name, compCoordinator), Object{"rules": []any{
			workers,
			rule([]any{"list"}, "", "pods"),
			rule([]any{"create"}, "", "pods/eviction"),
			rule([]any{"create"}, "", "events"),
		}}),
		object("rbac.authorization.k8s.io/v1", "RoleBinding", r.meta(name, compCoordinator), Object{
			"roleRef":  Object{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
			"subjects": []any{Object{"kind": "ServiceAccount", "name": name, "namespace": r.o.Namespace}},
		}),
	}
}

// JobFile is the key of the job in its ConfigMap, and the file's name.
const JobFile = "job.json"

// JobConfig is the name of the ConfigMap with a job.
func JobConfig(job string) string { return job + "-job" }

func (r render) configMap() Object {
	return object("v1", "ConfigMap", r.meta(JobConfig(r.job.Metadata.Name), ""), Object{"data": Object{JobFile: string(r.job.JSON())}})
}

// secret is the name of the secret of a role's credentials.
func (r render) secret(role identity.Role) string {
	if given := r.o.Secrets[string(role)]; given != "" {
		return given
	}
	return r.job.Metadata.Name + "-" + string(role) + "-tls"
}

// Secrets lists the secrets that must exist, with the role and the name that
// the certificate in each must carry and the hosts it must be valid for.
func Secrets(jobName string, o Options) []Secret {
	o = o.withDefaults()
	r := render{o: o}
	r.job = named(jobName)
	var all []Secret
	add := func(role identity.Role, name string, hosts []string) {
		all = append(all, Secret{Name: r.secret(role), Role: role, Identity: name, Hosts: hosts, Given: o.Secrets[string(role)] != ""})
	}
	for _, c := range r.components() {
		add(identity.Role(c), r.name(c), r.hosts(c))
	}
	add(identity.Admin, "admin", nil)
	if o.Monitor {
		add(identity.Viewer, "prometheus", nil)
	}
	return all
}

// Secret is one secret of type kubernetes.io/tls with ca.crt beside.
type Secret struct {
	Name     string
	Role     identity.Role
	Identity string // of the certificate; pods add -N to it
	Hosts    []string
	// Given: Options name it, so it exists.
	Given bool
}

// hosts are the names at which a component is dialled.
func (r render) hosts(c component) []string {
	hosts := []string{r.host(c, "*")}
	if c == compCoordinator {
		// The command line comes through a forwarded port.
		hosts = append(hosts, r.name(c)+"."+r.o.Namespace+".svc", "localhost")
	}
	return hosts
}

// issuer is the reference to the one that signs.
func (r render) issuer() Object {
	kind, name, found := strings.Cut(r.o.Issuer, "/")
	if !found {
		kind, name = "Issuer", r.o.Issuer
	}
	kind, group, found := strings.Cut(kind, ".")
	if !found {
		group = "cert-manager.io"
	}
	return Object{"name": name, "kind": kind, "group": group}
}

// certificates are cert-manager's, when an issuer is named.
func (r render) certificates() []Object {
	if r.o.Issuer == "" {
		return nil
	}
	var all []Object
	for _, s := range Secrets(r.job.Metadata.Name, r.o) {
		if s.Given {
			continue
		}
		who := identity.Identity{Cluster: r.job.Metadata.Name, Role: s.Role, Name: s.Identity}
		spec := Object{
			"secretName": s.Name,
			// The role is in the URI; the common name is for etcd's users.
			"commonName": who.CommonName(),
			"uris":       []any{who.URI().String()},
			"usages":     []any{"digital signature", "server auth", "client auth"},
			"duration":   "720h",
			"privateKey": Object{"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
			"issuerRef":  r.issuer(),
		}
		if len(s.Hosts) > 0 {
			spec["dnsNames"] = list(s.Hosts)
		}
		all = append(all, object("cert-manager.io/v1", "Certificate", r.meta(strings.TrimSuffix(s.Name, "-tls"), component(s.Role)), Object{"spec": spec}))
	}
	return all
}

// services name the pods of each component; a pod that is not ready must be
// found, too, or a group that waits for it would never become ready.
func (r render) services() []Object {
	var all []Object
	for _, c := range r.components() {
		all = append(all, object("v1", "Service", r.meta(r.name(c), c), Object{"spec": Object{
			"clusterIP":                "None",
			"publishNotReadyAddresses": true,
			"selector":                 r.labels(c),
			"ports":                    servicePorts(c),
		}}))
	}
	return all
}

func servicePorts(c component) []any {
	var ports []any
	for _, p := range portsOf(c) {
		ports = append(ports, Object{"name": p.name, "port": p.number, "targetPort": p.name})
	}
	return ports
}

// port is a port of a container.
type port struct {
	name   string
	number int
}

func portsOf(c component) []port {
	metrics := port{"metrics", metricsPort}
	switch c {
	case compEtcd:
		return []port{{"client", clientPort}, {"peer", peerPort}, metrics}
	case compWorker:
		return []port{metrics}
	}
	return []port{{"grpc", grpcPort}, metrics}
}

// budgets let one pod of each set be taken away at a time: a majority of every
// shard stays, as its replicas are in one pool.
func (r render) budgets() []Object {
	var all []Object
	for _, c := range r.components() {
		if c == compWorker {
			continue // a worker holds nothing that would be missed
		}
		if c != compPS {
			all = append(all, budget(r.meta(r.name(c), c), Object{"matchLabels": r.labels(c)}))
			continue
		}
		for _, p := range r.pools() {
			all = append(all, budget(r.poolMeta(p.Name), r.poolSelector(p.Name)))
		}
	}
	return all
}

func budget(meta, selector Object) Object {
	return object("policy/v1", "PodDisruptionBudget", meta, Object{"spec": Object{"maxUnavailable": 1, "selector": selector}})
}

// policies let in who has business with a component, and nobody else.
func (r render) policies() []Object {
	from := map[component][]component{
		compEtcd:        {compCoordinator},
		compCoordinator: {compCoordinator, compPS, compWorker},
		compPS:          {compPS, compWorker},
	}
	var all []Object
	for _, c := range r.components() {
		var rules []any
		for _, p := range portsOf(c) {
			rule := Object{"ports": []any{Object{"port": p.name, "protocol": "TCP"}}}
			switch {
			case p.name == "metrics":
				// Prometheus is in a namespace of its own; TLS and the role decide.
				rule["from"] = []any{Object{"namespaceSelector": Object{}}}
			case p.name == "peer":
				rule["from"] = r.peers([]component{c})
			default:
				rule["from"] = r.peers(from[c])
			}
			rules = append(rules, rule)
		}
		all = append(all, object("networking.k8s.io/v1", "NetworkPolicy", r.meta(r.name(c), c), Object{"spec": Object{
			"podSelector": Object{"matchLabels": r.labels(c)},
			"policyTypes": []any{"Ingress"},
			"ingress":     rules,
		}}))
	}
	return all
}

func (r render) peers(cs []component) []any {
	var peers []any
	for _, c := range cs {
		peers = append(peers, Object{"podSelector": Object{"matchLabels": r.labels(c)}})
	}
	return peers
}

// monitor lets a Prometheus operator find the metrics, as a viewer.
func (r render) monitor() Object {
	ref := func(key string) Object { return Object{"name": r.secret(identity.Viewer), "key": key} }
	return object("monitoring.coreos.com/v1", "PodMonitor", r.meta(r.job.Metadata.Name, ""), Object{"spec": Object{
		"selector": Object{"matchLabels": Object{"app.kubernetes.io/name": "fathom", "app.kubernetes.io/instance": r.job.Metadata.Name}},
		"podMetricsEndpoints": []any{Object{
			"port": "metrics", "scheme": "https",
			"tlsConfig": Object{
				"ca":        Object{"secret": ref(identity.CAFile)},
				"cert":      Object{"secret": ref(identity.CertFile)},
				"keySecret": ref(identity.KeyFile),
				// Pods are scraped by address, certificates carry names.
				"insecureSkipVerify": true,
			},
		}},
	}})
}

func list(s []string) []any {
	all := make([]any, len(s))
	for i := range s {
		all[i] = s[i]
	}
	return all
}
