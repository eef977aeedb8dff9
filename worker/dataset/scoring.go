package dataset

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/fathom-train/fathom/coordinator/job"
)

// OpenScoring opens one split of a job's data to be scored, like Open. Files need
// no label and no group; see Labelled. Weights of samples are not read.
func OpenScoring(ctx context.Context, d job.Data, split string, log *slog.Logger) (*Set, error) {
	if !slices.Contains(splitNames[:], split) {
		return nil, &InputError{Msg: unknown("split", split, splitNames[:])}
	}
	d.Weight = ""
	patterns := map[string]*[]string{"train": &d.Train, "valid": &d.Valid, "test": &d.Test}
	for name, p := range patterns {
		if name != split {
			*p = nil
		}
	}
	labelled := true
	if d.Format != "synthetic" {
		paths, err := resolve(d.Root, split, *patterns[split])
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, noSplit(split)
		}
		if labelled, err = hasLabel(paths[0], &d); err != nil {
			return nil, err
		}
	}
	s, sources, err := prepare(d, labelled, log)
	if err != nil {
		return nil, err
	}
	if len(sources[split]) == 0 {
		err = noSplit(split)
	} else {
		err = s.index(ctx, split, sources[split], d.MaxBadRecords)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// hasLabel tells whether the records of a file have labels. It forgets the group
// of the data when the file has none.
func hasLabel(path string, d *job.Data) (bool, error) {
	if sparse(d.Format) {
		return startsWithLabel(path)
	}
	names, err := columnNames(path, *d)
	if err != nil {
		return false, err
	}
	if !slices.Contains(names, d.Group) {
		d.Group = ""
	}
	return slices.Contains(names, cmp.Or(d.Label, "label")), nil
}

func noSplit(name string) error {
	return &InputError{Msg: fmt.Sprintf("the job has no data of the %s split", name)}
}

// Labelled tells whether the records have labels.
func (s *Set) Labelled() bool { return !s.schema.unlabelled }
