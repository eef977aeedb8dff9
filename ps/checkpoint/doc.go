// Package checkpoint knows how checkpoints are stored: where their files lie, in
// a local directory or an object store, what their manifest says, and which of
// them exist. What is inside the shards' files is package fsm's affair.
//
// A checkpoint is a folder <job>-<run>/<step> below a base directory: one file
// per shard, and manifest.json, which is written last and in one piece. A folder
// without a manifest is no checkpoint; see docs/formats/checkpoint.md.
//
//	b, err := checkpoint.Open(ctx, "s3://models/ctr?region=eu-west-1")
//	defer b.Close()
//	all, err := checkpoint.List(ctx, b)
//	m, err := checkpoint.ReadManifest(ctx, b, all[0].Name)
package checkpoint
