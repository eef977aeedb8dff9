package launchtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// apply merges as server-side apply does, with lists as one value each.
func (s *Server) apply(w http.ResponseWriter, q request, have *stored) {
	var wanted Object
	if err := json.Unmarshal(q.body, &wanted); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
		return
	}
	next := &stored{Object: Object{}, owners: map[string]map[string]bool{}}
	if have != nil {
		next = have.clone()
	}
	fields := leaves(wanted)
	old := leaves(next.Object)
	var causes []any
	for _, path := range slices.Sorted(maps.Keys(fields)) {
		for _, other := range slices.Sorted(maps.Keys(next.owners)) {
			if other != q.manager+" Apply" && next.owners[other][path] && !reflect.DeepEqual(old[path], fields[path]) {
				causes = append(causes, Object{"reason": "FieldManagerConflict", "field": "." + strings.ReplaceAll(path, "\x00", "."),
					"message": fmt.Sprintf("conflict with %q", strings.Fields(other)[0])})
				if q.force {
					delete(next.owners[other], path)
				}
			}
		}
	}
	if len(causes) > 0 && !q.force {
		refuse(w, http.StatusConflict, "Conflict", "Apply failed with conflicts", causes)
		return
	}
	me := q.manager + " Apply"
	for path := range next.owners[me] {
		if _, still := fields[path]; !still && !next.ownedByOther(me, path) {
			unset(next.Object, strings.Split(path, "\x00"))
		}
	}
	next.owners[me] = map[string]bool{}
	for path, value := range fields {
		next.owners[me][path] = true
		set(next.Object, strings.Split(path, "\x00"), value)
	}
	for _, f := range []string{"apiVersion", "kind"} {
		next.Object[f] = wanted[f]
	}
	s.finish(w, q, have, next, "apply")
}

// merge is a JSON merge patch; what it changes belongs to its manager alone.
func (s *Server) merge(w http.ResponseWriter, q request, have *stored) {
	var patch Object
	if err := json.Unmarshal(q.body, &patch); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
		return
	}
	next := have.clone()
	me := q.manager + " Update"
	for path, value := range leaves(patch) {
		keys := strings.Split(path, "\x00")
		if reflect.DeepEqual(leaves(next.Object)[path], value) {
			continue
		}
		if value == nil {
			unset(next.Object, keys)
			continue
		}
		set(next.Object, keys, value)
		for _, paths := range next.owners {
			delete(paths, path)
		}
		if next.owners[me] == nil {
			next.owners[me] = map[string]bool{}
		}
		next.owners[me][path] = true
	}
	s.finish(w, q, have, next, "patch")
}

// finish checks, stores unless it is a dry run, and answers.
func (s *Server) finish(w http.ResponseWriter, q request, have, next *stored, verb string) {
	for resource, field := range map[string]string{"jobs": "template", "statefulsets": "volumeClaimTemplates"} {
		if q.resource == resource && have != nil && !reflect.DeepEqual(nested(have.Object, "spec")[field], nested(next.Object, "spec")[field]) {
			refuse(w, http.StatusUnprocessableEntity, "Invalid", "it is invalid: spec."+field+": field is immutable",
				[]any{Object{"reason": "FieldValueInvalid", "field": "spec." + field, "message": "Invalid value: ...: field is immutable"}})
			return
		}
	}
	if q.resource == "rolebindings" && s.objects[fmt.Sprint("roles/", nested(next.Object, "roleRef")["name"])] == nil {
		refuse(w, http.StatusNotFound, "NotFound", "the role of the binding is not found", nil)
		return
	}
	if q.resource == "services" { // a default, as a real server fills in
		set(next.Object, []string{"spec", "type"}, "ClusterIP")
	}
	changed := have == nil || !reflect.DeepEqual(clone(have.Object), clone(next.Object))
	if q.dry {
		if have == nil {
			nested(next.Object, "metadata")["uid"] = "dry"
		}
		reply(w, http.StatusOK, next.withFields())
		return
	}
	s.note(q, verb)
	if changed {
		s.store(q.resource, next.Object, "", next.owners)
	} else {
		have.owners = next.owners
	}
	s.reconcile()
	reply(w, http.StatusOK, s.objects[q.resource+"/"+q.name].withFields())
}

// store keeps an object and counts it up; without owners all of it is manager's.
func (s *Server) store(resource string, o Object, manager string, owners map[string]map[string]bool) {
	s.last++
	o = clone(o)
	meta := nested(o, "metadata")
	meta["resourceVersion"] = strconv.Itoa(s.last)
	if meta["uid"] == nil || meta["uid"] == "dry" {
		meta["uid"] = fmt.Sprintf("uid-%d", s.last)
		meta["creationTimestamp"] = "2026-01-02T03:04:05Z"
	}
	generation, _ := meta["generation"].(float64)
	meta["generation"] = generation + 1
	if owners == nil {
		owners = map[string]map[string]bool{manager + " Update": {}}
		for path := range leaves(o) {
			owners[manager+" Update"][path] = true
		}
	}
	s.objects[resource+"/"+fmt.Sprint(meta["name"])] = &stored{clone(o), owners}
}

// remove deletes an object and the pods that were made for it.
func (s *Server) remove(resource, name string) {
	delete(s.objects, resource+"/"+name)
	for key, o := range s.objects {
		if strings.HasPrefix(key, "pods/") && nested(o.Object, "metadata")["owner"] == resource+"/"+name {
			delete(s.objects, key)
		}
	}
	s.reconcile()
}

// leaves lists the values of an object by path; what names it is left out.
func leaves(o Object) map[string]any {
	all := map[string]any{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			all[prefix] = v
			return
		}
		for k, inner := range m {
			walk(strings.TrimPrefix(prefix+"\x00"+k, "\x00"), inner)
		}
	}
	walk("", map[string]any(o))
	for _, p := range []string{"apiVersion", "kind", "metadata\x00uid", "metadata\x00resourceVersion", "metadata\x00generation", "metadata\x00creationTimestamp"} {
		delete(all, p)
	}
	return all
}

func (o *stored) ownedByOther(me, path string) bool {
	for who, paths := range o.owners {
		if who != me && paths[path] {
			return true
		}
	}
	return false
}

func (o *stored) clone() *stored {
	c := &stored{clone(o.Object), map[string]map[string]bool{}}
	for who, paths := range o.owners {
		c.owners[who] = maps.Clone(paths)
	}
	return c
}

// withFields adds metadata.managedFields.
func (o *stored) withFields() Object {
	out := clone(o.Object)
	var managed []any
	for _, who := range slices.Sorted(maps.Keys(o.owners)) {
		fields := Object{}
		for path := range o.owners[who] {
			keys := strings.Split(path, "\x00")
			for i := range keys {
				keys[i] = "f:" + keys[i]
			}
			set(fields, keys, Object{})
		}
		name, operation, _ := strings.Cut(who, " ")
		managed = append(managed, Object{"manager": name, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields})
	}
	nested(out, "metadata")["managedFields"] = managed
	return out
}

// nested returns the map at a path and makes it if it is not there.
func nested(o Object, path ...string) Object {
	for _, p := range path {
		next, ok := o[p].(map[string]any)
		if !ok {
			next = Object{}
			o[p] = next
		}
		o = next
	}
	return o
}

func set(o Object, path []string, value any) {
	nested(o, path[:len(path)-1]...)[path[len(path)-1]] = value
}

func unset(o Object, path []string) {
	delete(nested(o, path[:len(path)-1]...), path[len(path)-1])
}

func clone(o Object) Object {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	var c Object
	if err := json.Unmarshal(text, &c); err != nil {
		panic(err)
	}
	return c
}

func writeFile(t testing.TB, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
