// Package embedding owns how the values of a model's fields are put together
// from the rows of embedding tables: a row per value, hashing to a fixed number
// of rows, quotient and remainder, or chunks of tables that all fields share.
//
// A Spec is what a user writes; New turns it into a Plan, which says for every
// field which rows of which tables an occurrence of a key reads and where in the
// field's values they go. A Plan is never changed.
//
//	p, err := embedding.New(spec, net.Columns(), fields)
//	keys = p.Keys(keys, samples)                   // by table, in order of occurrence
//	p.Gather(columns, samples, tables)             // rows -> the model's columns
//	p.Scatter(tables, samples, dColumns)           // gradients of columns -> of rows
package embedding

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The methods: how the values of a field become rows.
const (
	Rows    = "rows"
	Hash    = "hash"
	QR      = "qr"
	Unified = "unified"
	// None is for single fields: they have no embedding, only their first-order
	// weights, in models that have those.
	None = "none"
)

// Methods lists those that can be the method of all fields.
func Methods() []string { return []string{Rows, Hash, QR, Unified} }

// FieldMethods lists those that a field can have.
func FieldMethods() []string { return append(Methods(), None) }

// The ways to combine the two rows of qr.
const (
	Mult   = "mult"
	Add    = "add"
	Concat = "concat"
)

// The layouts of the tables of method rows.
const (
	Shared   = "shared"
	PerField = "per_field"
)

// Limits of a Spec.
const (
	BucketsMax = 1 << 40
	ChunksMax  = 1 << 10
	TablesMax  = 1 << 9
)

// Spec says where the values of the fields come from. The zero value of a
// setting means its default.
type Spec struct {
	// Tables is shared (default: one table for all fields of one width) or
	// per_field (rows, hash, qr).
	Tables string `json:"tables,omitempty"`
	// Method is rows (default), hash, qr or unified.
	Method string `json:"method,omitempty"`
	// Buckets is the number of rows of a field (hash), of its quotients (qr), or
	// of every shared table (unified).
	Buckets int64 `json:"buckets,omitempty"`
	// Remainders is the number of a field's remainder rows (qr).
	Remainders int64 `json:"remainders,omitempty"`
	// Combine is mult (default), add or concat (qr).
	Combine string `json:"combine,omitempty"`
	// SharedTables and ChunkWidth are the number and the width of the tables of
	// method unified (defaults 1 and 8).
	SharedTables int `json:"shared_tables,omitempty"`
	ChunkWidth   int `json:"chunk_width,omitempty"`
	// Width is how many values of the embedding a field has; the rest are zero
	// (rows, hash, qr; default: all).
	Width int `json:"width,omitempty"`
	// Fields lists the fields that differ.
	Fields []Field `json:"fields,omitempty"`
	// Selector lets every sample see only the dimensions of its cluster; nil: all do.
	Selector *Selector `json:"selector,omitempty"`
}

// Selector describes a network that tells the cluster of a sample, and the clusters.
type Selector struct {
	Clusters int `json:"clusters"`
	// Hidden is the width of its hidden layer.
	Hidden int `json:"hidden"`
}

// Field is what differs for one field; the zero value of a setting means the
// Spec's own.
type Field struct {
	Name       string `json:"name"`
	Method     string `json:"method,omitempty"`
	Buckets    int64  `json:"buckets,omitempty"`
	Remainders int64  `json:"remainders,omitempty"`
	Combine    string `json:"combine,omitempty"`
	// Chunks is how many chunks the field has (unified; default: as many as fill
	// the embedding).
	Chunks int `json:"chunks,omitempty"`
	Width  int `json:"width,omitempty"`
	// Dims are the dimensions of the embedding that the field has, ascending, as many as
	// its width; the others are zero (rows; default: the first ones).
	Dims []int `json:"dims,omitempty"`
	// OwnLinear keeps the first-order weights in a table of their own, so that they
	// can be there for values that have no row in the table of the embeddings, or share
	// one (rows, hash; per_field).
	OwnLinear bool `json:"own_linear,omitempty"`
	// OOV lets values whose embedding is all zero, as it is without a row in a closed
	// table, read the row of OOVKey instead (rows, own_linear).
	OOV bool `json:"oov,omitempty"`
}

// WithDefaults fills in the settings that do not depend on the model.
func (s Spec) WithDefaults() Spec {
	if s.Tables == "" {
		s.Tables = Shared
	}
	if s.Method == "" {
		s.Method = Rows
	}
	uses := func(method string) bool {
		return s.Method == method || slices.ContainsFunc(s.Fields, func(f Field) bool { return f.Method == method })
	}
	if uses(QR) && s.Combine == "" {
		s.Combine = Mult
	}
	if uses(Unified) {
		s.SharedTables, s.ChunkWidth = cmp.Or(s.SharedTables, 1), cmp.Or(s.ChunkWidth, 8)
	}
	return s
}

// of returns the settings of a field with those of the Spec filled in.
func (s Spec) of(name string) Field {
	f := Field{Name: name}
	for _, own := range s.Fields {
		if own.Name == name {
			f = own
		}
	}
	f.Method = cmp.Or(f.Method, s.Method)
	switch f.Method {
	case Hash:
		f.Buckets = cmp.Or(f.Buckets, s.Buckets)
	case QR:
		f.Buckets, f.Remainders = cmp.Or(f.Buckets, s.Buckets), cmp.Or(f.Remainders, s.Remainders)
		f.Combine = cmp.Or(f.Combine, s.Combine)
	case Unified, None:
		return f
	}
	f.Width = cmp.Or(f.Width, s.Width)
	return f
}

// Validate reports all faults of a Spec with its defaults filled in that need no
// model, joined; each names its setting first. names are those of the fields.
func (s Spec) Validate(names []string) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	oneOf := func(path, value string, known ...string) {
		if !slices.Contains(known, value) {
			fault("%s: %q is not accepted: one of %s", path, value, strings.Join(known, ", "))
		}
	}
	if c := s.Selector; c != nil && (c.Clusters < 1 || c.Hidden < 1) {
		fault("selector: %d clusters and a hidden layer of %d: both are required", c.Clusters, c.Hidden)
	}
	oneOf("tables", s.Tables, Shared, PerField)
	oneOf("method", s.Method, Methods()...)
	unified := s.Method == Unified
	seen := map[string]bool{}
	for i, f := range s.Fields {
		path := fmt.Sprintf("fields[%d]: ", i)
		switch {
		case !slices.Contains(names, f.Name):
			fault("%sname: there is no field %q", path, f.Name)
		case seen[f.Name]:
			fault("%sname: field %q twice", path, f.Name)
		}
		seen[f.Name] = true
		if f.Method != "" {
			oneOf(path+"method", f.Method, FieldMethods()...)
		}
		if f.Method == None && (f.Width != 0 || f.Buckets != 0) {
			fault("%smethod: field %s has no embedding with method none: remove width and buckets", path, f.Name)
		}
		if len(f.Dims) > 0 {
			if s.of(f.Name).Method != Rows || f.Width != len(f.Dims) {
				fault("%sdims: is a setting of method rows, and lists as many dimensions as the width", path)
			}
			for k, d := range f.Dims {
				if d < 0 || k > 0 && d <= f.Dims[k-1] {
					fault("%sdims: %v do not ascend from 0 or above", path, f.Dims)
					break
				}
			}
		}
		if m := s.of(f.Name).Method; f.OwnLinear && (m != Rows && m != Hash || s.Tables != PerField) {
			fault("%sown_linear: is a setting of methods rows and hash with tables: per_field", path)
		}
		if f.OOV && (!f.OwnLinear || s.of(f.Name).Method != Rows) {
			fault("%soov: is a setting of method rows with own_linear: the first-order weight of a value is its own", path)
		}
		if s.of(f.Name).Method == Unified {
			unified = true
			if f.Buckets != 0 || f.Width != 0 {
				fault("%smethod: the tables of unified are the same for all fields: set chunks instead of width and buckets", path)
			}
		}
	}
	if unified && s.Buckets < 1 {
		fault("buckets: is required by method unified: the rows of every shared table")
	}
	if !unified && (s.SharedTables != 0 || s.ChunkWidth != 0) {
		fault("shared_tables: shared_tables and chunk_width are settings of method unified")
	}
	for _, name := range names {
		f := s.of(name)
		path := ""
		if i := slices.IndexFunc(s.Fields, func(o Field) bool { return o.Name == name }); i >= 0 {
			path = fmt.Sprintf("fields[%d]: ", i)
		}
		if (f.Method == Hash || f.Method == QR) && f.Buckets < 1 {
			fault("%sbuckets: is required by method %s of field %s", path, f.Method, name)
		}
		if f.Method == QR {
			if f.Remainders < 1 {
				fault("%sremainders: is required by method qr of field %s", path, name)
			}
			oneOf(path+"combine", f.Combine, Mult, Add, Concat)
		} else if path != "" && (f.Remainders != 0 || f.Combine != "") {
			fault("%smethod: remainders and combine are settings of qr, field %s has method %s", path, name, f.Method)
		}
		if path != "" && f.Method != Unified && f.Chunks != 0 {
			fault("%schunks: is a setting of method unified, field %s has method %s", path, name, f.Method)
		}
		if path != "" && f.Method == Rows && f.Buckets != 0 {
			fault("%sbuckets: is no setting of method rows of field %s", path, name)
		}
	}
	return errors.Join(faults...)
}
