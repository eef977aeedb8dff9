package dataset

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/fathom-train/fathom/coordinator/job"
)

// Report is what Inspect finds in the data of a job.
type Report struct {
	Format     string        `json:"format"`
	Digest     string        `json:"digest"`
	BadRecords int64         `json:"bad_records"`
	Splits     []SplitReport `json:"splits"`
	// Fields describes the train split.
	Fields []FieldReport `json:"fields"`
	// Suggested are the fields that were assumed because the job lists none:
	// every column but the label, as a categorical field.
	Suggested []job.Field `json:"suggested,omitempty"`
	// TeacherAUC is there for synthetic data with a test split.
	TeacherAUC float64 `json:"teacher_auc,omitempty"`
}

// SplitReport counts the rows of one split.
type SplitReport struct {
	Name      string `json:"name"`
	Rows      int64  `json:"rows"`
	Positives int64  `json:"positives"`
}

// FieldReport describes one field.
type FieldReport struct {
	Name   string `json:"name"`
	Column string `json:"column"`
	// Type is the field's, Stored that of the column in the first file.
	Type   string `json:"type"`
	Stored string `json:"stored"`
	// Distinct counts the different keys of the field. Above 65,536 it is an
	// estimate, good to about one per cent, and DistinctExact is false.
	Distinct      int64 `json:"distinct"`
	DistinctExact bool  `json:"distinct_exact"`
	// Missing is the share of rows without a value, ValuesPerRow the mean
	// number of values of the others.
	Missing      float64 `json:"missing"`
	ValuesPerRow float64 `json:"values_per_row"`
	// Top are the most frequent values. Their counts may be a little low when
	// there are more than 8,192 different ones.
	Top []ValueCount `json:"top"`
	// Min, Max and Mean are of the values of a numeric field.
	Min  *float64 `json:"min,omitempty"`
	Max  *float64 `json:"max,omitempty"`
	Mean *float64 `json:"mean,omitempty"`
	// PlantedWidth is the width in the teacher of synthetic data.
	PlantedWidth *int `json:"planted_width,omitempty"`
}

// ValueCount is a value and how often it occurs.
type ValueCount struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// Inspect opens the data of a job as Open does and describes it. When the job
// lists no fields, every column but the label is taken as a categorical field.
func Inspect(ctx context.Context, d job.Data, log *slog.Logger) (*Report, error) {
	rep := &Report{Format: d.Format}
	if len(d.Fields) == 0 && d.Format != "synthetic" {
		fields, err := inferFields(d)
		if err != nil {
			return nil, err
		}
		d.Fields, rep.Suggested = fields, fields
	}
	s, err := Open(ctx, d, log)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	rep.Digest, rep.BadRecords = s.digest, s.badRecords
	for _, name := range splitNames {
		if p := s.splits[name]; p != nil {
			rep.Splits = append(rep.Splits, SplitReport{name, p.Rows(), p.positives})
		}
	}
	if rep.Fields, err = s.describe(ctx, s.splits["train"]); err != nil {
		return nil, err
	}
	for i, w := range s.PlantedWidths() {
		rep.Fields[i].PlantedWidth = &w.Width
	}
	rep.TeacherAUC, _ = s.TeacherAUC()
	return rep, nil
}

// inferFields takes the columns of the first train file.
func inferFields(d job.Data) ([]job.Field, error) {
	if d.Format == "libsvm" {
		return []job.Field{{Name: "features", Column: "*", Pooling: "sum"}}, nil
	}
	paths, err := resolve(d.Root, "train", d.Train)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 || d.Format == "libffm" {
		return nil, &InputError{Msg: "data.fields is empty, and the columns of " + d.Format + " files are not named: list the fields"}
	}
	names, err := columnNames(paths[0], d)
	if err != nil {
		return nil, err
	}
	label := cmp.Or(d.Label, "label")
	var fields []job.Field
	for _, n := range names {
		if n != label {
			fields = append(fields, job.Field{Name: n})
		}
	}
	return fields, nil
}

// columnNames returns the names of a file's columns; none where the format has none.
func columnNames(path string, d job.Data) ([]string, error) {
	src, err := openSource(path, d, nil)
	if err != nil {
		return nil, err
	}
	var names []string
	switch f := src.(type) {
	case *textFile:
		names = f.dialect.(*csvDialect).names
	case *parquetFile:
		for i := range f.meta.Schema.Root().NumFields() {
			names = append(names, f.meta.Schema.Root().Field(i).Name())
		}
	case *arrowFile:
		names = f.names
	}
	return names, nil
}

// describe goes over a split's records once more, for their values.
func (s *Set) describe(ctx context.Context, p *Split) ([]FieldReport, error) {
	stats := make([]fieldStats, len(s.schema.fields))
	e := newEncoder(s.schema)
	for _, u := range p.units {
		e.out.reset(len(s.schema.fields))
		err := u.src.load(ctx, u, func(r *records) error {
			if _, err := e.encode(r); err != nil {
				return err
			}
			for i := range stats {
				f := &s.schema.fields[i]
				stats[i].add(f, &e.cols[i], e.bad, r.rec.Column(1+f.col))
			}
			return context.Cause(ctx)
		})
		if err != nil {
			return nil, err
		}
	}
	reports := make([]FieldReport, len(stats))
	for i := range stats {
		reports[i] = stats[i].report(&s.schema.fields[i])
	}
	return reports, nil
}
