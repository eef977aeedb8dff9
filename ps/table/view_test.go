package table

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/shard"
	"pgregory.net/rapid"
)

// blocks copies all blocks of a view.
func blocks(v *View) []byte {
	var b []byte
	for i := range v.Blocks() {
		b = append(b, v.Block(nil, i)...)
	}
	return b
}

func TestViewKeepsItsRowsWhileTheTableGoesOn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab, err := New(schema(1), 1)
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		plain, err := New(schema(1), 1) // without views
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		type held struct {
			v    *View
			rows []byte // expected
			hash [2]uint64
			all  [][]byte // blocks read so far
			read int      // their bytes
		}
		var views []*held
		drop := func(i int) {
			h := views[i]
			again, err := New(schema(1), 1)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			h.rows = h.rows[h.read:]
			for j := len(h.all); j < h.v.Blocks(); j++ {
				b := h.v.Block(nil, j)
				if !bytes.HasPrefix(h.rows, b) {
					t.Fatal("a view changed")
				}
				h.rows = h.rows[len(b):]
				h.all = append(h.all, b)
			}
			for _, b := range h.all {
				if err := again.Load(b); err != nil {
					t.Fatal(err)
				}
			}
			if again.Hash() != h.hash || again.Rows() != h.v.Rows() {
				t.Fatal("a table loaded from a view differs from the one it was taken of")
			}
			h.v.Release()
			h.v.Release()
			views = append(views[:i], views[i+1:]...)
		}
		step := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				step++
				rows := rapid.SampledFrom([]int{1, 500, 1100}).Draw(t, "rows") // a page holds 1024
				for i := range shard.Key(rows) {
					g := gradient(5, i, step)
					tab.Update(i, g, optim.At(step))
					plain.Update(i, g, optim.At(step))
				}
			},
			"view": func(t *rapid.T) {
				other := tab.View()
				defer other.Release()
				views = append(views, &held{v: tab.View(), rows: blocks(other), hash: tab.Hash()})
			},
			"read": func(t *rapid.T) {
				if len(views) == 0 {
					return
				}
				h := views[rapid.IntRange(0, len(views)-1).Draw(t, "view")]
				if len(h.all) == h.v.Blocks() {
					return
				}
				b := h.v.Block(nil, len(h.all))
				if !bytes.HasPrefix(h.rows[h.read:], b) {
					t.Fatal("a view changed")
				}
				h.all, h.read = append(h.all, b), h.read+len(b)
			},
			"release": func(t *rapid.T) {
				if len(views) > 0 {
					drop(rapid.IntRange(0, len(views)-1).Draw(t, "view"))
				}
			},
		})
		for len(views) > 0 {
			drop(0)
		}
		if tab.Hash() != plain.Hash() {
			t.Fatal("views changed what updates do")
		}
		p := tab.pool
		used := -len(p.free) - len(p.rest)/p.pageBytes
		for _, s := range p.slabs {
			used += len(s.mem) / p.pageBytes // what is left of a slab is no page
		}
		if p.users != 1 || p.views.Load() != nil || used != len(tab.base) {
			t.Fatalf("%d users and %d pages in use beside a table of %d after all views are released", p.users, used, len(tab.base))
		}
	})
}

func TestViewIsReadWhileRowsChange(t *testing.T) {
	t.Parallel()
	tab := open(t, schema(1), 1)
	for k := range shard.Key(3000) {
		tab.Update(k, gradient(5, k, 1), optim.At(1))
	}
	first := tab.View()
	want := blocks(first)
	first.Release()
	var readers sync.WaitGroup
	for range 3 {
		v := tab.View()
		readers.Go(func() {
			if !bytes.Equal(blocks(v), want) {
				t.Error("a view changed")
			}
			v.Release()
		})
	}
	for step := range uint64(5) {
		for k := range shard.Key(4000) {
			tab.Update(k, gradient(5, k, step+2), optim.At(step+2))
		}
	}
	readers.Wait()
}

func TestViewOutlivesItsTable(t *testing.T) {
	t.Parallel()
	tab, err := New(schema(1), 1)
	if err != nil {
		t.Fatal(err)
	}
	for k := range shard.Key(100000) { // enough for mapped memory
		tab.Update(k, []float32{1, 2, 3, 4, 5}, optim.At(1))
	}
	v, other := tab.View(), tab.View()
	want := blocks(other)
	other.Release()
	tab.Close()
	if !bytes.Equal(blocks(v), want) {
		t.Error("closing the table changed a view of it")
	}
	if v.pool.size() == 0 {
		t.Error("the memory went before the view was released")
	}
	pool := v.pool
	v.Release()
	if pool.size() != 0 || pool.users != 0 {
		t.Errorf("%d bytes and %d users are left after the last view", pool.size(), pool.users)
	}
}

func TestLoadRefusesDamage(t *testing.T) {
	t.Parallel()
	tab := open(t, schema(1), 1)
	for k := range shard.Key(3) {
		tab.Update(k, gradient(5, k, 1), optim.At(1))
	}
	v := tab.View()
	defer v.Release()
	b := v.Block(nil, 0)
	again := open(t, schema(1), 1)
	if err := again.Load(b[:len(b)-1]); err == nil || !strings.Contains(err.Error(), "multiple of") {
		t.Errorf("a block that is cut off: %v", err)
	}
	if err := again.Load(b); err != nil {
		t.Fatal(err)
	}
	if err := again.Load(b[:tab.RowBytes()]); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a key twice: %v", err)
	}
	if k := binary.LittleEndian.Uint64(b); k != 0 {
		t.Errorf("the block begins with key %d, want 0", k)
	}
}

func TestRowsWiderThanAPage(t *testing.T) {
	t.Parallel()
	s := schema(1)
	s.Columns[1].Width = MaxWidth - 1
	tab := open(t, s, 1)
	w := newTwin(t, tab)
	for step := range uint64(2) {
		for k := range shard.Key(40) {
			g := gradient(MaxWidth, k, step+1)
			tab.Update(k, g, optim.At(step+1))
			w.update(k, g, step+1)
		}
	}
	w.compare(t, tab)
}
