package export

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/fathom-train/fathom/shard"
)

// sorter puts the rows of one table in one shard in the order of their keys. What
// does not fit into about so many bytes of memory goes to files, sorted, which are
// merged in the end.
type sorter struct {
	dir     string // of the files
	memory  int64
	width   int
	most    int // rows in memory
	keys    []shard.Key
	weights []float32
	order   []uint32
	runs    []*os.File
}

// runBuffer is the memory for one file while they are merged.
const runBuffer = 64 << 10

// begin prepares it for rows of the given width. The memory of those before is used
// again.
func (s *sorter) begin(width int) {
	s.width, s.most = width, int(min(math.MaxUint32, max(1, s.memory/int64(12+4*width))))
}

// add takes rows in any order.
func (s *sorter) add(keys []shard.Key, weights []float32) error {
	if len(weights) != len(keys)*s.width {
		return damaged("%d weights of %d rows, want %d of each", len(weights), len(keys), s.width)
	}
	for len(keys) > 0 {
		n := min(len(keys), s.most-len(s.keys))
		s.keys = append(s.keys, keys[:n]...)
		s.weights = append(s.weights, weights[:n*s.width]...)
		keys, weights = keys[n:], weights[n*s.width:]
		if len(s.keys) == s.most {
			if err := s.spill(); err != nil {
				return err
			}
		}
	}
	return nil
}

// each calls f for the rows in memory by key and empties it.
func (s *sorter) each(f func(k shard.Key, row []float32) error) error {
	s.order = slices.Grow(s.order[:0], len(s.keys))[:len(s.keys)]
	for i := range s.order {
		s.order[i] = uint32(i)
	}
	slices.SortFunc(s.order, func(a, b uint32) int { return cmp.Compare(s.keys[a], s.keys[b]) })
	for _, i := range s.order {
		if err := f(s.keys[i], s.weights[int(i)*s.width:(int(i)+1)*s.width]); err != nil {
			return err
		}
	}
	s.keys, s.weights = s.keys[:0], s.weights[:0]
	return nil
}

// spill writes the rows in memory to a file of their own.
func (s *sorter) spill() error {
	f, err := os.Create(filepath.Join(s.dir, fmt.Sprintf("run-%d", len(s.runs))))
	if err != nil {
		return fmt.Errorf("sort rows: %w", err)
	}
	s.runs = append(s.runs, f)
	w := bufio.NewWriterSize(f, 1<<20)
	var b []byte
	err = s.each(func(k shard.Key, row []float32) error {
		b = binary.LittleEndian.AppendUint64(b[:0], uint64(k))
		for _, x := range row {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		_, err := w.Write(b)
		return err
	})
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("sort rows: %w", err)
	}
	return nil
}

// finish calls f for all rows, by ascending key. No key may be there twice.
func (s *sorter) finish(f func(k shard.Key, row []float32) error) error {
	last, any := shard.Key(0), false
	ascending := func(k shard.Key, row []float32) error {
		if any && k <= last {
			return damaged("key %#x is there twice", uint64(k))
		}
		last, any = k, true
		return f(k, row)
	}
	if len(s.runs) == 0 {
		return s.each(ascending)
	}
	if len(s.keys) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	return s.merge(ascending)
}

func (s *sorter) merge(f func(k shard.Key, row []float32) error) error {
	var m merge
	for _, file := range s.runs {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("sort rows: %w", err)
		}
		r := &run{in: bufio.NewReaderSize(file, runBuffer), raw: make([]byte, 8+4*s.width), row: make([]float32, s.width)}
		if err := r.next(); err != nil {
			return fmt.Errorf("sort rows: %w", err)
		}
		m = append(m, r)
	}
	heap.Init(&m)
	for len(m) > 0 {
		r := m[0]
		if err := f(r.key, r.row); err != nil {
			return err
		}
		switch err := r.next(); {
		case err == io.EOF:
			heap.Pop(&m)
		case err != nil:
			return fmt.Errorf("sort rows: %w", err)
		default:
			heap.Fix(&m, 0)
		}
	}
	return nil
}

// close removes the files.
func (s *sorter) close() error {
	var errs []error
	for _, f := range s.runs {
		errs = append(errs, f.Close(), os.Remove(f.Name()))
	}
	s.runs = nil
	return errors.Join(errs...)
}

// run is one file that is merged, at one of its rows.
type run struct {
	in  *bufio.Reader
	raw []byte
	key shard.Key
	row []float32
}

func (r *run) next() error {
	if _, err := io.ReadFull(r.in, r.raw); err != nil {
		return err
	}
	r.key = shard.Key(binary.LittleEndian.Uint64(r.raw))
	for i := range r.row {
		r.row[i] = math.Float32frombits(binary.LittleEndian.Uint32(r.raw[8+4*i:]))
	}
	return nil
}

// merge is a heap of files by the key they are at.
type merge []*run

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return m[i].key < m[j].key }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }

// Push implements heap.Interface.
func (m *merge) Push(x any) { *m = append(*m, x.(*run)) }

// Pop implements heap.Interface.
func (m *merge) Pop() any {
	old := *m
	r := old[len(old)-1]
	*m = old[:len(old)-1]
	return r
}
