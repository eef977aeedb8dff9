package dataset

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/shard"
	"go.uber.org/goleak"
)

// row is one sample of a batch.
func row(b *Batch, i int) *Batch {
	lo, hi := b.Offsets[i*b.Fields], b.Offsets[(i+1)*b.Fields]
	r := &Batch{N: 1, Fields: b.Fields, Labels: b.Labels[i : i+1], Keys: b.Keys[lo:hi], Weights: b.Weights[lo:hi]}
	for _, o := range b.Offsets[i*b.Fields : (i+1)*b.Fields+1] {
		r.Offsets = append(r.Offsets, o-lo)
	}
	return r
}

// TestEpochDoesNotDependOnHowItIsCut: readers that take ranges of any size, at
// the same time, with caches of any size, see the rows of one order; and each
// row of the split is there once.
func TestEpochDoesNotDependOnHowItIsCut(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	const n = 2*blockRows + 4321
	write(t, dir, "t.csv", tableText(tableRows(n), ','))
	d := job.Data{Root: dir, Format: "csv", Train: []string{"t.csv"}, Fields: tableFields, ShuffleWindowRows: 14000}
	whole := new(Batch)
	count := make(map[string]int)
	for _, cache := range []int64{0, 1, 2 << 20} {
		d.CacheBytes = cache
		s, err := Open(t.Context(), d, quiet())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		p, _ := s.Split("train")
		if whole.N == 0 {
			if err := p.ReadEpoch(t.Context(), whole, 5, 2, 0, n); err != nil {
				t.Fatal(err)
			}
			for i, f := 0, all(t, s, "train"); i < n; i++ {
				count[digestRow(f, i)]++
				count[digestRow(whole, i)]--
			}
			for _, c := range count {
				if c != 0 {
					t.Fatal("the epoch has other rows than the files")
				}
			}
		}
		var wg sync.WaitGroup
		for reader := range 4 {
			wg.Go(func() {
				var b Batch
				for i, lo := uint64(0), int64(0); lo < n; i++ {
					hi := min(lo+int64(random.Below(uint64(reader), i, 9000)), n)
					if err := p.ReadEpoch(t.Context(), &b, 5, 2, lo, hi); err != nil {
						t.Error(err)
						return
					}
					for i := range b.N {
						if at := int(lo) + i; !same(row(&b, i), row(whole, at)) {
							t.Errorf("cache %d reader %d: position %d differs", cache, reader, at)
							return
						}
					}
					lo = hi
				}
			})
		}
		wg.Wait()
		if s.cache.used > d.CacheBytes && cache > 1 {
			t.Errorf("the cache has %d bytes, want at most %d", s.cache.used, d.CacheBytes)
		}
	}
}

func digestRow(b *Batch, i int) string {
	r := row(b, i)
	blk := block{rows: 1, fields: r.Fields, labels: []uint8{uint8(r.Labels[0])}, keys: r.Keys, weights: r.Weights, offsets: r.Offsets}
	sum := blk.sum().Bytes()
	return string(sum[:])
}

func TestReadingFromTheCacheDoesNotAllocate(t *testing.T) {
	for name, d := range map[string]job.Data{
		"single": {Format: "synthetic", Synthetic: &job.Synthetic{TrainRows: 3 * blockRows}},
	} {
		s := open(t, d)
		p, _ := s.Split("train")
		var b Batch
		read := func() {
			if err := p.ReadEpoch(t.Context(), &b, 1, 1, 100, 1124); err != nil {
				t.Fatal(err)
			}
			if err := p.Read(t.Context(), &b, 8000, 9000); err != nil {
				t.Fatal(err)
			}
		}
		read()
		if n := testing.AllocsPerRun(20, read); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestOneBlockIsDecodedByOneReader: others wait for it; when it fails, they
// try themselves.
func TestOneBlockIsDecodedByOneReader(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan error)
	var calls int
	c := newCache(1<<20, func(context.Context, *unit) (*block, error) {
		calls++
		started <- struct{}{}
		if err := <-release; err != nil {
			return nil, err
		}
		return &block{rows: 1}, nil
	})
	u := new(unit)
	results := make(chan error, 3)
	get := func() { _, err := c.get(t.Context(), u); results <- err }
	go get()
	<-started
	go get()
	go get()
	boom := errors.New("boom")
	release <- boom
	if err := <-results; !errors.Is(err, boom) {
		t.Errorf("the first reader got %v", err)
	}
	<-started // one of the others
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.get(ctx, u); !errors.Is(err, context.Canceled) {
		t.Errorf("a waiting reader whose context ended got %v", err)
	}
	release <- nil
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if calls != 2 || c.misses.Load() != 2 {
		t.Errorf("%d calls, %d misses, want 2", calls, c.misses.Load())
	}
}

func TestCacheDropsWhatWasNotUsedForLongest(t *testing.T) {
	t.Parallel()
	size := (&block{keys: make([]shard.Key, 100)}).bytes()
	c := newCache(3*size, func(context.Context, *unit) (*block, error) { return &block{keys: make([]shard.Key, 100)}, nil })
	units := make([]unit, 5)
	for _, i := range []int{0, 1, 2, 0, 3} {
		if _, err := c.get(t.Context(), &units[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []bool{true, false, true, true, false} {
		if got := c.peek(&units[i]) != nil; got != want {
			t.Errorf("unit %d cached: %v, want %v", i, got, want)
		}
	}
	if c.offer(&units[4], &block{keys: make([]shard.Key, 100)}); c.peek(&units[4]) != nil || c.used != 3*size {
		t.Errorf("offer pushed out another block, or %d bytes are not %d", c.used, 3*size)
	}
	c.capacity = 1
	if b, err := c.get(t.Context(), &units[4]); err != nil || c.peek(&units[4]) != b || c.used != size {
		t.Error("a block larger than the cache is not kept alone")
	}
}

// TestNextWindowIsDecodedAhead once a reader is past the middle of its own.
func TestNextWindowIsDecodedAhead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "t.csv", tableText(tableRows(8*blockRows), ','))
	d := job.Data{Root: dir, Format: "csv", Train: []string{"t.csv"}, Fields: tableFields, ShuffleWindowRows: blockRows, CacheBytes: 4 << 20}
	s := open(t, d)
	p, _ := s.Split("train")
	order := p.plan(1, 1)
	if s.bytes() <= d.CacheBytes || 2*p.windowBytes() > d.CacheBytes {
		t.Fatalf("the test needs a cache between two windows and all: %d %d", s.bytes(), p.windowBytes())
	}
	s.cache.drop()
	var b Batch
	for _, c := range []struct {
		pos   int64
		ahead bool
	}{{blockRows/2 - 2, false}, {blockRows / 2, true}} {
		if err := p.ReadEpoch(t.Context(), &b, 1, 1, c.pos, c.pos+1); err != nil {
			t.Fatal(err)
		}
		s.prefetching.Wait()
		if got := s.cache.peek(p.units[order.units[1]]) != nil; got != c.ahead {
			t.Errorf("after position %d the next window is cached: %v", c.pos, got)
		}
	}
}
