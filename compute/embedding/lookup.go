package embedding

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/shard"
)

// Samples are the occurrences of keys in a number of samples: those of field f
// of sample i are Offsets[i*fields+f] to Offsets[i*fields+f+1].
type Samples struct {
	N       int
	Keys    []shard.Key
	Weights []float32
	Offsets []int32
}

// Plain reports whether every occurrence reads the row of its own key from one
// table, and nothing else.
func (p *Plan) Plain() bool {
	if len(p.Tables) != 1 || p.Tables[0].OOV {
		return false
	}
	if len(p.Tables[0].Columns) != len(p.Columns) {
		return false
	}
	for i, c := range p.Tables[0].Columns {
		if c != p.Columns[i] {
			return false
		}
	}
	for _, parts := range p.Fields {
		if len(parts) != 1 || parts[0].Key != (Key{}) {
			return false
		}
	}
	return true
}

// Keys returns, by table, the keys of the rows that the samples read, in the
// order of the occurrences. It reuses dst.
func (p *Plan) Keys(dst [][]shard.Key, s Samples) [][]shard.Key {
	if len(dst) != len(p.Tables) {
		dst = make([][]shard.Key, len(p.Tables))
	}
	for t := range dst {
		dst[t] = dst[t][:0]
	}
	entry := 0
	for range s.N {
		for _, parts := range p.Fields {
			for _, k := range s.Keys[s.Offsets[entry]:s.Offsets[entry+1]] {
				for j := range parts {
					t := parts[j].Table
					dst[t] = append(dst[t], parts[j].Key.Row(k))
				}
			}
			entry++
		}
	}
	return dst
}

// TableRows are different rows of one table and which of them every occurrence
// reads, in the order of Keys.
type TableRows struct {
	Values []float32 // [rows, width]
	Index  []int32
	// Grads has the gradients of Values; only Scatter needs it.
	Grads []float32
}

// Gather overwrites the columns [n, fields*width] with the values of the
// samples: for every field the sum over its occurrences of weight times row.
func (p *Plan) Gather(columns [][]float32, s Samples, tables []TableRows) {
	for _, c := range columns {
		clear(c)
	}
	p.each(s, tables, func(entry int, parts []Part, rows []int, weight float32) {
		for j := range parts {
			part := &parts[j]
			t := &tables[part.Table]
			for c, piece := range part.Pieces {
				if part.Factor && p.Columns[c].Name == model.Embedding {
					continue
				}
				dst := columns[c][entry*p.Columns[c].Width+piece.At:]
				if len(part.Dims) > 0 && p.Columns[c].Name == model.Embedding {
					for k, d := range part.Dims {
						dst[d] += float32(weight * t.Values[rows[j]+piece.Off+k])
					}
					continue
				}
				add(dst[:piece.Width], t.Values[rows[j]+piece.Off:], weight)
			}
		}
		if len(parts) > 0 && parts[0].Factor {
			c, a, b := p.factors(parts, rows, func(t int) []float32 { return tables[t].Values })
			dst := columns[c][entry*p.Columns[c].Width:]
			for i := range a {
				dst[i] += float32(weight * float32(a[i]*b[i]))
			}
		}
	})
}

// Scatter is the backward pass of Gather: it adds to the Grads of the tables
// what the gradients of the columns come to, samples in ascending order.
func (p *Plan) Scatter(tables []TableRows, s Samples, columns [][]float32) {
	p.each(s, tables, func(entry int, parts []Part, rows []int, weight float32) {
		for j := range parts {
			part := &parts[j]
			t := &tables[part.Table]
			for c, piece := range part.Pieces {
				if part.Factor && p.Columns[c].Name == model.Embedding {
					continue
				}
				at := rows[j] + piece.Off
				if len(part.Dims) > 0 && p.Columns[c].Name == model.Embedding {
					from := columns[c][entry*p.Columns[c].Width:]
					for k, d := range part.Dims {
						t.Grads[at+k] += float32(weight * from[d])
					}
					continue
				}
				add(t.Grads[at:at+piece.Width], columns[c][entry*p.Columns[c].Width+piece.At:], weight)
			}
		}
		if len(parts) > 0 && parts[0].Factor {
			c, a, b := p.factors(parts, rows, func(t int) []float32 { return tables[t].Values })
			_, da, db := p.factors(parts, rows, func(t int) []float32 { return tables[t].Grads })
			g := columns[c][entry*p.Columns[c].Width:]
			for i := range a {
				part := float32(weight * g[i])
				da[i] += float32(part * b[i])
				db[i] += float32(part * a[i])
			}
		}
	})
}

// add adds weight times the start of src to dst.
func add(dst, src []float32, weight float32) {
	switch len(dst) {
	case 0: // a column that the table lacks
		return
	case 1:
		dst[0] += float32(weight * src[0])
		return
	}
	kernel.Axpy(weight, src[:len(dst)], dst)
}

// factors returns the embedding column and its two factors in what values says.
func (p *Plan) factors(parts []Part, rows []int, values func(table int) []float32) (c int, a, b []float32) {
	for p.Columns[c].Name != model.Embedding {
		c++
	}
	cut := func(j int) []float32 {
		from := rows[j] + parts[j].Pieces[c].Off
		return values(parts[j].Table)[from : from+parts[j].Pieces[c].Width]
	}
	return c, cut(0), cut(1)
}

// each calls f for every occurrence: with its sample and field, the parts of the
// field, the start of the row of each and the weight.
func (p *Plan) each(s Samples, tables []TableRows, f func(entry int, parts []Part, rows []int, weight float32)) {
	next := make([]int, len(tables)) // occurrences so far
	rows := make([]int, 0, 16)
	entry := 0
	for range s.N {
		for _, parts := range p.Fields {
			for o := s.Offsets[entry]; o < s.Offsets[entry+1]; o++ {
				rows = rows[:0]
				for j := range parts {
					t := parts[j].Table
					rows = append(rows, int(tables[t].Index[next[t]])*p.Tables[t].Width)
					next[t]++
				}
				f(entry, parts, rows, s.Weights[o])
			}
			entry++
		}
	}
}
