package job

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// schemaNode is the part of JSON Schema (draft 2020-12) that a job needs.
type schemaNode struct {
	Schema      string                 `json:"$schema,omitempty"`
	Title       string                 `json:"title,omitempty"`
	Description string                 `json:"description,omitempty"`
	Type        string                 `json:"type"`
	Enum        []string               `json:"enum,omitempty"`
	Minimum     *float64               `json:"minimum,omitempty"`
	Maximum     *float64               `json:"maximum,omitempty"`
	Default     any                    `json:"default,omitempty"`
	Items       *schemaNode            `json:"items,omitempty"`
	Properties  map[string]*schemaNode `json:"properties,omitempty"`
	Required    []string               `json:"required,omitempty"`
	Additional  *bool                  `json:"additionalProperties,omitempty"`
}

// JSONSchema returns the JSON Schema of a job file, for editors and checkers.
// It knows names, types, ranges and descriptions; Validate knows the rest, such
// as what depends on another field.
func JSONSchema() []byte {
	root := schemaOf(reflect.TypeFor[Job](), "", defaultValues())
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "fathom " + Kind
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("job: BUG: encode the schema: %v", err))
	}
	return append(b, '\n')
}

func schemaOf(t reflect.Type, path string, defaults map[string]any) *schemaNode {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	r := rules[path]
	n := &schemaNode{Description: r.doc, Type: schemaType(t), Default: defaults[path]}
	for _, value := range r.oneOf {
		if value != "" { // which is: left out
			n.Enum = append(n.Enum, value)
		}
	}
	if r.ranged {
		n.Minimum, n.Maximum = &r.min, &r.max
	}
	switch t.Kind() {
	case reflect.Uint64:
		n.Minimum = new(float64)
	case reflect.Slice:
		n.Items = schemaOf(t.Elem(), path+"[]", defaults)
	case reflect.Struct:
		n.Additional = new(bool)
		n.Properties = map[string]*schemaNode{}
		for _, m := range members(t) {
			here := join(path, m.name)
			n.Properties[m.name] = schemaOf(m.typ, here, defaults)
			if rules[here].required {
				n.Required = append(n.Required, m.name)
			}
		}
	}
	return n
}

func schemaType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		return "object"
	case reflect.Slice:
		return "array"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "integer"
	}
	panic(fmt.Sprintf("job: BUG: no JSON Schema is defined for %s", t))
}

// defaultValues returns the value, by pattern, of every plain field that has
// one whatever the rest of the job says.
func defaultValues() map[string]any {
	j := Job{Spec: Spec{Data: Data{
		Format: FormatSynthetic, Synthetic: &Synthetic{}, Fields: []Field{{Name: "f"}},
	}, Search: &Search{Pruning: &Pruning{}}}}.WithDefaults()
	values := map[string]any{}
	walkValues(reflect.ValueOf(&j).Elem(), "", func(path string, v reflect.Value) {
		path = pattern(path)
		r := rules[path]
		if v.Kind() == reflect.Struct || r.required || r.def != "" || within(path, "spec.train.dense_optimizer") {
			return
		}
		switch v.Kind() {
		case reflect.Slice, reflect.String:
			if isZero(v) {
				return
			}
		case reflect.Float32:
			// Through the shortest decimal form, so that 0.1 is not 0.10000000149.
			var x json.Number
			if err := json.Unmarshal(encode(v.Interface()), &x); err == nil {
				values[path] = x
			}
			return
		}
		values[path] = v.Interface()
	})
	delete(values, "spec.data.format")
	return values
}
