package layer

import (
	"testing"

	"pgregory.net/rapid"
)

// occurrences draws a batch: offsets, row indices and weights.
func occurrences(t *rapid.T, entries, rows int) (index, offsets []int32, weights []float32) {
	offsets = []int32{0}
	for range entries {
		for range rapid.SampledFrom([]int{1, 1, 1, 0, 2, 5}).Draw(t, "values") {
			index = append(index, int32(rapid.IntRange(0, rows-1).Draw(t, "row")))
			weights = append(weights, rapid.SampledFrom([]float32{1, 1, 0.5, -0.75, 3}).Draw(t, "weight"))
		}
		offsets = append(offsets, int32(len(index)))
	}
	return index, offsets, weights
}

func TestGatherAndScatterMatchTheLoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, fields := rapid.IntRange(0, 6).Draw(t, "n"), rapid.IntRange(1, 4).Draw(t, "fields")
		width, rows := rapid.SampledFrom([]int{1, 3, 8, 10, 17}).Draw(t, "width"), rapid.IntRange(1, 9).Draw(t, "rows")
		off := rapid.IntRange(0, 2).Draw(t, "off")
		stride := off + width + rapid.IntRange(0, 2).Draw(t, "rest")
		index, offsets, weights := occurrences(t, n*fields, rows)
		if rapid.Bool().Draw(t, "unweighted") {
			weights = nil
		}
		weight := func(o int32) float32 {
			if weights == nil {
				return 1
			}
			return weights[o]
		}
		table, dout := values(1, rows*stride), values(2, n*fields*width)
		out, drows := values(3, n*fields*width), values(4, rows*stride)
		want, wantRows := make([]float32, len(out)), append([]float32(nil), drows...)
		for e := range n * fields {
			for j := range width {
				for o := offsets[e]; o < offsets[e+1]; o++ {
					term := float32(weight(o) * table[int(index[o])*stride+off+j])
					if o == offsets[e] {
						want[e*width+j] = term
					} else {
						want[e*width+j] += term
					}
					wantRows[int(index[o])*stride+off+j] += float32(weight(o) * dout[e*width+j])
				}
			}
		}
		Gather(out, n, fields, width, table, stride, off, index, offsets, weights)
		Scatter(drows, stride, off, dout, n, fields, width, index, offsets, weights)
		for i := range want {
			if out[i] != want[i] {
				t.Fatalf("gather: out[%d] = %v, want %v", i, out[i], want[i])
			}
		}
		for i := range wantRows {
			if drows[i] != wantRows[i] {
				t.Fatalf("scatter: drows[%d] = %v, want %v", i, drows[i], wantRows[i])
			}
		}
	})
}

func BenchmarkGatherScatter(b *testing.B) {
	const n, fields, width, stride, rows = 1024, 26, 10, 11, 20000
	index, offsets, weights := make([]int32, n*fields), make([]int32, n*fields+1), make([]float32, n*fields)
	for i := range index {
		index[i], offsets[i+1], weights[i] = int32(i*7919%rows), int32(i+1), 1
	}
	table, out := values(1, rows*stride), make([]float32, n*fields*width)
	for b.Loop() {
		Gather(out, n, fields, width, table, stride, 1, index, offsets, weights)
		Scatter(table, stride, 1, out, n, fields, width, index, offsets, weights)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "examples/s")
}
