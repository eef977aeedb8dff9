//go:build unix

package table

import (
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/shard"
)

// cpu returns the processor time used so far: on a busy machine wall time says
// little.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// loop measures f, which handles n rows.
func loop(b *testing.B, n int, f func(i uint64)) {
	b.Helper()
	i, start := uint64(0), cpu()
	for b.Loop() {
		i++
		f(i)
	}
	b.ReportMetric(float64(i)*float64(n)/(cpu()-start).Seconds()/1e6, "Mrows/cpu-s")
}

// benchRows is the number of rows of the benchmarks: FATHOM_BENCH_ROWS, or a
// million.
func benchRows() int {
	if n, err := strconv.Atoi(os.Getenv("FATHOM_BENCH_ROWS")); err == nil {
		return n
	}
	return 1 << 20
}

// benchTable has rows of 16 weights under the optimizer.
func benchTable(b *testing.B, rows int, optimizer string) (*Table, []shard.Key) {
	b.Helper()
	t := open(b, Schema{Name: "rows", Columns: []Column{
		{Name: "embedding", Width: 16, Init: random.Init{Kind: random.Normal, Scale: .01}, Optimizer: optim.Config{Name: optimizer}},
	}}, 1)
	keys := make([]shard.Key, rows)
	for i := range keys {
		keys[i] = shard.Key(random.Word(1, uint64(i)))
	}
	g := make([]float32, benchBatch*t.Width())
	for lo := 0; lo < rows; lo += benchBatch {
		part := keys[lo:min(lo+benchBatch, rows)]
		t.UpdateRows(nil, part, nil, g[:len(part)*t.Width()], optim.At(1))
	}
	return t, keys
}

const benchBatch = 4096

// batches returns ascending random keys, as pushes and pulls carry them.
func batches(keys []shard.Key) [][]shard.Key {
	all := make([][]shard.Key, 256)
	for i := range all {
		all[i] = make([]shard.Key, benchBatch)
		for j := range all[i] {
			all[i][j] = keys[random.Below(2, uint64(i*benchBatch+j), uint64(len(keys)))]
		}
		slices.Sort(all[i])
	}
	return all
}

func BenchmarkGather(b *testing.B) {
	t, keys := benchTable(b, benchRows(), optim.SGD)
	ask, dst := batches(keys), make([]float32, benchBatch*t.Width())
	loop(b, benchBatch, func(i uint64) { t.Gather(dst, ask[i%256]) })
	b.ReportMetric(float64(t.Bytes())/float64(t.Rows())-float64(4*t.RowFloats()), "extra-B/row")
}

func BenchmarkUpdate(b *testing.B) {
	t, keys := benchTable(b, benchRows(), optim.LAMB)
	ask, g := batches(keys), make([]float32, benchBatch*t.Width())
	random.Init{Kind: random.Normal, Scale: .01}.Fill(g, 1)
	b.Run("rows", func(b *testing.B) {
		loop(b, benchBatch, func(i uint64) { t.UpdateRows(nil, ask[i%256], nil, g, optim.At(1+i)) })
	})
	b.Run("keeping", func(b *testing.B) {
		before := make([]float32, len(g))
		loop(b, benchBatch, func(i uint64) { t.UpdateRows(before, ask[i%256], nil, g, optim.At(1+i)) })
	})
	b.Run("hot", func(b *testing.B) {
		loop(b, 256, func(i uint64) { t.UpdateRows(nil, ask[0][:256], nil, g[:256*16], optim.At(1+i)) })
	})
}

func BenchmarkCreate(b *testing.B) {
	t, _ := benchTable(b, 0, optim.LAMB)
	keys, g := make([]shard.Key, benchBatch), make([]float32, benchBatch*t.Width())
	loop(b, benchBatch, func(i uint64) {
		for j := range keys {
			keys[j] = shard.Key(random.Word(1, i*benchBatch+uint64(j)))
		}
		t.UpdateRows(nil, keys, nil, g, optim.At(2))
	})
}

// BenchmarkUpdateBesideView has steps of four batches beside a view that nobody
// reads: what the first of them costs, the next eight, and one without a view.
func BenchmarkUpdateBesideView(b *testing.B) {
	t, keys := benchTable(b, benchRows(), optim.LAMB)
	ask, g := batches(keys), make([]float32, benchBatch*t.Width())
	random.Init{Kind: random.Normal, Scale: .01}.Fill(g, 1)
	n := uint64(0)
	steps := func(count int) float64 {
		start := cpu()
		for range 4 * count {
			n++
			t.UpdateRows(nil, ask[n%256], nil, g, optim.At(1+n))
		}
		return 1e3 * (cpu() - start).Seconds() / float64(count)
	}
	var alone, first, next []float64
	for b.Loop() {
		alone = append(alone, steps(9))
		v := t.View()
		first = append(first, steps(1))
		next = append(next, steps(8))
		v.Release()
	}
	for name, all := range map[string][]float64{"alone": alone, "first": first, "next": next} {
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], name+"-cpu-ms/step")
	}
}
