package fsm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
)

// DenseTensor describes a dense tensor that the shard holds whole.
type DenseTensor struct {
	ID        uint16       `json:"id"`
	Name      string       `json:"name"`
	Size      int          `json:"size"`
	Init      random.Init  `json:"init"`
	Optimizer optim.Config `json:"optimizer"`
	// Layer is the number, from 1, of the layer of Freeze; 0: never frozen.
	Layer int `json:"layer,omitempty"`
	// Carry takes over the weights of the tensor of this name in the phase before.
	Carry bool `json:"carry,omitempty"`
	// Values are the first weights, instead of Init's.
	Values []float32 `json:"values,omitempty"`
}

// Schema is all that a state machine must know before the first push.
type Schema struct {
	Job string `json:"job"`
	// Run identifies this run of the job in every push and pull.
	Run  uint64 `json:"run"`
	Seed uint64 `json:"seed"`
	// Lanes is the number of lanes of a step.
	Lanes int `json:"lanes"`
	// PipelineDepth is by how many steps a push may be ahead of the next one:
	// pushes of version+1 to version+1+PipelineDepth are taken.
	PipelineDepth int `json:"pipeline_depth,omitempty"`
	// Async applies every lane by itself as soon as it is complete, and reads the
	// newest state whatever the version asked for, if it is reached.
	Async bool `json:"async,omitempty"`
	// PreImages is the number of versions readable beside the current one.
	PreImages int `json:"pre_images"`
	// ClipNorm is the most the norm of all gradients of a step may be, over all
	// shards; larger ones are scaled down to it. 0: no bound.
	ClipNorm float32 `json:"clip_norm,omitempty"`
	// NoiseScale makes the rates of layers with noisy gradients fall (noise.go); 0:
	// they do not. NoiseDense are the ids of all trained tensors of the model.
	NoiseScale float32  `json:"noise_scale,omitempty"`
	NoiseDense []uint16 `json:"noise_dense,omitempty"`
	// Freeze trains some layers of the network at a time, if set.
	Freeze *Freeze        `json:"freeze,omitempty"`
	Tables []table.Schema `json:"tables"`
	Dense  []DenseTensor  `json:"dense"`
	// Phase counts the times the tables were formed anew, see reshape.
	Phase uint32 `json:"phase,omitempty"`
	// Base is the version that forming them made; the steps behind it are counted
	// from 1 again for the optimizers.
	Base uint64 `json:"base,omitempty"`
	// Carry says what the tables take over from those of the phase before.
	Carry []Carry `json:"carry,omitempty"`
	// CarryDense lets the dense tensors keep the weights of those of the same name
	// and size.
	CarryDense bool `json:"carry_dense,omitempty"`
}

const (
	// MaxLanes bounds the lanes of a step.
	MaxLanes = 1 << 12
	// MaxPipelineDepth bounds how far a push may be ahead.
	MaxPipelineDepth = 64
	// MaxPreImages bounds the versions kept beside the current one.
	MaxPreImages = 64
	// MaxTables bounds the tables of a shard.
	MaxTables = 1 << 10
	// MaxDenseFloats bounds the elements of all dense tensors of a shard.
	MaxDenseFloats = 1 << 26
	// MaxPendingChunks bounds open steps times lanes times chunks of one lane's
	// push; with wire.MaxChunk it bounds the bytes that wait to be applied.
	MaxPendingChunks = wire.MaxChunks
)

// Validate reports all faults of the schema.
func (s Schema) Validate() error {
	var errs []error
	fault := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if s.Lanes < 1 || s.Lanes > MaxLanes {
		fault("%d lanes, want 1 to %d", s.Lanes, MaxLanes)
	}
	if s.PipelineDepth < 0 || s.PipelineDepth > MaxPipelineDepth {
		fault("pipeline depth %d, want 0 to %d", s.PipelineDepth, MaxPipelineDepth)
	}
	if s.Lanes*(1+s.PipelineDepth) > MaxPendingChunks {
		fault("%d lanes with pipeline depth %d, their product is above %d", s.Lanes, s.PipelineDepth, MaxPendingChunks)
	}
	everyRow := slices.ContainsFunc(s.Tables, func(t table.Schema) bool {
		return slices.ContainsFunc(t.Columns, func(c table.Column) bool { return c.Optimizer.EveryRow })
	})
	if s.Async && everyRow {
		fault("async with updates of every row at every step, which need steps in order")
	}
	if s.Async && (s.PreImages > 0 || len(s.rounds()) > 0) {
		fault("async with %d pre-images and %d sums over shards, which it cannot have", s.PreImages, len(s.rounds()))
	}
	if s.PreImages < 0 || s.PreImages > MaxPreImages {
		fault("%d pre-images, want 0 to %d", s.PreImages, MaxPreImages)
	}
	if !(s.ClipNorm >= 0 && s.ClipNorm <= math.MaxFloat32) {
		fault("clip norm %v, want a finite number from 0 on", s.ClipNorm)
	}
	errs = append(errs, s.checkNoise()...)
	if f := s.Freeze; f != nil && (f.Layers < 1 || f.Active < 1 || f.Active > f.Layers || f.Every < 1) {
		fault("%d of %d layers trained for %d steps, want at least one of each", f.Active, f.Layers, f.Every)
	}
	if len(s.Tables) > MaxTables {
		fault("%d tables, at most %d are allowed", len(s.Tables), MaxTables)
		return errors.Join(errs...)
	}
	tables := map[uint16]bool{}
	for _, t := range s.Tables {
		if tables[t.ID] {
			fault("table %d twice", t.ID)
		}
		tables[t.ID] = true
		if err := t.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, s.checkPhase(tables)...)
	total := 0
	tensors := map[uint16]bool{}
	for _, d := range s.Dense {
		if tensors[d.ID] {
			fault("dense tensor %d twice", d.ID)
		}
		tensors[d.ID] = true
		if d.Size < 1 || d.Size > MaxDenseFloats-total {
			fault("dense tensor %d %q has %d elements, want 1 to %d for all of a shard", d.ID, d.Name, d.Size, MaxDenseFloats)
			continue
		}
		total += d.Size
		if d.Layer < 0 || d.Layer > 0 && (s.Freeze == nil || d.Layer > s.Freeze.Layers) {
			fault("dense tensor %d %q is of layer %d, which is none", d.ID, d.Name, d.Layer)
		}
		if len(d.Values) != 0 && len(d.Values) != d.Size || d.Carry && (s.Phase == 0 || len(d.Values) > 0) {
			fault("dense tensor %d %q of %d weights begins with %d values, carried %t, in phase %d", d.ID, d.Name, d.Size, len(d.Values), d.Carry, s.Phase)
		}
		for i, v := range d.Values {
			if v-v != 0 {
				fault("dense tensor %d %q: value %d is %v", d.ID, d.Name, i, v)
				break
			}
		}
		if err := d.Init.Validate(); err != nil {
			fault("dense tensor %d %q: init: %w", d.ID, d.Name, err)
		}
		if err := d.Optimizer.WithDefaults().Validate(); err != nil {
			fault("dense tensor %d %q: optimizer: %w", d.ID, d.Name, err)
		}
	}
	return errors.Join(errs...)
}

// canonical returns the schema with tables and tensors in ascending order, so
// that equal schemas have equal bytes.
func (s Schema) canonical() Schema {
	s.Tables, s.Dense = slices.Clone(s.Tables), slices.Clone(s.Dense)
	slices.SortFunc(s.Tables, func(a, b table.Schema) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Dense, func(a, b DenseTensor) int { return cmp.Compare(a.ID, b.ID) })
	if s.Carry != nil {
		s.Carry = slices.Clone(s.Carry)
		slices.SortFunc(s.Carry, func(a, b Carry) int { return cmp.Compare(a.Table, b.Table) })
	}
	return s
}

// MarshalSchema validates and encodes a schema; equal schemas give equal bytes
// whatever the order of their tables and tensors.
func MarshalSchema(s Schema) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("schema of job %q: %w", s.Job, err)
	}
	b, err := json.Marshal(s.canonical())
	if err != nil {
		return nil, fmt.Errorf("encode schema of job %q: %w", s.Job, err)
	}
	if len(b) > wire.MaxSchema {
		return nil, fmt.Errorf("schema of job %q has %d bytes, at most %d are allowed", s.Job, len(b), wire.MaxSchema)
	}
	return b, nil
}

// ParseSchema decodes and validates the bytes of MarshalSchema; an unknown
// member is an error, as it would be an instruction not followed.
func ParseSchema(b []byte) (Schema, error) {
	var s Schema
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Schema{}, fmt.Errorf("decode schema: %w", err)
	}
	if d.More() {
		return Schema{}, errors.New("decode schema: data behind its end")
	}
	if err := s.Validate(); err != nil {
		return Schema{}, fmt.Errorf("schema of job %q: %w", s.Job, err)
	}
	return s.canonical(), nil
}
