package job

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is what every *Faults is, for errors.Is.
var ErrInvalid = errors.New("invalid job")

// Fault is one thing wrong with a job.
type Fault struct {
	// File, Line and Column tell where; File is "--set" for a value of the
	// command line and empty when the job did not come as text. Line and Column
	// are 0 when unknown.
	File         string
	Line, Column int
	// Path is the field at fault, like spec.train.epochs.
	Path string
	// Message says what is wrong and what to do.
	Message string
}

// String returns "file:line:column: path: message", without what is unknown.
func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
		}
		b.WriteString(": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is everything wrong with a job, in the order of the lines of its file.
type Faults struct {
	List []Fault
}

// Error returns one line per fault.
func (f *Faults) Error() string {
	lines := make([]string, len(f.List))
	for i, fault := range f.List {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Is reports whether target is ErrInvalid.
func (f *Faults) Is(target error) bool { return target == ErrInvalid }
