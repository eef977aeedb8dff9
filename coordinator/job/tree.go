package job

import (
	"reflect"
	"strconv"
	"strings"
)

// The job is read, checked, documented and explained by walking its Go types,
// so that a field exists in all of these places or in none. A path names a
// value (spec.data.fields[2].name), a pattern all of its like
// (spec.data.fields[].name).

// member is one field of a struct of the job.
type member struct {
	name  string // in YAML and JSON
	index int
	typ   reflect.Type
}

// members returns the fields of a struct type, in order.
func members(t reflect.Type) []member {
	all := make([]member, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, member{name: name, index: i, typ: f.Type})
	}
	return all
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// pattern returns the pattern that path is one of.
func pattern(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		b.WriteByte(path[i])
		if path[i] == '[' {
			for i+1 < len(path) && path[i+1] != ']' {
				i++
			}
		}
	}
	return b.String()
}

// walkTypes calls visit with the pattern and type of everything below a type,
// parents first.
func walkTypes(t reflect.Type, path string, visit func(path string, t reflect.Type)) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if path != "" {
		visit(path, t)
	}
	switch t.Kind() {
	case reflect.Struct:
		for _, m := range members(t) {
			walkTypes(m.typ, join(path, m.name), visit)
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			walkTypes(t.Elem(), path+"[]", visit)
		}
	}
}

// walkValues calls visit with the path and value of everything below a value,
// parents first. Nil pointers are not visited.
func walkValues(v reflect.Value, path string, visit func(path string, v reflect.Value)) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if path != "" {
		visit(path, v)
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, m := range members(v.Type()) {
			walkValues(v.Field(m.index), join(path, m.name), visit)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				walkValues(v.Index(i), at(path, i), visit)
			}
		}
	}
}

// isZero tells whether a value counts as left out.
func isZero(v reflect.Value) bool {
	if v.Kind() == reflect.Slice {
		return v.Len() == 0
	}
	return v.IsZero()
}
