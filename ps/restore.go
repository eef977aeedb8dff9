package ps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/shard"
)

var (
	// errOpening: a group is about to begin from a checkpoint.
	errOpening = errors.New("the group reads its checkpoint")
	// errCheckpoint: it cannot, and its own disk is not the reason.
	errCheckpoint = errors.New("the checkpoint cannot be used")
)

// seedIndex is the index behind which the log of a restored group begins; see
// replica.Config.Seed.
const seedIndex = 1

// seed writes the snapshot that a group begins from: the rows and tensors of a
// checkpoint that belong to its shard, however the checkpoint was cut. Every
// replica reads the checkpoint by itself.
func seed(ctx context.Context, o *proto.GroupOrder, schema fsm.Schema, to io.Writer) error {
	from := o.GetRestore()
	state, err := readShard(ctx, from, schema, shard.Range{Lo: shard.Key(o.GetKeyLo()), Hi: shard.Key(o.GetKeyHi())})
	if err != nil {
		return fmt.Errorf("restore shard %d from %s: %w: %w", o.GetShard(), from.GetLocation(), errCheckpoint, err)
	}
	defer state.Close()
	v := state.View()
	defer v.Release()
	_, err = v.WriteTo(to)
	return err
}

// readShard builds the state of one shard from a checkpoint.
func readShard(ctx context.Context, from *proto.RestoreSource, schema fsm.Schema, keys shard.Range) (_ *fsm.State, err error) {
	b, err := checkpoint.Open(ctx, from.GetLocation())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	m, err := checkpoint.ReadManifest(ctx, b, "")
	if err != nil {
		return nil, err
	}
	if m.Step != from.GetStep() {
		return nil, fmt.Errorf("the checkpoint is of step %d, step %d was ordered", m.Step, from.GetStep())
	}
	l, err := fsm.NewLoader(schema, m.Step, keys)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	for _, f := range m.Files {
		if !f.Overlaps(keys) && !slices.ContainsFunc(schema.Dense, func(d fsm.DenseTensor) bool { return slices.Contains(f.Dense, uint32(d.ID)) }) {
			continue
		}
		if err := addFile(ctx, b, f, l); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return l.Finish(seedIndex)
}

func addFile(ctx context.Context, b checkpoint.Bucket, f checkpoint.File, l *fsm.Loader) (err error) {
	in, err := checkpoint.OpenFile(ctx, b, "", f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	r, err := fsm.NewCheckpointReader(in)
	if err != nil {
		return err
	}
	if err := l.Add(r); err != nil {
		return err
	}
	return checkpoint.AtEnd(in)
}
