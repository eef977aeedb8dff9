package checkpoint

import (
	"encoding/json"
	"fmt"
)

// Schema is what the tables of a model are, as far as a checkpoint must fit it.
type Schema struct {
	Tables []Table  `json:"tables"`
	Dense  []Tensor `json:"dense"`
}

// Table is one embedding table.
type Table struct {
	ID      uint32   `json:"id"`
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
}

// Column is a part of a table's row.
type Column struct {
	Name      string          `json:"name"`
	Width     uint32          `json:"width"`
	Optimizer json.RawMessage `json:"optimizer"`
}

// Tensor is a dense tensor.
type Tensor struct {
	ID        uint32          `json:"id"`
	Name      string          `json:"name"`
	Size      uint32          `json:"size"`
	Optimizer json.RawMessage `json:"optimizer"`
}

// Differences names everything in which a job's schema keeps it from going on
// from a checkpoint's; nothing, when it can. Settings of an optimizer may
// differ, but not which one it is: its slots are part of the state.
func Differences(checkpoint, job Schema) []string {
	var all []string
	differ := func(format string, a ...any) { all = append(all, fmt.Sprintf(format, a...)) }
	have := map[string]Table{}
	for _, t := range checkpoint.Tables {
		have[t.Name] = t
	}
	for _, want := range job.Tables {
		t, ok := have[want.Name]
		if !ok {
			differ("table %s is not in the checkpoint", want.Name)
			continue
		}
		delete(have, want.Name)
		if t.ID != want.ID {
			differ("table %s has number %d in the checkpoint, %d in the job", t.Name, t.ID, want.ID)
		}
		columns(t, want, differ)
	}
	for _, t := range checkpoint.Tables {
		if _, left := have[t.Name]; left {
			differ("table %s of the checkpoint is not in the job", t.Name)
		}
	}
	tensors(checkpoint.Dense, job.Dense, differ)
	return all
}

func columns(have, want Table, differ func(string, ...any)) {
	for i := range max(len(have.Columns), len(want.Columns)) {
		switch {
		case i >= len(have.Columns):
			differ("column %s of table %s is not in the checkpoint", want.Columns[i].Name, want.Name)
		case i >= len(want.Columns):
			differ("column %s of table %s of the checkpoint is not in the job", have.Columns[i].Name, have.Name)
		default:
			h, w := have.Columns[i], want.Columns[i]
			name := fmt.Sprintf("column %s of table %s", w.Name, want.Name)
			if h.Name != w.Name {
				differ("%s is called %s in the checkpoint", name, h.Name)
			}
			if h.Width != w.Width {
				differ("%s is %d wide in the checkpoint, %d in the job", name, h.Width, w.Width)
			}
			if a, b := optimizerName(h.Optimizer), optimizerName(w.Optimizer); a != b {
				differ("%s is updated by %s in the checkpoint, by %s in the job", name, a, b)
			}
		}
	}
}

func tensors(have, want []Tensor, differ func(string, ...any)) {
	known := map[uint32]Tensor{}
	for _, t := range have {
		known[t.ID] = t
	}
	for _, w := range want {
		h, ok := known[w.ID]
		if !ok {
			differ("dense tensor %s is not in the checkpoint", w.Name)
			continue
		}
		delete(known, w.ID)
		if h.Name != w.Name {
			differ("dense tensor %s is called %s in the checkpoint", w.Name, h.Name)
		}
		if h.Size != w.Size {
			differ("dense tensor %s has %d elements in the checkpoint, %d in the job", w.Name, h.Size, w.Size)
		}
		if a, b := optimizerName(h.Optimizer), optimizerName(w.Optimizer); a != b {
			differ("dense tensor %s is updated by %s in the checkpoint, by %s in the job", w.Name, a, b)
		}
	}
	for _, h := range have {
		if _, left := known[h.ID]; left {
			differ("dense tensor %s of the checkpoint is not in the job", h.Name)
		}
	}
}

// optimizerName is the name in an optimizer's configuration.
func optimizerName(config json.RawMessage) string {
	var c struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(config, &c); err != nil || c.Name == "" {
		return string(config)
	}
	return c.Name
}
