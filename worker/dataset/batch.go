package dataset

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
	"github.com/zeebo/xxh3"
)

// Batch is a number of samples. Its slices are reused by the next read into
// the same batch.
type Batch struct {
	N, Fields int
	// Labels are 0 or 1, len N.
	Labels []float32
	// Samples are the weights of the samples, and Groups their groups; empty
	// when the job names no column of theirs.
	Samples []float32
	Groups  []uint64
	// Keys and Weights have one element per occurrence. The occurrences of
	// field f of sample i are Offsets[i*Fields+f] to Offsets[i*Fields+f+1];
	// every field has at least one. len(Offsets) is N*Fields+1.
	Keys    []shard.Key
	Weights []float32
	Offsets []int32
}

// reset empties the batch and makes room for n samples with one value each.
func (b *Batch) reset(n, fields int) {
	b.N, b.Fields = n, fields
	b.Labels = slices.Grow(b.Labels[:0], n)
	b.Samples, b.Groups = b.Samples[:0], b.Groups[:0]
	b.Keys = slices.Grow(b.Keys[:0], n*fields)
	b.Weights = slices.Grow(b.Weights[:0], n*fields)
	b.Offsets = append(slices.Grow(b.Offsets[:0], n*fields+1), 0)
}

// block is the decoded rows of one unit, row by row. It is never changed once
// it is built.
type block struct {
	rows, fields int
	labels       []uint8
	samples      []float32 // weights of the rows; nil without such a column
	groups       []uint64  // likewise
	keys         []shard.Key
	// weights is nil when every weight is 1.
	weights []float32
	// offsets is nil when every field has one value; otherwise as Batch.Offsets.
	offsets []int32
}

// bytes returns the memory the block takes.
func (b *block) bytes() int64 {
	return int64(unsafe.Sizeof(*b)) + int64(cap(b.labels)) + 4*int64(cap(b.samples)) + 8*int64(cap(b.groups)) + 8*int64(cap(b.keys)) + 4*int64(cap(b.weights)) + 4*int64(cap(b.offsets))
}

// positives counts the rows whose label is 1.
func (b *block) positives() int64 {
	var n int64
	for _, l := range b.labels {
		n += int64(l)
	}
	return n
}

// sum returns a digest of the contents, independent of the format they came
// in and of the machine's byte order.
func (b *block) sum() xxh3.Uint128 {
	h := xxh3.New()
	var buf [4096]byte
	put := func(n, width int, at func(dst []byte, i int)) {
		binary.LittleEndian.PutUint64(buf[:], uint64(n))
		h.Write(buf[:8])
		for i := 0; i < n; {
			used := 0
			for ; i < n && used < len(buf); used += width {
				at(buf[used:], i)
				i++
			}
			h.Write(buf[:used])
		}
	}
	put(b.fields, 0, func([]byte, int) {})
	put(len(b.labels), 1, func(dst []byte, i int) { dst[0] = b.labels[i] })
	put(len(b.keys), 8, func(dst []byte, i int) { binary.LittleEndian.PutUint64(dst, uint64(b.keys[i])) })
	put(len(b.weights), 4, func(dst []byte, i int) { binary.LittleEndian.PutUint32(dst, math.Float32bits(b.weights[i])) })
	put(len(b.offsets), 4, func(dst []byte, i int) { binary.LittleEndian.PutUint32(dst, uint32(b.offsets[i])) })
	if b.samples != nil {
		put(len(b.samples), 4, func(dst []byte, i int) { binary.LittleEndian.PutUint32(dst, math.Float32bits(b.samples[i])) })
	}
	if b.groups != nil {
		put(len(b.groups), 8, func(dst []byte, i int) { binary.LittleEndian.PutUint64(dst, b.groups[i]) })
	}
	return h.Sum128()
}

// ones is copied into batches whose weights are all 1.
var ones = func() (w [256]float32) {
	for i := range w {
		w[i] = 1
	}
	return w
}()

// appendRow appends row r to the batch.
func (b *block) appendRow(dst *Batch, r int) {
	dst.Labels = append(dst.Labels, float32(b.labels[r]))
	if b.samples != nil {
		dst.Samples = append(dst.Samples, b.samples[r])
	}
	if b.groups != nil {
		dst.Groups = append(dst.Groups, b.groups[r])
	}
	lo, hi := r*b.fields, (r+1)*b.fields
	base := int32(len(dst.Keys))
	if b.offsets == nil {
		for f := range b.fields {
			dst.Offsets = append(dst.Offsets, base+int32(f)+1)
		}
	} else {
		first := b.offsets[lo]
		for _, o := range b.offsets[lo+1 : hi+1] {
			dst.Offsets = append(dst.Offsets, base+o-first)
		}
		lo, hi = int(first), int(b.offsets[hi])
	}
	dst.Keys = append(dst.Keys, b.keys[lo:hi]...)
	if b.weights != nil {
		dst.Weights = append(dst.Weights, b.weights[lo:hi]...)
		return
	}
	for n := hi - lo; n > 0; n -= len(ones) {
		dst.Weights = append(dst.Weights, ones[:min(n, len(ones))]...)
	}
}

// builder collects the rows of a unit, which may come in several record
// batches.
type builder struct {
	fields  int
	labels  []uint8
	samples []float32
	groups  []uint64
	keys    []shard.Key
	weights []float32 // empty while every weight is 1
	offsets []int32   // empty while every field has one value
}

// reset empties the builder.
func (b *builder) reset(fields int) {
	b.fields = fields
	b.samples, b.groups = b.samples[:0], b.groups[:0]
	b.labels, b.keys, b.weights, b.offsets = b.labels[:0], b.keys[:0], b.weights[:0], b.offsets[:0]
}

// add appends the rows of encoded columns except the bad ones.
func (b *builder) add(labels []uint8, bad []bool, cols []column) {
	plain, unit := true, true
	for i := range cols {
		plain = plain && cols[i].ends == nil
		unit = unit && cols[i].weights == nil
	}
	if plain && len(b.offsets) == 0 {
		b.addSingle(labels, bad, cols, unit && len(b.weights) == 0)
		return
	}
	if len(b.offsets) == 0 {
		for i := 0; i <= len(b.keys); i++ { // rows so far had one value per field
			b.offsets = append(b.offsets, int32(i))
		}
	}
	if !unit {
		b.needWeights()
	}
	for r := range labels {
		if bad[r] {
			continue
		}
		b.labels = append(b.labels, labels[r])
		for i := range cols {
			lo, hi := cols[i].span(r)
			b.keys = append(b.keys, cols[i].keys[lo:hi]...)
			b.offsets = append(b.offsets, int32(len(b.keys)))
			if w := cols[i].weights; w != nil {
				b.weights = append(b.weights, w[lo:hi]...)
			} else if len(b.weights) > 0 || !unit {
				for range hi - lo {
					b.weights = append(b.weights, 1)
				}
			}
		}
	}
}

// addExtras appends the weights and groups of the rows that are not bad; either
// is empty when there is no such column.
func (b *builder) addExtras(bad []bool, samples []float32, groups []shard.Key) {
	for r := range samples {
		if !bad[r] {
			b.samples = append(b.samples, samples[r])
		}
	}
	for r := range groups {
		if !bad[r] {
			b.groups = append(b.groups, uint64(groups[r]))
		}
	}
}

// needWeights writes out the weights of the rows so far.
func (b *builder) needWeights() {
	for len(b.weights) < len(b.keys) {
		b.weights = append(b.weights, 1)
	}
}

// addSingle is add for columns with one value per row: a transposition, done
// in tiles of rows that stay in the first cache while it goes over the columns.
func (b *builder) addSingle(labels []uint8, bad []bool, cols []column, unit bool) {
	const tile = 32
	if !unit {
		b.needWeights()
	}
	var good [tile]int32
	for from := 0; from < len(labels); from += tile {
		n := 0
		for r := from; r < min(from+tile, len(labels)); r++ {
			if !bad[r] {
				good[n] = int32(r)
				n++
				b.labels = append(b.labels, labels[r])
			}
		}
		base := len(b.keys)
		b.keys = slices.Grow(b.keys, n*b.fields)[:base+n*b.fields]
		if !unit {
			b.weights = slices.Grow(b.weights, n*b.fields)[:base+n*b.fields]
		}
		for i := range cols {
			c := &cols[i]
			for j, r := range good[:n] {
				b.keys[base+j*b.fields+i] = c.keys[r]
			}
			for j, r := range good[:n] {
				if unit {
					break
				}
				w := float32(1)
				if c.weights != nil {
					w = c.weights[r]
				}
				b.weights[base+j*b.fields+i] = w
			}
		}
	}
}

// block returns the rows collected, in memory of exactly their size and in
// the one form that these rows have.
func (b *builder) block() *block {
	out := &block{rows: len(b.labels), fields: b.fields, labels: slices.Clone(b.labels), keys: slices.Clone(b.keys)}
	if len(b.samples) > 0 {
		out.samples = slices.Clone(b.samples)
	}
	if len(b.groups) > 0 {
		out.groups = slices.Clone(b.groups)
	}
	if slices.ContainsFunc(b.weights, func(w float32) bool { return w != 1 }) {
		out.weights = slices.Clone(b.weights)
	}
	if len(b.offsets) > 0 && len(b.keys) != out.rows*b.fields {
		out.offsets = slices.Clone(b.offsets)
	}
	return out
}
