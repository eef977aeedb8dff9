package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/bits"
	"slices"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/export"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
)

// How much of the training split is counted: records, and different values of all
// fields together.
const (
	countedRecords = 1 << 20
	countedValues  = 4 << 20
)

// keptRows tells which values of a table have kept their rows.
type keptRows struct {
	Table string `json:"table"`
	// Records is how many training records were counted, from the first on.
	Records int64 `json:"records"`
	// Groups are by frequency: group i has the values that occur 2^i times or more,
	// but fewer than 2^(i+1).
	Groups []keptGroup `json:"groups"`
}

// keptGroup counts the values of about the same frequency, and those that are kept.
type keptGroup struct {
	Times  int64 `json:"times"` // the least of the group
	Values int64 `json:"values"`
	Kept   int64 `json:"kept"`
}

// label is the frequency for people.
func (g keptGroup) label() string {
	if g.Times == 1 {
		return "once"
	}
	return grouped(uint64(g.Times)) + "+"
}

// countKept adds to the result of a search which rows were kept. Nothing else
// depends on it, so that a fault is only told.
func (a *app) countKept(ctx context.Context, j *job.Job, r *result) {
	if r.Search == nil || r.Artifact == nil || !j.Spec.Search.DropsRows() {
		return
	}
	var err error
	if r.Kept, err = keptByFrequency(ctx, j, r.Artifact.Dir); err != nil {
		fmt.Fprintf(a.err, "%s: the kept rows are not counted: %v\n", r.Job, err)
	}
}

// keptByFrequency counts how often the values of a job's training split occur and
// which of them have a row in the exported model.
func keptByFrequency(ctx context.Context, j *job.Job, dir string) (all []keptRows, err error) {
	model, err := export.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	tables, err := j.Tables()
	if err != nil {
		return nil, err
	}
	counts, records, err := countValues(ctx, j, tables)
	if err != nil {
		return nil, err
	}
	var exported []table.Schema
	for _, t := range model.Manifest.Tables {
		exported = append(exported, t.Schema)
	}
	for i, t := range tables {
		k := keptRows{Table: t.Name, Records: records}
		keys := slices.Sorted(maps.Keys(counts[i]))
		has := make([]bool, len(keys))
		if at := embeddingTable(t.Name, exported); at >= 0 {
			if has, err = model.Has(at, keys); err != nil {
				return nil, err
			}
		}
		for n, key := range keys {
			g := bits.Len64(uint64(counts[i][key])) - 1
			for len(k.Groups) <= g {
				k.Groups = append(k.Groups, keptGroup{Times: 1 << len(k.Groups)})
			}
			k.Groups[g].Values++
			if has[n] {
				k.Groups[g].Kept++
			}
		}
		all = append(all, k)
	}
	return all, nil
}

// countValues counts the keys of every table in the first records.
func countValues(ctx context.Context, j *job.Job, tables []job.Table) (counts []map[shard.Key]int64, records int64, err error) {
	data, err := dataset.OpenScoring(ctx, j.Spec.Data, "train", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	split, _ := data.Split("train") // OpenScoring has opened it
	tableOf := make([]int, data.Fields())
	for i, t := range tables {
		counts = append(counts, map[shard.Key]int64{})
		for _, f := range t.Fields {
			tableOf[f] = i
		}
	}
	const step = 4096
	var b dataset.Batch
	values := 0
	for records < min(split.Rows(), countedRecords) && values < countedValues {
		hi := min(records+step, split.Rows())
		if err := split.Read(ctx, &b, records, hi); err != nil {
			return nil, 0, err
		}
		for at := range b.N * b.Fields {
			of := counts[tableOf[at%b.Fields]]
			for _, k := range b.Keys[b.Offsets[at]:b.Offsets[at+1]] {
				if of[k] == 0 {
					values++
				}
				of[k]++
			}
		}
		records = hi
	}
	return counts, records, nil
}
