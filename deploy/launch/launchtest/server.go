// Package launchtest is a Kubernetes API server for tests: it stores objects,
// merges what is applied and knows whose fields are whose, and makes pods of
// StatefulSets and Jobs. It accepts objects that a real one refuses, so it proves
// the order of things and never that an object is valid.
package launchtest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Object is an object in the shape of its JSON.
type Object = map[string]any

// Server is the API server.
type Server struct {
	// URL is where it listens.
	URL string
	t   testing.TB

	// mu guards all below.
	mu      sync.Mutex
	objects map[string]*stored // "statefulsets/name"
	last    int                // resource version and UID
	kinds   map[string]map[string]string
	denied  []string
	broken  map[string]Breakage
	logs    map[string]string
	ports   map[string]string
	calls   []string
	// budget is how many evictions the disruption budgets refuse from now on.
	budget int
}

// stored is an object and whose its fields are: by manager, then path.
type stored struct {
	Object
	owners map[string]map[string]bool
}

// Breakage is what is wrong with pods.
type Breakage struct {
	// Waiting is why the container waits; empty: it runs and is not ready.
	Waiting, Message string
	// Restarts and ExitCode tell that it has died.
	Restarts, ExitCode int64
	// Failed ends the pod of a Job, for this reason of the Job's failure.
	Failed string
}

// kindsServed are the kinds every cluster here has.
func kindsServed() map[string]map[string]string {
	return map[string]map[string]string{
		"v1": {"Pod": "pods", "Service": "services", "ConfigMap": "configmaps", "Secret": "secrets", "ServiceAccount": "serviceaccounts",
			"PersistentVolumeClaim": "persistentvolumeclaims", "Event": "events", "Namespace": "namespaces"},
		"apps/v1": {"StatefulSet": "statefulsets"}, "batch/v1": {"Job": "jobs"},
		"policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"}, "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
		"rbac.authorization.k8s.io/v1": {"Role": "roles", "RoleBinding": "rolebindings"},
		"authorization.k8s.io/v1":      {"SelfSubjectAccessReview": "selfsubjectaccessreviews"},
	}
}

// New starts a server with one namespace.
func New(t testing.TB, namespace string) *Server {
	s := &Server{t: t, objects: map[string]*stored{}, kinds: kindsServed(), broken: map[string]Breakage{}, logs: map[string]string{}, ports: map[string]string{}}
	s.store("namespaces", Object{"apiVersion": "v1", "kind": "Namespace", "metadata": Object{"name": namespace}}, "test", nil)
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = server.URL
	t.Cleanup(server.Close)
	return s
}

// Kubeconfig writes a file that points at the server.
func (s *Server) Kubeconfig(namespace string) string {
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	writeFile(s.t, path, fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"test",
"clusters":[{"name":"test","cluster":{"server":%q}}],"users":[{"name":"test","user":{}}],
"contexts":[{"name":"test","context":{"cluster":"test","user":"test","namespace":%q}}]}`, s.URL, namespace))
	return path
}

// AddKind makes the cluster have a kind.
func (s *Server) AddKind(version, kind, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds[version] == nil {
		s.kinds[version] = map[string]string{}
	}
	s.kinds[version][kind] = resource
}

// Deny forbids "verb resource", such as "patch statefulsets".
func (s *Server) Deny(what ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = append(s.denied, what...)
}

// Break makes the pods whose name begins with prefix what b says, until Mend.
func (s *Server) Break(prefix string, b Breakage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[prefix] = b
	s.reconcile()
}

// Mend ends what Break did.
func (s *Server) Mend(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.broken, prefix)
	s.reconcile()
}

// RefuseEvictions makes disruption budgets refuse the next n evictions.
func (s *Server) RefuseEvictions(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget = n
}

// Log sets the log of a pod; "previous NAME" is that of the container before.
func (s *Server) Log(pod, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[pod] = text
}

// Put stores an object as somebody else would.
func (s *Server) Put(resource string, o Object, manager string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(resource, o, manager, nil)
	s.reconcile()
}

// Get returns an object, nil if there is none.
func (s *Server) Get(resource, name string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[resource+"/"+name]; o != nil {
		return clone(o.Object)
	}
	return nil
}

// Names lists the objects of a resource.
func (s *Server) Names(resource string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if name, ok := strings.CutPrefix(key, resource+"/"); ok {
			all = append(all, name)
		}
	}
	return all
}

// Calls lists what was changed so far, such as "apply statefulsets/quickstart-ps",
// without dry runs.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// FinishJob ends a Job: done, or failed for a reason.
func (s *Server) FinishJob(name, failed string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	job := s.objects["jobs/"+name]
	condition := Object{"type": "Complete", "status": "True"}
	if failed != "" {
		condition = Object{"type": "Failed", "status": "True", "reason": failed, "message": "a pod failed"}
	}
	nested(job.Object, "status")["conditions"] = []any{condition}
	s.reconcile()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/portforward") {
		s.forward(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("read request: %v", err)
	}
	q := r.URL.Query()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if r.URL.Path == "/version" {
		reply(w, http.StatusOK, Object{"major": "1", "minor": "37"})
		return
	}
	version := "v1"
	if parts[0] == "apis" && len(parts) >= 3 {
		version, parts = parts[1]+"/"+parts[2], parts[3:]
	} else {
		parts = parts[min(2, len(parts)):]
	}
	kinds, served := s.kinds[version]
	if !served {
		refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", nil)
		return
	}
	if len(parts) == 0 {
		var all []any
		for kind, resource := range kinds {
			all = append(all, Object{"name": resource, "kind": kind}, Object{"name": resource + "/status", "kind": kind})
		}
		reply(w, http.StatusOK, Object{"kind": "APIResourceList", "groupVersion": version, "resources": all})
		return
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	parts = append(parts, "", "")
	s.object(w, r, request{resource: parts[0], name: parts[1], sub: parts[2], body: body, kind: r.Header.Get("Content-Type"),
		manager: q.Get("fieldManager"), force: q.Get("force") == "true", dry: q.Get("dryRun") == "All", selector: q.Get("labelSelector")})
}

// request is one call about an object.
type request struct {
	resource, name, sub string
	body                []byte
	kind, manager       string
	force, dry          bool
	selector            string
}

func (s *Server) object(w http.ResponseWriter, r *http.Request, q request) {
	verb := map[string]string{"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[r.Method]
	if verb == "get" && q.name == "" {
		verb = "list"
	}
	if q.resource == "selfsubjectaccessreviews" {
		s.review(w, q.body)
		return
	}
	if slices.Contains(s.denied, verb+" "+q.resource) {
		refuse(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("%s is forbidden: you cannot %s resource %q", q.resource, verb, q.resource), nil)
		return
	}
	if verb == "list" {
		s.list(w, q)
		return
	}
	have := s.objects[q.resource+"/"+q.name]
	isApply := strings.Contains(q.kind, "apply-patch")
	if have == nil && !isApply {
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", q.resource, q.name), nil)
		return
	}
	switch {
	case q.sub == "log":
		name := q.name
		if r.URL.Query().Get("previous") == "true" {
			name = "previous " + name
		}
		fmt.Fprint(w, tail(s.logs[name], r.URL.Query().Get("tailLines")))
	case q.sub == "eviction" && s.budget > 0:
		s.budget--
		refuse(w, http.StatusTooManyRequests, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", nil)
	case q.sub == "eviction":
		s.note(q, "evict")
		s.remove(q.resource, q.name)
		reply(w, http.StatusCreated, Object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case verb == "get":
		reply(w, http.StatusOK, have.withFields())
	case verb == "delete":
		s.note(q, "delete")
		s.remove(q.resource, q.name)
		reply(w, http.StatusOK, Object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case isApply:
		s.apply(w, q, have)
	case verb == "patch":
		s.merge(w, q, have)
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method, nil)
	}
}

func (s *Server) note(q request, verb string) {
	if !q.dry {
		s.calls = append(s.calls, verb+" "+q.resource+"/"+q.name)
	}
}

func (s *Server) review(w http.ResponseWriter, body []byte) {
	var review struct {
		Spec struct {
			ResourceAttributes struct{ Verb, Resource, Subresource string }
		}
	}
	if err := json.Unmarshal(body, &review); err != nil {
		s.t.Errorf("access review: %v", err)
	}
	a := review.Spec.ResourceAttributes
	what := strings.TrimSuffix(a.Verb+" "+a.Resource+"/"+a.Subresource, "/")
	allowed := !slices.Contains(s.denied, what) && (a.Verb != "*" || len(s.denied) == 0)
	reply(w, http.StatusCreated, Object{"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": Object{"allowed": allowed}})
}

func (s *Server) list(w http.ResponseWriter, q request) {
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		o := s.objects[key]
		if strings.HasPrefix(key, q.resource+"/") && selects(q.selector, o.Object) {
			items = append(items, o.withFields())
		}
	}
	reply(w, http.StatusOK, Object{"kind": "List", "apiVersion": "v1", "metadata": Object{"resourceVersion": strconv.Itoa(s.last)}, "items": items})
}

// selects tells whether an object has all the labels, given as a=b,c=d.
func selects(selector string, o Object) bool {
	labels := nested(o, "metadata", "labels")
	for _, one := range strings.Split(selector, ",") {
		key, value, _ := strings.Cut(one, "=")
		if key != "" && labels[key] != value {
			return false
		}
	}
	return true
}

// tail returns the last n lines.
func tail(text, n string) string {
	count, err := strconv.Atoi(n)
	lines := strings.SplitAfter(text, "\n")
	if err != nil || len(lines) <= count {
		return text
	}
	return strings.Join(lines[len(lines)-count-1:], "")
}

func reply(w http.ResponseWriter, code int, o any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o) // the client went away
}

func refuse(w http.ResponseWriter, code int, reason, message string, causes []any) {
	reply(w, code, Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
		"details": Object{"causes": causes}})
}
