package dataset

import (
	"path/filepath"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
)

func rowsPerSecond(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkDecode is one core from a file of 39 columns to a block of keys.
func BenchmarkDecode(b *testing.B) {
	syn := job.Synthetic{TrainRows: 4 * blockRows, Seed: 1}
	for _, format := range []string{"csv", "parquet", "arrow", "synthetic"} {
		b.Run(format, func(b *testing.B) {
			d := job.Data{Format: format, Synthetic: &syn, Fields: SyntheticFields(syn)}
			if format != "synthetic" {
				dir := filepath.Join(b.TempDir(), "d")
				if err := WriteSynthetic(b.Context(), dir, syn, format); err != nil {
					b.Fatal(err)
				}
				d.Root, d.Train = dir, []string{"train." + format}
			}
			s := open(b, d)
			units := s.splits["train"].units
			for i := 0; b.Loop(); i++ {
				if _, err := s.decode(b.Context(), units[i%len(units)]); err != nil {
					b.Fatal(err)
				}
			}
			rowsPerSecond(b, blockRows)
		})
	}
}

// BenchmarkReadEpoch reads batches of 1024 samples of 39 fields from the cache.
func BenchmarkReadEpoch(b *testing.B) {
	s := open(b, job.Data{Format: "synthetic", Synthetic: &job.Synthetic{TrainRows: 64 * blockRows}})
	p, _ := s.Split("train")
	var batch Batch
	for i := int64(0); b.Loop(); i++ {
		lo := i * 1024 % p.Rows()
		if err := p.ReadEpoch(b.Context(), &batch, 1, 1, lo, lo+1024); err != nil {
			b.Fatal(err)
		}
	}
	rowsPerSecond(b, 1024)
}

// BenchmarkFrappe is CSV of 10 fields.
func BenchmarkFrappe(b *testing.B) {
	s := open(b, frappe(b))
	units := s.splits["train"].units[:20]
	for i := 0; b.Loop(); i++ {
		if _, err := s.decode(b.Context(), units[i%len(units)]); err != nil {
			b.Fatal(err)
		}
	}
	rowsPerSecond(b, blockRows)
}
