package ps

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// schemaOf turns the wire's schema into the state machine's.
func schemaOf(p *proto.Schema) (fsm.Schema, error) {
	s := fsm.Schema{
		Job: p.GetJob(), Run: p.GetRun(), Seed: p.GetSeed(),
		Lanes: int(p.GetLanes()), PreImages: int(p.GetPreImages()), PipelineDepth: int(p.GetPipelineDepth()), Async: p.GetAsync(),
		ClipNorm: p.GetClipNorm(), NoiseScale: p.GetNoiseScale(),
		Phase: p.GetPhase(), Base: p.GetBase(), CarryDense: p.GetCarryDense(),
	}
	for _, t := range p.GetTables() {
		ts := table.Schema{ID: uint16(t.GetId()), Name: t.GetName(), Closed: t.GetClosed()}
		if c := t.GetCarry(); c != nil {
			s.Carry = append(s.Carry, fsm.Carry{Table: uint16(t.GetId()), From: uint16(min(c.GetFrom(), math.MaxUint16)), Column: c.GetColumn(),
				Norm: supernet.Norm(c.GetNorm()), Above: c.GetAbove(), Always: shard.Key(c.GetAlways()),
				Plus: c.GetPlus(), Times: c.GetTimes(), Least: c.GetLeast(), Weights: c.GetWeights(), Dims: c.GetDims()})
		}
		if t.GetId() > math.MaxUint16 {
			return s, fmt.Errorf("table %s: id %d is above %d", t.GetName(), t.GetId(), math.MaxUint16)
		}
		for _, c := range t.GetColumns() {
			o, err := optimizerOf(c.GetOptimizer())
			if err != nil {
				return s, fmt.Errorf("column %s: %w", c.GetName(), err)
			}
			ts.Columns = append(ts.Columns, table.Column{
				Name: c.GetName(), Width: int(c.GetWidth()), Init: initOf(c.GetInit()), Optimizer: o,
			})
		}
		s.Tables = append(s.Tables, ts)
	}
	for _, id := range p.GetNoiseDense() {
		s.NoiseDense = append(s.NoiseDense, uint16(id))
	}
	if f := p.GetFreeze(); f != nil {
		s.Freeze = &fsm.Freeze{Layers: int(f.GetLayers()), Active: int(f.GetActive()), Every: int(f.GetEvery())}
	}
	for _, d := range p.GetDense() {
		if d.GetId() > math.MaxUint16 {
			return s, fmt.Errorf("dense tensor %s: id %d is above %d", d.GetName(), d.GetId(), math.MaxUint16)
		}
		o, err := optimizerOf(d.GetOptimizer())
		if err != nil {
			return s, fmt.Errorf("dense tensor %s: %w", d.GetName(), err)
		}
		s.Dense = append(s.Dense, fsm.DenseTensor{
			ID: uint16(d.GetId()), Name: d.GetName(), Size: int(d.GetSize()), Init: initOf(d.GetInit()), Optimizer: o, Layer: int(d.GetLayer()),
			Carry: d.GetCarry(), Values: d.GetValues(),
		})
	}
	return s, s.Validate()
}

func initOf(p *proto.Init) random.Init {
	return random.Init{Kind: p.GetKind(), Scale: p.GetScale()}
}

func optimizerOf(b []byte) (optim.Config, error) {
	var c optim.Config
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, fmt.Errorf("optimizer: %w", err)
	}
	return c, nil
}
