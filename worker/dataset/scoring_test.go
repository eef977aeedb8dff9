package dataset

import (
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
)

// TestRecordsWithoutLabelsHaveTheSameKeys, whichever column comes first.
func TestRecordsWithoutLabelsHaveTheSameKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := tableRows(blockRows + 100)
	rec := tableRecord(rows)
	write(t, dir, "t.csv", tableText(rows, ','))
	writeArrow(t, filepath.Join(dir, "t.arrow"), false, cut(rec, blockRows))
	writeParquet(t, filepath.Join(dir, "t.parquet"), cut(rec, blockRows/8))
	for _, format := range []string{"csv", "arrow", "parquet"} {
		for first := range tableFields {
			fields := slices.Concat(tableFields[first:], tableFields[:first])
			d := job.Data{Root: dir, Format: format, Test: []string{"t." + format}, Valid: []string{"not there"}, Fields: fields, Weight: "no weight", Group: "no group"}
			labelled, err := OpenScoring(t.Context(), d, "test", quiet())
			if err != nil {
				t.Fatal(err)
			}
			d.Label = "no label"
			bare, err := OpenScoring(t.Context(), d, "test", quiet())
			if err != nil {
				t.Fatal(err)
			}
			want, got := all(t, labelled, "test"), all(t, bare, "test")
			if !labelled.Labelled() || bare.Labelled() || want.N != len(rows) || len(want.Groups) > 0 {
				t.Errorf("%s from field %d: %d rows, labels %v and %v", format, first, want.N, labelled.Labelled(), bare.Labelled())
			}
			if slices.Contains(got.Labels, 1) {
				t.Errorf("%s from field %d: labels without a column of theirs", format, first)
			}
			if got.Labels = want.Labels; !same(want, got) {
				t.Errorf("%s from field %d: other samples without labels", format, first)
			}
			labelled.Close()
			bare.Close()
		}
	}
}

func TestSparseRecordsWithoutLabelsHaveTheSameKeys(t *testing.T) {
	t.Parallel()
	for format, text := range map[string]string{
		"libsvm": "1 3:0.5 7:1 # last\n0\t7:2\n\n1 12:1 3:1\n",
		"libffm": "1 0:a:0.5 1:7:1\n0 0:b:2\n1 1:12:1 0:a:1\n",
	} {
		dir := t.TempDir()
		write(t, dir, "labels", text)
		write(t, dir, "bare", regexp.MustCompile(`(?m)^[01]\s`).ReplaceAllString(text, ""))
		d := job.Data{Root: dir, Format: format, Fields: []job.Field{{Name: "x", Column: "0"}, {Name: "y", Column: "1"}}}
		if format == "libsvm" {
			d.Fields[0].Column, d.Fields[1].Column = "0-5", "6-20"
		}
		open := func(file string) (*Set, *Batch) {
			d.Test = []string{file}
			s, err := OpenScoring(t.Context(), d, "test", quiet())
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			t.Cleanup(func() { s.Close() })
			return s, all(t, s, "test")
		}
		labelled, want := open("labels")
		bare, got := open("bare")
		if !labelled.Labelled() || bare.Labelled() || want.N != 3 || !slices.Equal(want.Labels, []float32{1, 0, 1}) || slices.Contains(got.Labels, 1) {
			t.Errorf("%s: %d rows with labels %v (%v) and %v (%v)", format, want.N, want.Labels, labelled.Labelled(), got.Labels, bare.Labelled())
		}
		if got.Labels = want.Labels; !same(want, got) {
			t.Errorf("%s: other samples without labels", format)
		}
		// Files whose lines have labels only here and there are refused, at the line.
		write(t, dir, "mixed", "0:1:1\n1 0:1:1\n")
		if format == "libsvm" {
			write(t, dir, "mixed", "0:1\n1 0:1\n")
		}
		d.Test = []string{"mixed"}
		if _, err := OpenScoring(t.Context(), d, "test", quiet()); err == nil || !strings.Contains(err.Error(), "mixed:2") {
			t.Errorf("%s: a label in the second line only: %v", format, err)
		}
	}
}

func TestScoringOpensOneSplit(t *testing.T) {
	t.Parallel()
	d := job.Data{Format: "synthetic", Synthetic: &job.Synthetic{TrainRows: 50, TestRows: 30, Seed: 1}}
	s, err := OpenScoring(t.Context(), d, "test", quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, ok := s.Split("train"); ok || !s.Labelled() || all(t, s, "test").N != 30 {
		t.Errorf("the training split was opened: %v; labels: %v", ok, s.Labelled())
	}
	for split, want := range map[string]string{"valid": "no data of the valid split", "tset": `did you mean "test"?`} {
		var input *InputError
		if _, err := OpenScoring(t.Context(), d, split, quiet()); !errors.As(err, &input) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", split, err, want)
		}
	}
}
