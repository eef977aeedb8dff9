package coordinator

import (
	"encoding/json"
	"fmt"

	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/shard"
)

// layout is the job's parameters in the wire's form.
type layout struct {
	tables []*proto.Table
	dense  []*proto.DenseTensor
	sizes  []int // of the dense tensors
	// noise are the ids of all trained tensors, freeze is nil where none is frozen.
	noise  []uint32
	freeze *proto.Freeze
}

func newLayout(j *job.Job) (*layout, error) {
	tables, err := j.Tables()
	if err != nil {
		return nil, fmt.Errorf("tables of job %s: %w", j.Metadata.Name, err)
	}
	dense, err := j.Dense()
	if err != nil {
		return nil, fmt.Errorf("dense tensors of job %s: %w", j.Metadata.Name, err)
	}
	l := new(layout)
	for _, t := range tables {
		w := &proto.Table{Id: uint32(t.ID), Name: t.Name}
		for _, c := range t.Columns {
			optimizer, err := json.Marshal(c.Optimizer)
			if err != nil {
				return nil, fmt.Errorf("encode optimizer of column %s: %w", c.Name, err)
			}
			w.Columns = append(w.Columns, &proto.Column{Name: c.Name, Width: uint32(c.Width), Init: wireInit(c.Init), Optimizer: optimizer})
		}
		l.tables = append(l.tables, w)
	}
	for _, d := range dense {
		optimizer, err := json.Marshal(d.Optimizer)
		if err != nil {
			return nil, fmt.Errorf("encode optimizer of %s: %w", d.Name, err)
		}
		l.dense = append(l.dense, &proto.DenseTensor{Id: uint32(d.ID), Name: d.Name, Size: uint32(d.Size), Init: wireInit(d.Init), Optimizer: optimizer, Layer: uint32(d.Layer)})
		if j.Spec.Train.NoiseScale > 0 && !d.Running {
			l.noise = append(l.noise, uint32(d.ID))
		}
		l.sizes = append(l.sizes, d.Size)
	}
	if f := j.Spec.Train.Freeze; f != nil {
		layers, err := j.FreezableLayers()
		if err != nil {
			return nil, err
		}
		l.freeze = &proto.Freeze{Layers: uint32(layers), Active: uint32(f.Active), Every: uint32(f.Every)}
	}
	return l, nil
}

func wireInit(i random.Init) *proto.Init { return &proto.Init{Kind: i.Kind, Scale: i.Scale} }

// denseOf lists the tensors a shard holds, by their place in the layout, which
// has the given number: the retrained model lacks the last ones of its supernet.
func denseOf(s shard.ID, placed []shard.ID, most int) []int {
	var held []int
	for i, id := range placed[:min(len(placed), most)] {
		if id == s {
			held = append(held, i)
		}
	}
	return held
}

// schema is the initial entry of one shard's log: all tables, and the dense
// tensors this shard holds.
func (r *run) schema(s shard.ID) *proto.Schema {
	w := &proto.Schema{
		Job: r.groupJob(), Run: r.groupRun(), Seed: r.job.Spec.Train.Seed, Lanes: uint32(r.job.Spec.Train.Lanes),
		PreImages: uint32(r.job.PreImages()), PipelineDepth: uint32(r.job.Depth()), Async: r.job.Async(), Tables: r.layout.tables,
		ClipNorm: r.job.Spec.Train.ClipNorm, NoiseScale: r.job.Spec.Train.NoiseScale, NoiseDense: r.layout.noise, Freeze: r.layout.freeze,
	}
	if r.plan.stage == stageRetrain {
		w.Phase, w.Base, w.CarryDense = 1, r.plan.start, r.retrainFrom == job.FromSupernet
		if r.retrainFrom == job.FromFresh {
			w.Seed = random.Stream(w.Seed, random.Search, 1<<32, 0, 0)
		}
	}
	for _, i := range denseOf(s, r.place.Dense, len(r.layout.dense)) {
		w.Dense = append(w.Dense, r.layout.dense[i])
	}
	return w
}
