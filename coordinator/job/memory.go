package job

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/optim"
)

// Memory is what one parameter server is predicted to need, in bytes. It is an
// estimate for sizing, from above; docs/job.md has the formula.
type Memory struct {
	// Row is one row with its optimizer state and its place in the index, of the
	// table where it is largest.
	Row int64
	// Rows, Dense and Process are the parts of Total: the server's share of the
	// rows, its share of the tensors, and the process itself.
	Rows, Dense, Process, Total int64
}

const (
	// indexBytesPerRow: a slot has 16 bytes and at least every fourth is used.
	indexBytesPerRow = 64
	// processBytes is the program, its buffers and what of the logs is in memory.
	processBytes = 128 << 20
)

// MemoryPerServer predicts the memory of the parameter server with the most
// shards, for tables of so many rows each. The job must be valid.
func (j *Job) MemoryPerServer(rows []int64) (Memory, error) {
	return j.MemoryOfServers(rows, j.Spec.Cluster.Shards, j.Spec.Cluster.PS)
}

// MemoryOfServers is MemoryPerServer of some servers that have some of the shards
// among them, such as a pool.
func (j *Job) MemoryOfServers(rows []int64, shards, servers int) (Memory, error) {
	tables, err := j.Tables()
	if err != nil {
		return Memory{}, err
	}
	dense, err := j.Dense()
	if err != nil {
		return Memory{}, err
	}
	var m Memory
	var tableBytes, denseFloats int64
	for i, t := range tables {
		row := int64(indexBytesPerRow)
		for _, c := range t.Columns {
			n, err := floatsOf(c.Width, c.Optimizer)
			if err != nil {
				return Memory{}, fmt.Errorf("column %s: %w", c.Name, err)
			}
			row += 4 * n
			if c.Optimizer.EveryRow {
				row += 4 // the last step it has seen, once per row: from above
			}
		}
		m.Row = max(m.Row, row)
		tableBytes += rows[i] * row
	}
	for _, d := range dense {
		n, err := floatsOf(d.Size, d.Optimizer)
		if err != nil {
			return Memory{}, fmt.Errorf("tensor %s: %w", d.Name, err)
		}
		// Its values before the last steps are kept too, for workers behind.
		denseFloats += n + int64(d.Size)*int64(j.PreImages())
	}
	// Shards are spread evenly, so the fullest server has the count rounded up.
	k := j.Spec.Cluster
	held := int64((shards*k.Replicas-1)/servers + 1)
	share := func(bytes int64) int64 { return bytes / int64(k.Shards) * held }
	m.Process = processBytes
	m.Rows = share(tableBytes)
	m.Dense = share(4 * denseFloats)
	m.Total = m.Rows + m.Dense + m.Process
	return m, nil
}

// floatsOf returns how many floats are stored for a layer of n weights.
func floatsOf(n int, c optim.Config) (int64, error) {
	o, err := optim.New(c)
	if err != nil {
		return 0, err
	}
	return int64(n + o.Slots(n)), nil
}

// bucketsMax bounds the categories of a generated numeric field after its
// transform: floor(ln(x)^2) of any count that fits 32 bits, and the small values.
const bucketsMax = 512

// RowsMax bounds the rows that training can create in every table, as far as
// the job alone tells: where the values of synthetic data do, and where values
// share a fixed number of rows. unknown stands for the tables of which it tells
// nothing. The job must be valid.
func (j *Job) RowsMax(unknown int64) (rows []int64, known bool, err error) {
	tables, err := j.Tables()
	if err != nil {
		return nil, false, err
	}
	d := j.Spec.Data
	known = true
	for _, t := range tables {
		n := t.RowsMax
		if n == 0 {
			for _, f := range t.Fields {
				ids, ok := d.ids(d.Fields[f])
				n += ids
				known = known && ok
			}
			if n == 0 {
				n = unknown
			}
		}
		rows = append(rows, n)
	}
	return rows, known, nil
}

// ids bounds the different values of a field of synthetic data: no more than
// there are, nor than samples.
func (d Data) ids(f Field) (n int64, known bool) {
	if d.Format != FormatSynthetic || d.Synthetic == nil {
		return 0, false
	}
	n = d.Synthetic.Vocabulary + 1
	if f.Type == "numeric" {
		n = bucketsMax
		if f.Transform != "bucket" {
			n = 2 // the value's row and the one of a missing value
		}
	}
	return min(n, d.Synthetic.TrainRows), true
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
