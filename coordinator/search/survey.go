package search

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/exact"
)

// Survey is what the tables of a supernet hold, or one shard's part of it.
type Survey struct {
	// Thresholds are the pruning thresholds, by table; empty without pruning.
	Thresholds []float32     `json:"thresholds,omitempty"`
	Tables     []TableSurvey `json:"tables"`
	// Gates are the soft gates, by table; empty without.
	Gates [][]float32 `json:"gates,omitempty"`
	// ByDimension says that there is a gate for every dimension, which are chosen one by
	// one.
	ByDimension bool `json:"by_dimension,omitempty"`
	// Clusters are the groups of samples with dimensions of their own (ihas).
	Clusters []Cluster `json:"clusters,omitempty"`
	// Planted are the widths that the hidden model of generated data has, by table;
	// empty for other data.
	Planted []int `json:"planted,omitempty"`
}

// Cluster is a group of samples.
type Cluster struct {
	// Samples is how many of those that were grouped are in it.
	Samples int64 `json:"samples"`
	// Open are the gates of its centre, packed as supernet.Pack does it: of all fields,
	// each with all dimensions.
	Open []uint64 `json:"open"`
}

// TableSurvey is one table's part.
type TableSurvey struct {
	// Rows are all rows, Kept those above the threshold.
	Rows int64 `json:"rows"`
	Kept int64 `json:"kept"`
	// Moments are the sums of the squares of the kept rows' dimensions.
	Moments []exact.Sum `json:"moments,omitempty"`
	// Classes counts the kept rows by their importance (Class); empty when rows are not
	// chosen.
	Classes map[uint16]int64 `json:"classes,omitempty"`
	// Gram is the sum of the outer products of the kept rows, the lower triangle
	// row by row; empty when it would be too large. Only reports use it: unlike
	// the counts, its last bits depend on how rows are sharded.
	Gram []float64 `json:"gram,omitempty"`
}

// Merge adds the surveys of all shards, of which there is at least one, in their
// order.
func Merge(parts []*Survey) (*Survey, error) {
	first := parts[0]
	if n := len(first.Gates); n != 0 && n != len(first.Tables) {
		return nil, fmt.Errorf("the survey of shard 0 has gates of %d tables, and %d tables", n, len(first.Tables))
	}
	all := &Survey{Thresholds: first.Thresholds, Gates: first.Gates, ByDimension: first.ByDimension, Clusters: first.Clusters, Planted: first.Planted}
	for _, t := range first.Tables {
		all.Tables = append(all.Tables, TableSurvey{Moments: make([]exact.Sum, len(t.Moments)), Gram: make([]float64, len(t.Gram))})
	}
	for i, p := range parts {
		if len(p.Tables) != len(all.Tables) || len(p.Thresholds) != len(all.Thresholds) {
			return nil, fmt.Errorf("the survey of shard %d has %d tables and %d thresholds, that of shard 0 %d and %d",
				i, len(p.Tables), len(p.Thresholds), len(all.Tables), len(all.Thresholds))
		}
		for t, part := range p.Tables {
			sum := &all.Tables[t]
			if len(part.Moments) != len(sum.Moments) || len(part.Gram) != len(sum.Gram) {
				return nil, fmt.Errorf("table %d of the survey of shard %d has %d dimensions and %d products, that of shard 0 %d and %d",
					t, i, len(part.Moments), len(part.Gram), len(sum.Moments), len(sum.Gram))
			}
			sum.Rows += part.Rows
			sum.Kept += part.Kept
			for class, n := range part.Classes {
				if sum.Classes == nil {
					sum.Classes = map[uint16]int64{}
				}
				sum.Classes[class] += n
			}
			for k, v := range part.Moments {
				sum.Moments[k].Merge(v)
			}
			for k, v := range part.Gram {
				sum.Gram[k] += v
			}
		}
	}
	return all, nil
}

// Class is the class of an importance, its leading bits: those of one class differ by
// less than 1 %.
func Class(importance float32) uint16 { return uint16(math.Float32bits(importance) >> 16) }

// levels returns what may be kept of a table's rows: for every share the most
// important rows, whole classes, at most the share. Levels that keep nothing, or no
// more than another one, are left out.
func (t TableSurvey) levels(shares []float64) []Level {
	classes := slices.Sorted(maps.Keys(t.Classes))
	always := t.Kept // rows that are kept whatever they are, which have no class
	for _, n := range t.Classes {
		always -= n
	}
	var levels []Level
	for _, share := range shares[:len(shares)-1] {
		kept, at := always, len(classes)
		for at > 0 && float64(kept+t.Classes[classes[at-1]]) <= share*float64(t.Kept) {
			at--
			kept += t.Classes[classes[at]]
		}
		if n := len(levels); at == 0 || kept == always || n > 0 && levels[n-1].Kept == kept {
			continue
		}
		// The largest number of the class below.
		levels = append(levels, Level{Kept: kept, Above: math.Float32frombits(uint32(classes[at-1])<<16 | 0xffff)})
	}
	return append(levels, Level{Kept: t.Kept, Above: all})
}

// worth is what every dimension of a table's rows says: its root mean square times its
// gate, which is that of the weights with the gates multiplied in (DNIS). A gate may be
// outside [0, 1] by one update.
func worth(gates []float32, variance []float64) []float64 {
	all := make([]float64, len(variance))
	for d := range min(len(gates), len(variance)) {
		all[d] = min(max(float64(gates[d]), 0), 1) * math.Sqrt(variance[d])
	}
	return all
}

// Space is the search space of surveyed tables, which all have the same choices of
// widths and, unless shares is empty, of the shares of their rows that are kept.
func (s *Survey) Space(names []string, choices []int, shares []float64) (Space, error) {
	if len(names) != len(s.Tables) {
		return Space{}, fmt.Errorf("the survey has %d tables, the job %d", len(s.Tables), len(names))
	}
	space := Space{Clusters: s.Clusters}
	for t, of := range s.Tables {
		f := Field{Name: names[t], Rows: of.Rows, Kept: of.Kept, Choices: choices}
		for _, m := range of.Moments {
			f.Variance = append(f.Variance, m.Float64()/float64(max(1, of.Kept)))
		}
		if len(s.Gates) > 0 {
			f.Gates = s.Gates[t]
		}
		if s.ByDimension {
			f.Worth = worth(f.Gates, f.Variance)
		}
		space.Fields = append(space.Fields, f)
	}
	if len(shares) == 0 {
		return space, nil
	}
	for t, of := range s.Tables {
		f := Field{Name: names[t] + " rows", Rows: of.Rows, Kept: of.Kept, Levels: of.levels(shares)}
		for i := range f.Levels {
			f.Choices = append(f.Choices, i+1)
		}
		space.Fields = append(space.Fields, f)
	}
	return space, nil
}
