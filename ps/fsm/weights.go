package fsm

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// Weights reads the rest of a checkpoint file and hands over the weights in it,
// without the optimizers' slots: rows by the place of their table in the schema,
// the tables one after the other, each in the order its rows were created; then
// the tensors. factors are those that Factors returns. The arguments of rows must
// not be kept. It takes the memory of one block and of the tensors.
func (c *CheckpointReader) Weights(factors []table.Factor, rows func(table int, keys []shard.Key, weights []float32) error, dense func(t DenseTensor, weights []float32) error) error {
	schema := c.Header.Schema
	var at *table.Table // knows how to lead on the rows of the table at hand
	which := -1
	defer func() {
		if at != nil {
			at.Close()
		}
	}()
	step := c.Header.Version - schema.Base
	tensors := make([][]float32, len(schema.Dense))
	var keys []shard.Key
	var weights []float32
	for {
		p, err := c.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch p.kind {
		case blockDense:
			v, err := floatsOf(p.body, len(p.body)/4)
			if err != nil {
				return err
			}
			tensors[p.which] = append(tensors[p.which], v...)
			continue
		case blockRows:
		default:
			continue
		}
		if p.which < which {
			return damaged("rows of table number %d behind those of number %d", p.which, which)
		}
		if p.which > which {
			if at != nil {
				at.Close()
			}
			which = p.which
			if at, err = table.New(schema.Tables[which], schema.Seed); err != nil {
				return damaged("%w", err)
			}
			if at.RowFloats() != c.Header.RowFloats[which] {
				return damaged("rows of %d numbers in table %q, its schema makes them %d", c.Header.RowFloats[which], schema.Tables[which].Name, at.RowFloats())
			}
			at.SetNow(step, factors)
		}
		if keys, weights, err = appendRows(keys[:0], weights[:0], at, p.body, step); err != nil {
			return err
		}
		if err := rows(which, keys, weights); err != nil {
			return err
		}
	}
	for i, d := range schema.Dense {
		if err := dense(d, tensors[i][:d.Size]); err != nil {
			return err
		}
	}
	return nil
}

// appendRows takes the keys and weights out of a block of rows.
func appendRows(keys []shard.Key, weights []float32, t *table.Table, block []byte, step uint64) ([]shard.Key, []float32, error) {
	for size := t.RowBytes(); len(block) > 0; block = block[size:] {
		keys = append(keys, shard.Key(binary.LittleEndian.Uint64(block)))
		row, err := floatsOf(block[8:8+4*t.RowFloats()], t.RowFloats())
		if err != nil {
			return nil, nil, err
		}
		n := len(weights)
		weights = append(weights, row[:t.Width()]...)
		if t.Lazy() {
			t.WeightsAt(weights[n:], slices.Clone(row), step)
		}
	}
	return keys, weights, nil
}

// Factors reads the rest of a checkpoint file and returns the factors of the
// learning rates in it. Weights needs them, and they lie behind the rows; they are
// the same in all files of a checkpoint.
func (c *CheckpointReader) Factors() ([]table.Factor, error) {
	var factors []table.Factor
	for {
		p, err := c.next()
		if err == io.EOF {
			return factors, nil
		}
		if err != nil {
			return nil, err
		}
		if p.kind == blockFactors {
			if factors, err = ParseFactors(p.body); err != nil {
				return nil, err
			}
		}
	}
}
