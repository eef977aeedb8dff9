package embedding

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/shard"
)

// Plan says where the values of every field come from.
type Plan struct {
	Tables []Table
	// Fields has the parts of every field: an occurrence of a key reads one row
	// for each.
	Fields [][]Part
	// Columns are the model's.
	Columns []model.Column
}

// Table is one embedding table; its number in Plan.Tables is its id.
type Table struct {
	Name string
	// Columns are the model's, as wide as the rows of this table have them, and what
	// Extend added. A column the table lacks has width 0.
	Columns []model.Column
	// Fields are the numbers of the fields whose values it holds.
	Fields []int
	// RowsMax bounds the rows; 0: a row for every different key.
	RowsMax int64
	// Width is that of a row.
	Width int
	// Factor says that products of two of its rows are the embeddings.
	Factor bool
	// OOV says that rows whose embedding is all zero read as the one of OOVKey.
	OOV bool
}

// OOVKey is the key of the row that stands in for others in a table with OOV: the
// first number of SplitMix64, which no value is more likely to have than any other.
const OOVKey shard.Key = 0xe220a8397b1dcdaf

// Extend gives the rows of a table one more column, behind the others, which no field
// reads.
func (t *Table) Extend(c model.Column) {
	t.Columns = append(t.Columns, c)
	t.Width += c.Width
}

// Part is what one occurrence of a field's key reads from one table.
type Part struct {
	Table int
	Key   Key
	// Pieces has for every column of the model what the part contributes.
	Pieces []Piece
	// Dims are where the values of the embedding go; empty: one behind the other.
	Dims []int
	// Factor says that the embedding is the product of this part's and the
	// field's other one.
	Factor bool
}

// Piece puts Width values of a row, from Off on, into the field's values, from
// At on.
type Piece struct{ Off, Width, At int }

// Key turns the key of an occurrence into that of a row. The zero value leaves
// it as it is.
type Key struct {
	// Buckets is the number of different keys, 0: as many as there are.
	Buckets uint64
	// Of is the modulus of the hash, of which Divide and then Modulo make a
	// bucket.
	Of, Divide uint64
	// Salt makes the hash the field's own, Home the rows the table's own.
	Salt, Home uint64
}

// Row returns the key of the row that an occurrence of k reads.
func (m Key) Row(k shard.Key) shard.Key {
	if m.Buckets == 0 {
		return k
	}
	bucket := mix(uint64(k)^m.Salt) % m.Of / m.Divide % m.Buckets
	return shard.Key(mix(m.Home + bucket*golden))
}

const golden = 0x9e3779b97f4a7c15

// mix is the finalizer of SplitMix64, a bijection: different buckets of one home
// have different keys.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return x
}

// FieldName is a field of the data and the field whose rows it shares, if any.
type FieldName struct{ Name, Share string }

// builder makes a Plan.
type builder struct {
	spec  Spec
	plan  *Plan
	named map[string]int // table by name
	next  int            // unified: chunks so far
}

// New returns the plan of a valid Spec for a model's columns and fields.
func New(s Spec, columns []model.Column, fields []FieldName) (*Plan, error) {
	b := &builder{spec: s, plan: &Plan{Columns: columns, Fields: make([][]Part, len(fields))}, named: map[string]int{}}
	owner := map[string]int{}
	for i, f := range fields {
		if f.Share != "" {
			continue
		}
		owner[f.Name] = i
		parts, err := b.field(s.of(f.Name), 1+uint64(i))
		if err != nil {
			return nil, err
		}
		b.plan.Fields[i] = parts
	}
	for i, f := range fields {
		if f.Share != "" {
			b.plan.Fields[i] = b.plan.Fields[owner[f.Share]]
		}
		for _, p := range b.plan.Fields[i] {
			t := &b.plan.Tables[p.Table]
			if !slices.Contains(t.Fields, i) {
				t.Fields = append(t.Fields, i)
			}
		}
	}
	if n := len(b.plan.Tables); n > TablesMax {
		return nil, fmt.Errorf("tables: %d tables, at most %d are possible", n, TablesMax)
	}
	return b.plan, nil
}

// dim returns the width of the model's embedding column, 0 without one.
func (b *builder) dim() int {
	for _, c := range b.plan.Columns {
		if c.Name == model.Embedding {
			return c.Width
		}
	}
	return 0
}

// field returns the parts of a field; number is its own.
func (b *builder) field(f Field, number uint64) ([]Part, error) {
	dim := b.dim()
	width := cmp.Or(f.Width, dim)
	if width > dim {
		return nil, fmt.Errorf("width: %d of field %s, the embedding of the model is %d wide", width, f.Name, dim)
	}
	switch f.Method {
	case Rows:
		if n := len(f.Dims); n > 0 && f.Dims[n-1] >= dim {
			return nil, fmt.Errorf("dims: %d of field %s, the embedding of the model is %d wide", f.Dims[n-1], f.Name, dim)
		}
		t := b.rows(f, width)
		b.plan.Tables[t].OOV = f.OOV
		part := b.part(t, Key{}, 0)
		part.Dims = f.Dims
		return b.withLinear(f, part), nil
	case None:
		return b.linear(f), nil
	case Hash:
		n := uint64(f.Buckets)
		t := b.rows(f, width)
		b.plan.Tables[t].RowsMax += f.Buckets
		return b.withLinear(f, b.part(t, Key{Buckets: n, Of: n, Divide: 1, Salt: salt(number, 0), Home: salt(number, 1)}, 0)), nil
	case QR:
		return b.quotient(f, width, number)
	}
	return b.chunks(f, dim, number)
}

// salt returns one of the salts of a field or a table.
func salt(of, number uint64) uint64 { return mix(mix(of*golden) + number) }

// quotient returns the two parts of a field of method qr.
func (b *builder) quotient(f Field, width int, number uint64) ([]Part, error) {
	q, r := uint64(f.Buckets), uint64(f.Remainders)
	if q > 1<<63/r {
		return nil, fmt.Errorf("buckets: %d buckets times %d remainders of field %s are too many", q, r, f.Name)
	}
	at := 0
	first, second := width, width
	if f.Combine == Concat {
		if width < 2 {
			return nil, fmt.Errorf("combine: concat needs an embedding of width 2 or more, field %s has %d", f.Name, width)
		}
		first = (width + 1) / 2
		second, at = width-first, first
	}
	t := b.rows(f, first)
	b.plan.Tables[t].RowsMax += f.Buckets
	u := b.rows(f, second)
	b.plan.Tables[u].RowsMax += f.Remainders
	hash := Key{Of: q * r, Salt: salt(number, 0)}
	quotient, remainder := hash, hash
	quotient.Buckets, quotient.Divide, quotient.Home = q, r, salt(number, 1)
	remainder.Buckets, remainder.Divide, remainder.Home = r, 1, salt(number, 2)
	parts := []Part{b.part(t, quotient, 0), b.part(u, remainder, at)}
	if f.Combine == Mult {
		b.plan.Tables[t].Factor, b.plan.Tables[u].Factor = true, true
		parts[0].Factor, parts[1].Factor = true, true
	}
	return parts, nil
}

// chunks assigns the chunks of a field to the shared tables in turn.
func (b *builder) chunks(f Field, dim int, number uint64) ([]Part, error) {
	w := b.spec.ChunkWidth
	n := cmp.Or(f.Chunks, dim/w)
	if n < 1 || n*w > dim {
		return nil, fmt.Errorf("chunks: %d chunks of width %d of field %s do not fit the embedding of width %d", n, w, f.Name, dim)
	}
	var parts []Part
	for j := range n {
		to := b.next % b.spec.SharedTables
		b.next++
		t := b.table(fmt.Sprintf("unified%d", to), w, all)
		b.plan.Tables[t].RowsMax = b.spec.Buckets
		buckets := uint64(b.spec.Buckets)
		parts = append(parts, b.part(t, Key{
			Buckets: buckets, Of: buckets, Divide: 1,
			Salt: salt(number, uint64(3+j)), Home: salt(0, uint64(to)),
		}, j*w))
	}
	return parts, nil
}

// rows returns the table of the rows of a field whose embedding has the width.
func (b *builder) rows(f Field, width int) int {
	name := f.Method
	if f.Method == QR {
		name += "_" + f.Combine
	}
	if b.spec.Tables == PerField {
		name = f.Name
	}
	if len(f.Dims) > 0 {
		name += DimsSuffix(f.Dims)
	} else if width != b.dim() {
		name = fmt.Sprintf("%s.%d", name, width)
	}
	has := all
	if f.OwnLinear {
		has = func(c model.Column) bool { return c.Name == model.Embedding }
	}
	return b.table(name, width, has)
}

// DimsSuffix is what ends the name of a table of single dimensions: the name alone
// tells them.
func DimsSuffix(dims []int) string {
	return ".dims" + strings.Trim(strings.ReplaceAll(fmt.Sprint(dims), " ", "-"), "[]")
}

// DimsOf reads the dimensions off the name of a table of a field; false: it has none.
func DimsOf(field, table string) (dims []int, ok bool) {
	list, ok := strings.CutPrefix(table, field+".dims")
	if !ok {
		return nil, false
	}
	for _, text := range strings.Split(list, "-") {
		d, err := strconv.Atoi(text)
		if err != nil {
			return nil, false
		}
		dims = append(dims, d)
	}
	return dims, true
}

// withLinear adds the part of the first-order weights to that of the embedding, when
// they have a table of their own.
func (b *builder) withLinear(f Field, embedding Part) []Part {
	if !f.OwnLinear {
		return []Part{embedding}
	}
	return append([]Part{embedding}, b.linear(f)...)
}

// linear returns the part of a field that has all columns but the embedding; none
// when the model has no others.
func (b *builder) linear(f Field) []Part {
	others := func(c model.Column) bool { return c.Name != model.Embedding }
	if !slices.ContainsFunc(b.plan.Columns, others) {
		return nil
	}
	name := model.Linear
	if b.spec.Tables == PerField {
		name = LinearTable(f.Name)
	}
	return []Part{b.part(b.table(name, 0, others), Key{}, 0)}
}

// LinearTable is the name of the table of a field's first-order weights, when they
// have one of their own.
func LinearTable(field string) string { return field + "." + model.Linear }

// all is for tables that have all columns.
func all(model.Column) bool { return true }

// table returns the number of the named table, which it makes if need be; it has
// the columns that has tells, the embedding as wide as given.
func (b *builder) table(name string, width int, has func(model.Column) bool) int {
	if t, ok := b.named[name]; ok {
		return t
	}
	t := Table{Name: name}
	for _, c := range b.plan.Columns {
		if c.Name == model.Embedding {
			c.Width = width
		}
		if !has(c) {
			c.Width = 0
		}
		t.Columns = append(t.Columns, c)
		t.Width += c.Width
	}
	b.named[name] = len(b.plan.Tables)
	b.plan.Tables = append(b.plan.Tables, t)
	return b.named[name]
}

// part returns the part that reads whole rows of a table and puts the embedding
// at a place of the field's.
func (b *builder) part(table int, key Key, at int) Part {
	p := Part{Table: table, Key: key}
	off := 0
	for _, c := range b.plan.Tables[table].Columns {
		piece := Piece{Off: off, Width: c.Width}
		if c.Name == model.Embedding {
			piece.At = at
		}
		p.Pieces = append(p.Pieces, piece)
		off += c.Width
	}
	return p
}
