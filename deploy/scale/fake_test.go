package scale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const (
	testNamespace = "default"
	testJob       = "quickstart-worker"
)

// fakeServer is as much of a cluster's API as the coordinator's rendered Role
// lets it use. It decodes strictly, and keeps the rules of an Indexed Job that
// matter here.
type fakeServer struct {
	t    *testing.T
	role rbacv1.Role

	mu      sync.Mutex
	job     batchv1.Job
	version int
	pods    map[string]*corev1.Pod
	evicted []string
	events  []corev1.Event
	patches int
}

// newFake returns a server whose Job has n workers and as many pods, which run
// for an hour.
func newFake(t *testing.T, n int32) (*fakeServer, *Kubernetes) {
	t.Helper()
	f := &fakeServer{t: t, role: renderedRole(t), version: 1, pods: map[string]*corev1.Pod{}}
	f.job = batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Name: testJob, Namespace: testNamespace, UID: "1234"}}
	completions := n
	f.job.Spec.Parallelism, f.job.Spec.Completions = &n, &completions
	f.reconcile(time.Now().Add(-time.Hour))
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	k, err := Connect(&rest.Config{Host: server.URL}, testNamespace, "quickstart-coordinator-0", testJob)
	if err != nil {
		t.Fatal(err)
	}
	return f, k
}

// renderedRole reads the rights from the manifest's golden file.
func renderedRole(t *testing.T) rbacv1.Role {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "manifest", "testdata", "plain.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.Role
	for _, document := range strings.Split(string(text), "---\n") {
		if strings.Contains(document, "\nkind: Role\n") {
			if err := yaml.UnmarshalStrict([]byte(document), &role); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(role.Rules) == 0 {
		t.Fatal("the manifest renders no role")
	}
	return role
}

// allowed is what the API's authorizer says. A create has no name to look at.
func (f *fakeServer) allowed(verb, group, resource, name string) bool {
	return slices.ContainsFunc(f.role.Rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Verbs, verb) && slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) &&
			(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, name))
	})
}

// reconcile does what the Job's controller does: a pod for every index, none for
// those there should not be. New ones run since the time given.
func (f *fakeServer) reconcile(since time.Time) {
	for i := range 100 {
		name := fmt.Sprintf("%s-%d-abcde", testJob, i)
		switch wanted := i < int(*f.job.Spec.Parallelism); {
		case wanted && f.pods[name] == nil:
			start := metav1.NewTime(since)
			f.pods[name] = &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: testNamespace, Labels: map[string]string{batchv1.JobNameLabel: testJob},
					Annotations: map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(i)}},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &start}}
		case !wanted:
			delete(f.pods, name)
		}
	}
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	const inJobs, inPods = "/apis/batch/v1/namespaces/" + testNamespace + "/jobs/", "/api/v1/namespaces/" + testNamespace + "/pods"
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	refuse := func(code int32, reason metav1.StatusReason) {
		reply(w, int(code), metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: code, Reason: reason, Message: r.Method + " " + r.URL.Path})
	}
	switch {
	case r.Method == "GET" && r.URL.Path == inJobs+name && f.allowed("get", "batch", "jobs", name):
		if name != testJob {
			refuse(404, metav1.StatusReasonNotFound)
			return
		}
		reply(w, 200, f.current())
	case r.Method == "PATCH" && r.URL.Path == inJobs+name && f.allowed("patch", "batch", "jobs", name):
		f.patch(w, r, body, refuse)
	case r.Method == "GET" && r.URL.Path == inPods && f.allowed("list", "", "pods", ""):
		f.list(w, r)
	case r.Method == "POST" && name == "eviction" && f.allowed("create", "", "pods/eviction", ""):
		var e policyv1.Eviction
		f.decode(body, &e)
		if f.pods[e.Name] == nil || r.URL.Path != inPods+"/"+e.Name+"/eviction" {
			refuse(404, metav1.StatusReasonNotFound)
			return
		}
		f.evicted = append(f.evicted, e.Name)
		delete(f.pods, e.Name)
		f.reconcile(time.Now())
		reply(w, 201, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Success"})
	case r.Method == "POST" && name == "events" && f.allowed("create", "", "events", ""):
		var e corev1.Event
		f.decode(body, &e)
		f.events = append(f.events, e)
		reply(w, 201, e)
	default:
		refuse(403, metav1.StatusReasonForbidden)
	}
}

func (f *fakeServer) current() *batchv1.Job {
	f.job.ResourceVersion = fmt.Sprint(f.version)
	return &f.job
}

func (f *fakeServer) patch(w http.ResponseWriter, r *http.Request, body []byte, refuse func(int32, metav1.StatusReason)) {
	var change batchv1.Job
	f.decode(body, &change)
	if got := types.PatchType(r.Header.Get("Content-Type")); got != types.MergePatchType || r.URL.Query().Get("fieldManager") == "" {
		f.t.Errorf("a patch of type %s by %q", got, r.URL.Query().Get("fieldManager"))
	}
	if change.ResourceVersion != fmt.Sprint(f.version) {
		refuse(409, metav1.StatusReasonConflict)
		return
	}
	if c := change.Spec.Completions; c != nil && *c != *f.job.Spec.Completions && *c != *change.Spec.Parallelism {
		refuse(422, metav1.StatusReasonInvalid)
		return
	}
	if err := json.Unmarshal(body, &f.job); err != nil { // merges into what is there
		f.t.Error(err)
	}
	if *f.job.Spec.Completions == 0 {
		f.t.Error("a Job without indexes is complete for ever")
	}
	f.version++
	f.patches++
	f.reconcile(time.Now().Add(-time.Hour))
	reply(w, 200, f.current())
}

// list answers in pages of two, as a server may.
func (f *fakeServer) list(w http.ResponseWriter, r *http.Request) {
	if got := r.URL.Query().Get("labelSelector"); got != batchv1.JobNameLabel+"="+testJob {
		f.t.Errorf("all pods of %q are asked for", got)
	}
	var names []string
	for name := range f.pods {
		names = append(names, name)
	}
	slices.Sort(names)
	l := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, name := range names {
		if name <= r.URL.Query().Get("continue") {
			continue
		}
		if len(l.Items) == 2 {
			l.Continue = l.Items[1].Name
			break
		}
		l.Items = append(l.Items, *f.pods[name])
	}
	reply(w, 200, l)
}

func (f *fakeServer) decode(body []byte, into any) {
	f.t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		f.t.Errorf("%v\n%s", err, body)
	}
}

func reply(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object) // the client sees what is missing
}
