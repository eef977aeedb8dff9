package job

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads the YAML of a job file, changed by sets of the form path=value,
// fills in the defaults and validates. It is strict, and its error is a *Faults
// with everything that is wrong at once.
//
// A relative Data.Root in the file, and an absent one, is taken relative to the
// directory of file; one in sets stays as it is, relative to the current
// directory. Parse does not look at the file system: file is only a name.
func Parse(file string, text []byte, sets []string) (*Job, error) {
	j, _, err := ParseGiven(file, text, sets)
	return j, err
}

// Given holds the paths of what a job's text and sets give, such as
// "spec.train.seed". The rest of the job are defaults.
type Given map[string]bool

// ParseGiven is Parse, and tells what was given.
func ParseGiven(file string, text []byte, sets []string) (*Job, Given, error) {
	root, err := parseTree(file, text)
	if err != nil {
		return nil, nil, err
	}
	d := &decoder{file: file, given: map[string]position{}}
	for i, s := range sets {
		if err := applySet(root, i+1, s); err != nil {
			d.faults = append(d.faults, placedFault{position{set: i + 1}, "", err.Error()})
		}
	}
	var j Job
	d.decode(root, reflect.ValueOf(&j).Elem(), "")
	if root.Kind != yaml.MappingNode {
		return nil, nil, d.sorted()
	}
	d.checkRequired()
	if dir := j.Spec.Checkpoint.Dir; dir != "" && !strings.Contains(dir, "://") && !filepath.IsAbs(dir) && d.given["spec.checkpoint.dir"].set == 0 {
		j.Spec.Checkpoint.Dir = filepath.Join(filepath.Dir(file), dir)
	}
	if j.Spec.Data.Format != FormatSynthetic || j.Spec.Data.Root != "" {
		if p := d.given["spec.data.root"]; p.set == 0 && !filepath.IsAbs(j.Spec.Data.Root) {
			j.Spec.Data.Root = filepath.Join(filepath.Dir(file), j.Spec.Data.Root)
		}
	}
	j = j.WithDefaults()
	d.checkZeros(&j)
	var invalid *Faults
	if errors.As(j.Validate(), &invalid) {
		for _, f := range invalid.List {
			d.add(f)
		}
	}
	if len(d.faults) > 0 {
		return nil, nil, d.sorted()
	}
	given := Given{}
	for path := range d.given {
		given[path] = true
	}
	return &j, given, nil
}

// syntaxFault matches the messages of the YAML parser.
var syntaxFault = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parseTree returns the root of the one document of a text.
func parseTree(file string, text []byte) (*yaml.Node, error) {
	bad := func(line int, format string, args ...any) error {
		return &Faults{List: []Fault{{File: file, Line: line, Column: min(line, 1), Message: fmt.Sprintf(format, args...)}}}
	}
	if len(text) > textBytesMax {
		return nil, bad(0, "the job has %d bytes, at most %d are accepted", len(text), textBytesMax)
	}
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, bad(1, "the job is empty: it starts with apiVersion: %s and kind: %s", APIVersion, Kind)
	}
	if err == nil {
		if err = d.Decode(&more); err == nil {
			return nil, bad(more.Line, "a second document: one file describes one job")
		}
	}
	if !errors.Is(err, io.EOF) {
		line, message := 0, err.Error()
		if m := syntaxFault.FindStringSubmatch(message); m != nil {
			line, _ = strconv.Atoi(m[1])
			message = m[2]
		}
		return nil, bad(line, "not valid YAML: %s", message)
	}
	return doc.Content[0], nil
}

// checkRequired faults what must be given and is not, unless the place it
// belongs to is missing or faulty itself.
func (d *decoder) checkRequired() {
	walkTypes(reflect.TypeFor[Job](), "", func(path string, t reflect.Type) {
		if !rules[path].required || strings.Contains(path, "[]") {
			return
		}
		parent := parentOf(path)
		if _, ok := d.given[parent]; !ok && parent != "" {
			return
		}
		if _, ok := d.given[path]; !ok {
			message := "is required"
			if one := rules[path].oneOf; len(one) == 1 {
				message += ": write " + path + ": " + one[0]
			}
			d.add(Fault{Path: path, Message: message})
		}
	})
}

// checkZeros faults a value that is given as zero, false or empty although that
// stands for a default here: the job would do something else than it says.
func (d *decoder) checkZeros(j *Job) {
	if len(d.zeros) == 0 {
		return
	}
	resolved := map[string]reflect.Value{}
	walkValues(reflect.ValueOf(j).Elem(), "", func(path string, v reflect.Value) { resolved[path] = v })
	for _, path := range d.zeros {
		if v, ok := resolved[path]; ok && !isZero(v) {
			message := "must not be zero or empty: leave the field out for the default"
			if v.Kind() != reflect.Slice {
				message += fmt.Sprintf(", %v", v.Interface())
			}
			d.add(Fault{Path: path, Message: message})
		}
	}
}

// add places a fault that knows only its path, unless something is known to be
// wrong with that path, with what it is part of or with what is part of it.
func (d *decoder) add(f Fault) {
	if len(d.faults) >= faultsMax {
		d.more++
		return
	}
	for _, known := range d.faults {
		if within(f.Path, known.path) || within(known.path, f.Path) {
			return
		}
	}
	var where position
	for path := f.Path; path != ""; path = parentOf(path) {
		if p, ok := d.given[path]; ok {
			where = p
			break
		}
	}
	d.faults = append(d.faults, placedFault{where, f.Path, f.Message})
}

// within tells whether path is parent or a part of it.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && parent != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func parentOf(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// sorted returns the faults by line, those of --set after those of the file.
func (d *decoder) sorted() *Faults {
	slices.SortStableFunc(d.faults, func(a, b placedFault) int {
		return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var faults Faults
	for _, f := range d.faults {
		file := d.file
		if f.set > 0 {
			file = "--set"
		}
		faults.List = append(faults.List, Fault{File: file, Line: f.line, Column: f.column, Path: f.path, Message: f.message})
	}
	if d.more > 0 {
		faults.List = append(faults.List, Fault{File: d.file, Message: fmt.Sprintf("and %d more faults", d.more)})
	}
	return &faults
}
