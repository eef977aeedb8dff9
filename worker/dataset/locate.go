package dataset

import (
	"context"
	"errors"
	"fmt"
	"sort"
)

// errFound ends the reading of a unit at the row that was looked for.
var errFound = errors.New("found")

// Locate returns where the row is that stands at a position of an epoch's order:
// its file and line, or what the format has in place of lines. The file is read
// again, so it is for messages only.
func (p *Split) Locate(ctx context.Context, seed, epoch uint64, position int64) (string, error) {
	if err := p.check(position, position+1); err != nil {
		return "", err
	}
	order := p.plan(seed, epoch)
	window := order.enter(order.windowOf(position))
	at, row := window.locate(position)
	return p.locate(ctx, p.units[order.units[at]], row)
}

// LocateRow is Locate for a row in the order of the files.
func (p *Split) LocateRow(ctx context.Context, row int64) (string, error) {
	if err := p.check(row, row+1); err != nil {
		return "", err
	}
	i := sort.Search(len(p.units), func(i int) bool { return p.start[i+1] > row })
	return p.locate(ctx, p.units[i], int(row-p.start[i]))
}

// locate finds a unit's row, counted without the bad ones.
func (p *Split) locate(ctx context.Context, u *unit, row int) (string, error) {
	e := newEncoder(p.set.schema)
	e.out.reset(len(p.set.schema.fields))
	var where InputError
	err := u.src.load(ctx, u, func(r *records) error {
		if _, err := e.encode(r); err != nil {
			return err
		}
		for i, bad := range e.bad {
			if bad {
				continue
			}
			if row--; row < 0 {
				where = r.at(i, -1)
				return errFound
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
	case err != nil:
		return "", err
	default:
		return "", fmt.Errorf("%s: %w", u.src.name(), ErrChanged)
	}
	if where.Line > 0 {
		return fmt.Sprintf("%s:%d", where.File, where.Line), nil
	}
	return where.File, nil
}
