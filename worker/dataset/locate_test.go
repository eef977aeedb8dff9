package dataset

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/shard"
)

// TestRowsAreLocated compares where rows are said to be with where they were
// written, in more than one unit and behind a record that is left out.
func TestRowsAreLocated(t *testing.T) {
	const rows = blockRows + 100
	var text strings.Builder
	text.WriteString("label,f\n")
	for i := range rows {
		if i == 50 {
			text.WriteString("9,bad\n")
		}
		fmt.Fprintf(&text, "0,v%d\n", i)
	}
	s, err := openText(t, text.String(), job.Data{Format: "csv", MaxBadRecords: 1, Fields: []job.Field{{Name: "f"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	p, _ := s.Split("train")
	var b Batch
	if err := p.Read(ctx, &b, 0, rows); err != nil {
		t.Fatal(err)
	}
	lines := map[shard.Key]string{} // by the key of the row's only value
	for i, k := range b.Keys {
		line := i + 2
		if i >= 50 {
			line++
		}
		lines[k] = fmt.Sprintf("train.txt:%d", line)
	}
	for _, i := range []int64{0, 49, 50, blockRows - 1, blockRows, rows - 1} {
		if got, err := p.LocateRow(ctx, i); err != nil || !strings.HasSuffix(got, lines[b.Keys[i]]) {
			t.Errorf("row %d is at %s (%v), want %s", i, got, err, lines[b.Keys[i]])
		}
	}
	if err := p.ReadEpoch(ctx, &b, 3, 2, 0, rows); err != nil {
		t.Fatal(err)
	}
	for i := int64(0); i < rows; i += 997 {
		if got, err := p.Locate(ctx, 3, 2, i); err != nil || !strings.HasSuffix(got, lines[b.Keys[i]]) {
			t.Errorf("position %d is at %s (%v), want %s", i, got, err, lines[b.Keys[i]])
		}
	}
	if _, err := p.Locate(ctx, 3, 2, rows); err == nil {
		t.Error("a position behind the end was located")
	}
	generated := open(t, job.Data{Format: "synthetic", Synthetic: &job.Synthetic{TrainRows: 20}})
	p, _ = generated.Split("train")
	if got, err := p.LocateRow(ctx, 7); err != nil || !strings.HasSuffix(got, "row 8") {
		t.Errorf("generated row 7 is at %s (%v)", got, err)
	}
}
