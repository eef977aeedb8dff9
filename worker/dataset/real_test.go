package dataset

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/shard"
	"github.com/prometheus/client_golang/prometheus"
)

// realData returns the directory of a public data set, which is not part of
// the repository: shared/data beside it.
func realData(t testing.TB, name string) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		found := filepath.Join(dir, "shared", "data", name)
		if _, err := os.Stat(found); err == nil {
			return found
		}
	}
	t.Skipf("shared/data/%s is not there", name)
	return ""
}

func frappe(t testing.TB) job.Data {
	return job.Data{Root: realData(t, "frappe"), Format: "csv", Train: []string{"train.csv"}, Valid: []string{"valid.csv"}, Test: []string{"test.csv"},
		Fields: fields("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")}
}

func TestFrappe(t *testing.T) {
	t.Parallel()
	s := open(t, frappe(t))
	seen := make(map[shard.Key]struct{})
	for name, want := range map[string][2]int64{"train": {202027, 67604}, "valid": {57722, 19063}, "test": {28860, 9536}} {
		p, ok := s.Split(name)
		if !ok {
			t.Fatalf("no split %s", name)
		}
		positives, _ := p.Positives()
		if p.Rows() != want[0] || positives != want[1] {
			t.Errorf("%s has %d rows, %d positive, want %v", name, p.Rows(), positives, want)
		}
		for _, k := range all(t, s, name).Keys {
			seen[k] = struct{}{}
		}
	}
	if len(seen) != 5382 {
		t.Errorf("%d different keys, want 5382", len(seen))
	}
}

func TestAnimeGenres(t *testing.T) {
	t.Parallel()
	s := open(t, job.Data{Root: realData(t, "anime"), Format: "csv", Train: []string{"test.csv"},
		Fields: append(fields("user", "anime", "type", "episodes"), job.Field{Name: "genres", Separator: "|"})})
	b := all(t, s, "train")
	if b.N != 41994 || len(b.Keys) < 5*b.N {
		t.Errorf("%d rows, %d values", b.N, len(b.Keys))
	}
	k, w := cell(b, 0, 4)
	if len(k) != 4 || k[1] != keys("genres", "Psychological")[0] || w[3] != 0.25 {
		t.Errorf("genres of the first row: %v, %v", k, w)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := open(t, synthetic(3*blockRows, 10))
	reg := prometheus.NewPedanticRegistry()
	unregister, err := s.Register(reg)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := s.Split("train")
	if err := p.Read(t.Context(), new(Batch), 0, p.Rows()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if got["fathom_dataset_rows"] != 3*blockRows+10 || got["fathom_dataset_cache_hits_total"] != 3 || got["fathom_dataset_cache_bytes"] < 3*blockRows*39*8 {
		t.Errorf("metrics: %v", got)
	}
	unregister()
	if _, err := s.Register(reg); err != nil {
		t.Errorf("after unregistering: %v", err)
	}
}
