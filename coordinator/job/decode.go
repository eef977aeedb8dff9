package job

import (
	"fmt"
	"math"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a job's text: aliases could otherwise make a small file expand to
// any size.
const (
	aliasesMax = 100
	nodesMax   = 50_000
	faultsMax  = 200 // that are told
)

// position is where in the text a value was given: a line and column of the
// file, or, when set is above zero, the set-th --set.
type position struct {
	line, column int
	set          int
}

// decoder fills the job from a tree of YAML nodes and collects all faults.
type decoder struct {
	file    string
	faults  []placedFault
	more    int                 // faults beyond faultsMax
	given   map[string]position // by path: what the text gives
	zeros   []string            // paths given a value that means "left out"
	aliases int
	nodes   int
}

type placedFault struct {
	position
	path, message string
}

func (d *decoder) fault(n *yaml.Node, path, format string, args ...any) {
	if len(d.faults) >= faultsMax {
		d.more++
		return
	}
	d.faults = append(d.faults, placedFault{positionOf(n), path, fmt.Sprintf(format, args...)})
}

// positionOf returns where a node is. Nodes of --set values carry the negative
// number of their --set as line.
func positionOf(n *yaml.Node) position {
	if n.Line < 0 {
		return position{set: -n.Line}
	}
	return position{line: n.Line, column: n.Column}
}

// resolve follows an alias and counts; false means that a bound is exceeded.
func (d *decoder) resolve(n *yaml.Node) (*yaml.Node, bool) {
	d.nodes++
	if n.Kind == yaml.AliasNode {
		d.aliases++
		n = n.Alias
	}
	switch {
	case d.aliases == aliasesMax+1:
		d.aliases++ // once
		d.fault(n, "", "more than %d aliases: write the values out", aliasesMax)
	case d.nodes == nodesMax+1:
		d.fault(n, "", "more than %d values", nodesMax)
	}
	return n, d.aliases <= aliasesMax && d.nodes <= nodesMax
}

// decode stores what n describes in v.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	n, ok := d.resolve(n)
	if !ok {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	faults := len(d.faults) + d.more
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Slice:
		d.decodeSlice(n, v, path)
	default:
		d.decodeScalar(n, v, path)
	}
	if len(d.faults)+d.more == faults && v.Kind() != reflect.Struct && isZero(v) {
		d.zeros = append(d.zeros, path)
	}
}

func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "expected a mapping, found %s", describe(n))
		return
	}
	first := map[string]position{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fault(key, path, "expected the name of a field, found %s", describe(key))
			continue
		}
		name := key.Value
		here := join(path, name)
		if p, twice := first[name]; twice {
			d.fault(key, here, "is given twice, first in line %d", p.line)
			continue
		}
		first[name] = positionOf(key)
		m, known := memberNamed(v.Type(), name)
		switch {
		case name == "<<":
			d.fault(key, path, "merge keys (<<) are not accepted: write the values out")
			continue
		case !known:
			d.fault(key, join(path, clip(name)), "unknown field; %s", hintUnknown(name, v.Type()))
			continue
		}
		d.given[here] = positionOf(key)
		if value.Kind == yaml.ScalarNode {
			d.given[here] = positionOf(value)
		}
		d.decode(value, v.Field(m.index), here)
	}
}

func memberNamed(t reflect.Type, name string) (member, bool) {
	for _, m := range members(t) {
		if m.name == name {
			return m, true
		}
	}
	return member{}, false
}

func (d *decoder) decodeSlice(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, path, "expected a list of %s, found %s", plural(v.Type().Elem()), describe(n))
		return
	}
	// An empty list stays nil: both mean that the value is left out.
	for i, item := range n.Content {
		d.given[at(path, i)] = positionOf(item)
		element := reflect.New(v.Type().Elem()).Elem()
		zeros := len(d.zeros)
		d.decode(item, element, at(path, i))
		if element.Kind() != reflect.Struct {
			d.zeros = d.zeros[:zeros] // elements have no defaults
		}
		if d.nodes > nodesMax {
			return
		}
		v.Set(reflect.Append(v, element))
	}
}

func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string) {
	wrong := func(expected string) {
		d.fault(n, path, "expected %s, found %s", expected, describe(n))
	}
	tag := ""
	if n.Kind == yaml.ScalarNode {
		tag = n.ShortTag()
	}
	switch v.Kind() {
	case reflect.String:
		// On the command line quotes are the shell's, so there a number is a string too.
		onCommandLine := n.Line < 0 && tag != "" && tag != "!!null"
		if tag != "!!str" && !onCommandLine {
			expected := "a string"
			if tag == "!!int" || tag == "!!float" || tag == "!!bool" {
				expected = fmt.Sprintf("a string, like \"%s\"", clip(n.Value))
			}
			wrong(expected)
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if tag != "!!bool" || n.Decode(v.Addr().Interface()) != nil {
			wrong("true or false")
		}
	case reflect.Int, reflect.Int64:
		if tag != "!!int" || n.Decode(v.Addr().Interface()) != nil {
			wrong("a whole number")
		}
	case reflect.Uint64:
		if tag != "!!int" || n.Decode(v.Addr().Interface()) != nil {
			wrong("a whole number of at least 0 and below 2^64")
		}
	case reflect.Float32, reflect.Float64:
		var x float64
		if (tag != "!!int" && tag != "!!float") || n.Decode(&x) != nil {
			wrong("a number")
			return
		}
		v.SetFloat(x)
		if got := v.Float(); math.IsNaN(x) || math.IsInf(got, 0) || got == 0 && x != 0 {
			wrong("a finite number that " + v.Type().String() + " can hold")
		}
	default:
		panic(fmt.Sprintf("job: BUG: %s has type %s, which no YAML is defined for", path, v.Type()))
	}
}

// describe says what a node is, in the words of a person.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing: give a value or leave the field out"
	case "!!str":
		return fmt.Sprintf("the string %q", clip(n.Value))
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return clip(n.Value)
	}
	return fmt.Sprintf("%s (%s)", clip(n.Value), n.ShortTag())
}

// clip keeps what a message quotes short.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if runes := []rune(s); len(runes) > 60 {
		return string(runes[:60]) + "..."
	}
	return s
}

func plural(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "strings"
	case reflect.Int:
		return "whole numbers"
	case reflect.Float64:
		return "numbers"
	}
	return "mappings"
}
