package fsm

import (
	"github.com/fathom-train/fathom/shard"
)

// image restores one version: the weights, as they were at that version, of
// everything the step behind it changed.
type image struct {
	version uint64
	tables  []imageTable
	dense   [][]float32 // by tensor; empty when the step did not change it
	// shared says that a view reads the image, which must then not be reused.
	shared bool
}

// imageTable holds rows of one table. A row that was absent is there too, with
// its initial weights.
type imageTable struct {
	keys    []shard.Key // ascending
	weights []float32   // [len(keys), width]
}

func (t *imageTable) reserve(rows, width int) {
	if cap(t.keys) < rows || cap(t.weights) < rows*width {
		// A little more than asked for: steps differ in size by little.
		rows += rows / 8
		t.keys = make([]shard.Key, 0, rows)
		t.weights = make([]float32, 0, rows*width)
	}
}

// add appends keys and returns the place of their weights.
func (t *imageTable) add(keys []shard.Key, width int) []float32 {
	t.keys = append(t.keys, keys...)
	n := len(t.weights)
	t.weights = t.weights[:n+len(keys)*width]
	return t.weights[n:]
}

// seek returns the place of a key, counted from hint on when the key is not
// before it: lookups mostly ask for ascending keys. ok says whether it is there.
func (t *imageTable) seek(hint int, k shard.Key) (at int, ok bool) {
	lo := hint
	if lo > 0 && (lo > len(t.keys) || t.keys[lo-1] >= k) {
		lo = 0
	}
	hi, stride := lo, 1
	for hi < len(t.keys) && t.keys[hi] < k {
		lo = hi + 1
		hi += stride
		stride *= 2
	}
	hi = min(hi, len(t.keys))
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.keys[mid] < k {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(t.keys) && t.keys[lo] == k
}

// overlay replaces the weights of the keys that the image holds.
func (t *imageTable) overlay(dst []float32, keys []shard.Key, width int) {
	at, ok := 0, false
	for i, k := range keys {
		if at, ok = t.seek(at, k); ok {
			copy(dst[i*width:(i+1)*width], t.weights[at*width:])
		}
	}
}

func (img *image) size() int {
	n := 0
	for i := range img.tables {
		n += 8*cap(img.tables[i].keys) + 4*cap(img.tables[i].weights)
	}
	for _, d := range img.dense {
		n += 4 * cap(d)
	}
	return n
}

// nextImage returns an empty image of the current version, which the next step
// fills, dropping the oldest one when there are enough; nil when none is kept.
func (m *model) nextImage() *image {
	if m.schema.PreImages == 0 {
		return nil
	}
	var img *image
	if len(m.images) == m.schema.PreImages {
		img = m.images[0]
		m.images = append(m.images[:0], m.images[1:]...)
	}
	if img == nil || img.shared {
		img = m.emptyImage()
	}
	img.version = m.version
	for i := range img.tables {
		t := &img.tables[i]
		t.keys, t.weights = t.keys[:0], t.weights[:0]
	}
	for i := range img.dense {
		img.dense[i] = img.dense[i][:0]
	}
	m.images = append(m.images, img)
	return img
}

func (m *model) emptyImage() *image {
	return &image{tables: make([]imageTable, len(m.tables)), dense: make([][]float32, len(m.dense))}
}
