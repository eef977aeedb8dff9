package table

import (
	"errors"
	"fmt"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
)

// Column is a part of a row with its own initializer and optimizer; an
// optimizer sees one column of one row as one layer.
type Column struct {
	Name      string       `json:"name"`
	Width     int          `json:"width"`
	Init      random.Init  `json:"init"`
	Optimizer optim.Config `json:"optimizer"`
}

// Schema describes a table. A row holds the weights of all columns in order,
// then the slots of column 0, the slots of column 1 and so on.
type Schema struct {
	ID      uint16   `json:"id"`
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
	// Closed says that the table has the rows it was given (Insert, Load) and gets
	// no others: an absent row reads as zero, and updates of it are dropped.
	Closed bool `json:"closed,omitempty"`
}

const (
	// MaxWidth bounds the weights of one row.
	MaxWidth = 1 << 13
	// MaxColumns bounds the columns of one table.
	MaxColumns = 256
)

// Width returns the weights of one row.
func (s Schema) Width() int {
	w := 0
	for _, c := range s.Columns {
		w += c.Width
	}
	return w
}

// Validate reports all faults of the schema.
func (s Schema) Validate() error {
	var errs []error
	fault := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("table %d %q: %w", s.ID, s.Name, fmt.Errorf(format, a...)))
	}
	if n := len(s.Columns); n < 1 || n > MaxColumns {
		fault("%d columns, want 1 to %d", n, MaxColumns)
		return errors.Join(errs...)
	}
	width := 0
	for _, c := range s.Columns {
		if c.Width < 1 || c.Width > MaxWidth {
			fault("column %q is %d wide, want 1 to %d", c.Name, c.Width, MaxWidth)
			continue
		}
		width += c.Width
		if err := c.Init.Validate(); err != nil {
			fault("column %q: init: %w", c.Name, err)
		}
		if err := c.Optimizer.WithDefaults().Validate(); err != nil {
			fault("column %q: optimizer: %w", c.Name, err)
		}
	}
	if width > MaxWidth {
		fault("rows of %d weights, at most %d are allowed", width, MaxWidth)
	}
	return errors.Join(errs...)
}
