package job

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestEveryFieldHasOneRule(t *testing.T) {
	var paths []string
	walkTypes(reflect.TypeFor[Job](), "", func(path string, typ reflect.Type) {
		paths = append(paths, path)
		r, ok := rules[path]
		if !ok || !strings.HasSuffix(r.doc, ".") {
			t.Errorf("%s: no description", path)
		}
		switch typ.Kind() {
		case reflect.Int, reflect.Int64:
			if !r.ranged {
				t.Errorf("%s: a number without a range", path)
			}
		}
	})
	for path := range rules {
		if !slices.Contains(paths, path) {
			t.Errorf("%s: a rule without a field", path)
		}
	}
}

// accepts checks value against the parts of JSON Schema that JSONSchema uses,
// and fails on any other part, so that nothing in the schema goes unchecked.
func accepts(schema map[string]any, value any, path string) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, path+": "+fmt.Sprintf(format, args...))
	}
	number, isNumber := value.(float64)
	for key, want := range schema {
		ok := true
		switch key {
		case "$schema", "title", "description", "default":
		case "type":
			switch want {
			case "object":
				_, ok = value.(map[string]any)
			case "array":
				_, ok = value.([]any)
			case "string":
				_, ok = value.(string)
			case "boolean":
				_, ok = value.(bool)
			case "number":
				ok = isNumber
			case "integer":
				ok = isNumber && number == math.Trunc(number)
			default:
				ok = false
			}
		case "enum":
			ok = slices.Contains(want.([]any), value)
		case "minimum":
			ok = !isNumber || number >= want.(float64)
		case "maximum":
			ok = !isNumber || number <= want.(float64)
		case "items":
			items, _ := value.([]any)
			for i, item := range items {
				faults = append(faults, accepts(want.(map[string]any), item, at(path, i))...)
			}
		case "properties":
			object, _ := value.(map[string]any)
			for name, v := range object {
				if property, known := want.(map[string]any)[name]; known {
					faults = append(faults, accepts(property.(map[string]any), v, join(path, name))...)
				}
			}
		case "required":
			object, _ := value.(map[string]any)
			for _, name := range want.([]any) {
				if _, given := object[name.(string)]; !given {
					fault("%s is missing", name)
				}
			}
		case "additionalProperties":
			object, _ := value.(map[string]any)
			for name := range object {
				if _, known := schema["properties"].(map[string]any)[name]; !known && want == false {
					fault("%s is unknown", name)
				}
			}
		default:
			fault("the schema says %s, which this test does not know", key)
		}
		if !ok {
			fault("%v is not of %s %v", value, key, want)
		}
	}
	return faults
}

func jsonValue(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSchemaHasTheTypesOfTheFields(t *testing.T) {
	schema := jsonValue(t, JSONSchema())
	if !bytesEqual(JSONSchema(), JSONSchema()) {
		t.Error("the schema is not the same every time")
	}
	want := map[string]string{}
	walkTypes(reflect.TypeFor[Job](), "", func(path string, typ reflect.Type) {
		kinds := map[reflect.Kind]string{reflect.Struct: "object", reflect.Slice: "array", reflect.String: "string",
			reflect.Bool: "boolean", reflect.Float32: "number", reflect.Float64: "number",
			reflect.Int: "integer", reflect.Int64: "integer", reflect.Uint64: "integer"}
		want[path] = kinds[typ.Kind()]
	})
	got := map[string]string{}
	var walk func(node map[string]any, path string)
	walk = func(node map[string]any, path string) {
		if path != "" {
			got[path] = node["type"].(string)
		}
		if items, ok := node["items"].(map[string]any); ok && items["type"] == "object" {
			walk(items, path+"[]")
		}
		properties, _ := node["properties"].(map[string]any)
		for name, p := range properties {
			walk(p.(map[string]any), join(path, name))
		}
	}
	walk(schema, "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("schema (-fields +schema):\n%s", diff)
	}
	d := schema["properties"].(map[string]any)["spec"].(map[string]any)["properties"].(map[string]any)["train"].(map[string]any)
	if d = d["properties"].(map[string]any)["epochs"].(map[string]any); d["default"] != 1.0 || d["minimum"] != 1.0 || d["maximum"] != 10000.0 {
		t.Errorf("epochs: %v", d)
	}
}

func bytesEqual(a, b []byte) bool { return string(a) == string(b) }

func TestExamplesFollowTheSchema(t *testing.T) {
	schema := jsonValue(t, JSONSchema())
	for _, name := range exampleNames(t) {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "jobs", name))
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		given, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for what, b := range map[string][]byte{"file": given, "resolved": example(t, name).JSON()} {
			for _, f := range accepts(schema, jsonValue(t, b), "") {
				t.Errorf("%s, %s: %s", name, what, f)
			}
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := jsonValue(t, JSONSchema())
	for old, replacement := range map[string]string{
		`"epochs":1`: `"epochs":0`, `"seed":0`: `"seed":-1`, `"format":"csv"`: `"format":"cvs"`,
		`"name":"user",`: ``, `"lanes":4`: `"lines":4`, `"train":["a.csv"]`: `"train":"a.csv"`, `"batch_size":100`: `"batch_size":1.5`,
	} {
		text := strings.Replace(string(mustParse(t, "f", small).JSON()), old, replacement, 1)
		if len(accepts(schema, jsonValue(t, []byte(text)), "")) == 0 {
			t.Errorf("%s for %s is accepted", replacement, old)
		}
	}
}

// generated is the part of docs/job.md that is made from the rules.
var generated = regexp.MustCompile(`(?s)(<!-- generated by go test ./coordinator/job -update -->\n).*(<!-- end of the generated part -->)`)

func TestReferenceIsCurrent(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "job.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !generated.Match(text) {
		t.Fatalf("%s has no generated part", file)
	}
	table := strings.ReplaceAll(referenceTable(), "$", "$$")
	want := generated.ReplaceAllString(string(text), "${1}"+table+"${2}")
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s is not current, -update rewrites it (-want +got):\n%s", file, diff)
	}
}

func referenceTable() string {
	var b strings.Builder
	writeReference(&b, reflect.TypeFor[Job](), "")
	return strings.TrimPrefix(b.String(), "\n")
}

// writeReference writes one table per struct, those it contains after it.
func writeReference(b *strings.Builder, t reflect.Type, path string) {
	if path != "" {
		fmt.Fprintf(b, "\n### `%s`\n%s\n", path, rules[path].doc)
	} else {
		fmt.Fprintf(b, "\n### The file\n")
	}
	fmt.Fprintf(b, "\n| field | type | default | meaning |\n|---|---|---|---|\n")
	for _, m := range members(t) {
		here := join(path, m.name)
		typ := m.typ
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", m.name, typeName(typ), defaultText(here), meaning(here))
	}
	for _, m := range members(t) {
		here, typ := join(path, m.name), m.typ
		if typ.Kind() == reflect.Slice {
			here += "[]"
		}
		if typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Struct {
			writeReference(b, typ, here)
		}
	}
}

func defaultText(path string) string {
	r := rules[path]
	value, ok := defaultValues()[path]
	switch {
	case r.required:
		return "required"
	case ok:
		return fmt.Sprintf("`%v`", value)
	}
	return r.def
}

func meaning(path string) string {
	r := rules[path]
	doc := r.doc
	if accepted := slices.DeleteFunc(slices.Clone(r.oneOf), func(s string) bool { return s == "" }); len(accepted) > 1 {
		doc += " One of `" + strings.Join(accepted, "`, `") + "`."
	} else if len(accepted) == 1 {
		doc += " Only `" + accepted[0] + "`."
	}
	if r.ranged && math.Abs(r.max) < math.MaxFloat32 {
		doc += fmt.Sprintf(" From %s to %s.", number(r.min), number(r.max))
	}
	return strings.ReplaceAll(doc, "|", "\\|")
}

func typeName(t reflect.Type) string {
	switch schemaType(t) {
	case "array":
		return "list of " + plural(t.Elem())
	case "object":
		return "mapping"
	case "integer":
		return "whole number"
	case "boolean":
		return "true or false"
	}
	return schemaType(t)
}
