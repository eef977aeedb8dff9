package dataset

import (
	"errors"
	"fmt"
	"strings"
)

// ErrChanged is wrapped by errors about a file that is not what it was when
// the set was opened. Training on it would not be reproducible.
var ErrChanged = errors.New("the file changed while it was in use")

// ErrRange is wrapped by errors about rows that a split does not have.
var ErrRange = errors.New("rows out of range")

// InputError is a fault in the data or in how the job describes it: where it
// is and what was expected. Line and Column count from 1, Column in bytes; 0
// means that the format has no lines or the whole line is meant.
type InputError struct {
	File         string
	Line, Column int
	Msg          string
}

// Error returns "file:line:column: msg", without the parts that are unknown.
func (e *InputError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
		if e.Column > 0 {
			fmt.Fprintf(&b, ":%d", e.Column)
		}
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

// fault is one bad record of a record batch.
type fault struct {
	row int
	// col is the column of the record batch at fault, -1 for the whole record.
	col int
	msg string
}

// clip quotes a value for a message, at most 40 bytes of it.
func clip(v string) string {
	if len(v) > 40 {
		return fmt.Sprintf("%q...", v[:40])
	}
	return fmt.Sprintf("%q", v)
}

// unknown says that name is not among the names, and which one is nearest.
func unknown(what, name string, names []string) string {
	msg := fmt.Sprintf("no %s %q", what, name)
	if near := nearest(name, names); near != "" {
		msg += fmt.Sprintf(", did you mean %q?", near)
	}
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s (there are %d: %s, ...)", msg, len(names), strings.Join(names[:most], ", "))
	}
	return fmt.Sprintf("%s (there are: %s)", msg, strings.Join(names, ", "))
}

// nearest returns the name that needs the fewest edits to become name, or ""
// when even that one needs more than half of name's length (at least 2).
func nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/2)+1
	for _, n := range names {
		if d := edits(strings.ToLower(name), strings.ToLower(n), least); d < least {
			best, least = n, d
		}
	}
	return best
}

// edits returns the Levenshtein distance of a and b, or limit when it is at
// least that much.
func edits(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
