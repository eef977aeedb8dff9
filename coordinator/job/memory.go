package job

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/optim"
)

// Memory is what one parameter server is predicted to need, in bytes. It is an
// estimate for sizing, from above; docs/job.md has the formula.
type Memory struct {
	// Row is one row with its optimizer state and its place in the index.
	Row int64
	// Rows, Dense and Process are the parts of Total: the server's share of the
	// rows, its share of the tensors, and the process itself.
	Rows, Dense, Process, Total int64
}

const (
	// indexBytesPerRow: a slot has 16 bytes and at least every fourth is used.
	indexBytesPerRow = 64
	// denseCopies: a tensor is kept with its value before the last step, which
	// followers may still be asked for.
	denseCopies = 2
	// processBytes is the program, its buffers and what of the logs is in memory.
	processBytes = 128 << 20
)

// MemoryPerServer predicts the memory of the parameter server with the most
// shards, for a table of so many rows. The job must be valid.
func (j *Job) MemoryPerServer(rows int64) (Memory, error) {
	tables, err := j.Tables()
	if err != nil {
		return Memory{}, err
	}
	dense, err := j.Dense()
	if err != nil {
		return Memory{}, err
	}
	var floats, denseFloats int64
	for _, t := range tables {
		for _, c := range t.Columns {
			n, err := floatsPer(c.Optimizer)
			if err != nil {
				return Memory{}, fmt.Errorf("column %s: %w", c.Name, err)
			}
			floats += int64(c.Width) * n
		}
	}
	for _, d := range dense {
		n, err := floatsPer(d.Optimizer)
		if err != nil {
			return Memory{}, fmt.Errorf("tensor %s: %w", d.Name, err)
		}
		denseFloats += int64(d.Size) * n
	}
	// Shards are spread evenly, so the fullest server has the count rounded up.
	k := j.Spec.Cluster
	held := int64((k.Shards*k.Replicas-1)/k.PS + 1)
	share := func(bytes int64) int64 { return bytes / int64(k.Shards) * held }
	m := Memory{Row: 4*floats + indexBytesPerRow, Process: processBytes}
	m.Rows = share(rows * m.Row)
	m.Dense = share(4 * denseFloats * denseCopies)
	m.Total = m.Rows + m.Dense + m.Process
	return m, nil
}

// floatsPer returns how many floats are stored for one weight.
func floatsPer(c optim.Config) (int64, error) {
	o, err := optim.New(c)
	if err != nil {
		return 0, err
	}
	return int64(1 + o.Slots()), nil
}

// bucketsMax bounds the categories of a generated numeric field after its
// transform: floor(ln(x)^2) of any count that fits 32 bits, and the small values.
const bucketsMax = 512

// RowsMax bounds the rows that training can create, when the job alone tells:
// for synthetic data. A field has no more rows than ids, nor than samples.
func (j *Job) RowsMax() (rows int64, known bool) {
	d := j.Spec.Data
	if d.Format != FormatSynthetic || d.Synthetic == nil {
		return 0, false
	}
	for _, f := range d.Fields {
		ids := d.Synthetic.Vocabulary + 1
		if f.Type == "numeric" {
			ids = bucketsMax
			if f.Transform != "bucket" {
				ids = 2 // the value's row and the one of a missing value
			}
		}
		rows += min(ids, d.Synthetic.TrainRows)
	}
	return rows, true
}

// DenseParameters counts the trained weights of the network; running statistics
// are none.
func (j *Job) DenseParameters() (int64, error) {
	dense, err := j.Dense()
	if err != nil {
		return 0, err
	}
	var n int64
	for _, d := range dense {
		if !d.Running {
			n += int64(d.Size)
		}
	}
	return n, nil
}
