package table

import (
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/shard"
)

// benchTable has rows of a linear weight and an embedding of 16 under LAMB.
func benchTable(b *testing.B, rows int) (*Table, []shard.Key) {
	b.Helper()
	t := open(b, Schema{Name: "rows", Columns: []Column{
		{Name: "embedding", Width: 16, Init: random.Init{Kind: random.Normal, Scale: .01}, Optimizer: optim.Config{Name: optim.LAMB}},
	}}, 1)
	keys := make([]shard.Key, rows)
	g := make([]float32, t.Width())
	for i := range keys {
		keys[i] = shard.Key(random.Word(1, uint64(i)))
		t.Update(keys[i], g, 1)
	}
	return t, keys
}

func BenchmarkGather(b *testing.B) {
	t, keys := benchTable(b, 1<<20)
	const batch = 4096
	ask, dst := make([]shard.Key, batch), make([]float32, batch*t.Width())
	i := uint64(0)
	for b.Loop() {
		for j := range ask {
			i++
			ask[j] = keys[random.Below(2, i, uint64(len(keys)))]
		}
		t.Gather(dst, ask)
	}
	b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkUpdate(b *testing.B) {
	t, keys := benchTable(b, 1<<20)
	g := gradient(t.Width(), 1, 1)
	i := uint64(0)
	for b.Loop() {
		i++
		t.Update(keys[random.Below(2, i, uint64(len(keys)))], g, 2)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkCreate(b *testing.B) {
	t, _ := benchTable(b, 0)
	g := gradient(t.Width(), 1, 1)
	i := uint64(0)
	for b.Loop() {
		i++
		t.Update(shard.Key(random.Word(1, i)), g, 2)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
