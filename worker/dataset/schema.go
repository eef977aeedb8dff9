package dataset

import (
	"fmt"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/shard"
)

// transform is what is done to a numeric value.
type transform int

const (
	transformNone   transform = iota // the value scales the field's one row
	transformLog                     // sign(x)*ln(1+|x|) scales the field's one row
	transformBucket                  // the value becomes a category
)

const (
	typeCategorical = "categorical"
	typeNumeric     = "numeric"

	maxValuesDefault = 64
)

// field is one field of the model, ready for encoding.
type field struct {
	name, column string
	hash         shard.Hasher
	numeric      bool
	transform    transform
	separator    string
	sum          bool // pooling by sum, not mean
	valuesMax    int
	// col indexes schema.columns; -1 is column 0 of the record batch.
	col int
}

// schema says which columns are read and what becomes of them. A record batch
// has the label as column 0 and columns[c] as column 1+c.
type schema struct {
	label string
	// unlabelled says that there is no label: see dropLabel.
	unlabelled bool
	fields     []field
	columns    []string
	// weight and group read the weight and the group of a sample, or are nil.
	weight, group *field
	// negatives is the share of the training split's negatives that is kept, not 0.
	negatives float64
}

// newSchema checks the fields and reports all faults in them at once.
func newSchema(d job.Data, fields []job.Field) (*schema, error) {
	s := &schema{label: d.Label}
	if s.label == "" {
		s.label = "label"
	}
	if len(fields) == 0 {
		return nil, &InputError{Msg: "data.fields is empty: list the fields of the model"}
	}
	seen := make(map[string]int, len(fields))
	read := func(column string) int {
		col, ok := seen[column]
		if !ok {
			col = len(s.columns)
			seen[column] = col
			s.columns = append(s.columns, column)
		}
		return col
	}
	named := d.Format != "libsvm" && d.Format != "libffm"
	for i, jf := range fields {
		f, err := newField(jf)
		if err != nil {
			return nil, fmt.Errorf("data.fields[%d]: %w", i, err)
		}
		if named && f.column == s.label {
			return nil, fmt.Errorf("data.fields[%d]: %w", i, &InputError{
				Msg: fmt.Sprintf("field %q reads the label column %q: the model would see the answer", f.name, s.label)})
		}
		f.col = read(f.column)
		s.fields = append(s.fields, f)
	}
	if d.Weight != "" {
		s.weight = &field{name: d.Weight, column: d.Weight, numeric: true, valuesMax: 1, col: read(d.Weight)}
	}
	if d.Group != "" {
		s.group = &field{name: d.Group, column: d.Group, hash: shard.NewHasher(d.Group), valuesMax: 1, col: read(d.Group)}
	}
	if s.negatives = d.NegativeRate; s.negatives == 0 {
		s.negatives = 1
	}
	return s, nil
}

// dropLabel is for files without labels: all are 0. Where columns have names, that
// of the first field takes the place of the label as column 0 of a record batch.
func (s *schema) dropLabel(named bool) {
	s.unlabelled = true
	if !named {
		return
	}
	s.label = s.columns[0]
	s.columns = s.columns[1:]
	for i := range s.fields {
		s.fields[i].col--
	}
	for _, f := range []*field{s.weight, s.group} {
		if f != nil {
			f.col--
		}
	}
}

// newField fills in the defaults of one field and refuses what it cannot do.
func newField(j job.Field) (field, error) {
	f := field{name: j.Name, column: j.Column, separator: j.Separator, valuesMax: j.MaxValues}
	fail := func(format string, a ...any) (field, error) {
		return f, &InputError{Msg: fmt.Sprintf("field %q: ", j.Name) + fmt.Sprintf(format, a...)}
	}
	if j.Name == "" {
		return fail("it has no name")
	}
	if f.column == "" {
		f.column = j.Name
	}
	if f.valuesMax <= 0 {
		f.valuesMax = maxValuesDefault
	}
	share := j.Share
	if share == "" {
		share = j.Name
	}
	f.hash = shard.NewHasher(share)
	switch j.Type {
	case "", typeCategorical:
	case typeNumeric:
		f.numeric = true
	default:
		return fail("type %q is neither categorical nor numeric", j.Type)
	}
	switch j.Transform {
	case "", "none":
	case "log":
		f.transform = transformLog
	case "bucket":
		f.transform = transformBucket
	default:
		return fail("transform %q is none of none, log, bucket", j.Transform)
	}
	switch j.Pooling {
	case "", "mean":
	case "sum":
		f.sum = true
	default:
		return fail("pooling %q is neither mean nor sum", j.Pooling)
	}
	if f.numeric && f.separator != "" {
		return fail("a numeric field cannot have a separator")
	}
	if !f.numeric && f.transform != transformNone {
		return fail("a categorical field cannot have a transform")
	}
	return f, nil
}
