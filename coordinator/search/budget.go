package search

import (
	"errors"
	"fmt"
	"math"

	"github.com/fathom-train/fathom/compute/supernet"
)

// Budget bounds the embedding weights of the result. At most one of its members
// is set; none means no bound.
type Budget struct {
	// Bytes bounds the memory of the embedding weights.
	Bytes int64 `json:"bytes,omitempty"`
	// Params bounds their number.
	Params int64 `json:"params,omitempty"`
	// Fraction bounds them by a share of the supernet's, all rows at full width.
	Fraction float64 `json:"fraction,omitempty"`
}

// ErrInfeasible is wrapped by the error for a budget that no candidate keeps.
var ErrInfeasible = errors.New("the budget cannot be kept")

// Validate reports what is wrong with the budget by itself.
func (b Budget) Validate() error {
	set := 0
	for _, given := range []bool{b.Bytes != 0, b.Params != 0, b.Fraction != 0} {
		if given {
			set++
		}
	}
	switch {
	case set > 1:
		return errors.New("give one of bytes, params and fraction, not several")
	case b.Bytes < 0 || b.Params < 0:
		return errors.New("bytes and params must be above 0")
	case !(b.Fraction >= 0 && b.Fraction <= 1):
		return fmt.Errorf("fraction: %v is not in (0, 1]", b.Fraction)
	}
	return nil
}

// Limit returns the most parameters a candidate of the space may have, or an
// error that names the smallest feasible budget.
func (b Budget) Limit(s Space) (int64, error) {
	limit := int64(math.MaxInt64)
	full := s.FullParameters()
	switch {
	case b.Bytes > 0:
		limit = b.Bytes / supernet.BytesPerWeight
	case b.Params > 0:
		limit = b.Params
	case b.Fraction > 0:
		limit = int64(math.Floor(b.Fraction * float64(full)))
	}
	if least := s.Parameters(s.Smallest()); least > limit {
		// Rounded up, so that the fraction that is named can be kept.
		fraction := math.Ceil(float64(least)/float64(max(1, full))*1e6) / 1e6
		return 0, fmt.Errorf("%w: it allows %d embedding weights, but the smallest candidate has %d (bytes: %d, params: %d, fraction: %.6f); raise the budget, allow narrower widths, or prune more rows",
			ErrInfeasible, limit, least, least*supernet.BytesPerWeight, least, fraction)
	}
	return limit, nil
}
