package job

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// Difference is a field in which two jobs differ. Before and After are JSON;
// empty: the job has no such field.
type Difference struct{ Path, Before, After string }

// String tells the difference in one line.
func (d Difference) String() string {
	or := func(s string) string {
		if s == "" {
			return "nothing"
		}
		return clip(s)
	}
	return fmt.Sprintf("%s: %s before, %s now", d.Path, or(d.Before), or(d.After))
}

// Differences lists the fields in which a job differs from what it was before,
// in the order of the job file. Both are compared with their defaults.
func Differences(before, now *Job) (all []Difference) {
	was, is := leaves(before), leaves(now)
	for _, l := range is.order {
		if was.values[l] != is.values[l] {
			all = append(all, Difference{l, was.values[l], is.values[l]})
		}
	}
	for _, l := range was.order {
		if _, kept := is.values[l]; !kept {
			all = append(all, Difference{l, was.values[l], ""})
		}
	}
	return all
}

// fields are the values of a job by path, those that have no fields themselves.
type fields struct {
	order  []string
	values map[string]string
}

func leaves(j *Job) fields {
	f := fields{values: map[string]string{}}
	whole := j.WithDefaults()
	walkValues(reflect.ValueOf(whole), "", func(path string, v reflect.Value) {
		t := v.Type()
		if t.Kind() == reflect.Struct || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
			return
		}
		text, err := json.Marshal(v.Interface())
		if err != nil {
			panic(fmt.Sprintf("job: BUG: encode %s: %v", path, err))
		}
		if !slices.Contains([]string{"null", "[]"}, string(text)) {
			f.order = append(f.order, path)
			f.values[path] = string(text)
		}
	})
	return f
}
