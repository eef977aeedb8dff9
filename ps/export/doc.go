// Package export owns the artifact: a trained model as a directory that scoring
// needs and nothing else. It writes one from a checkpoint or from the servers of a
// job, and reads it back, without a server.
//
// An artifact has the tables as Arrow files, keys ascending, the dense tensors as
// one safetensors file, and manifest.json, which says what they are and has their
// checksums; see docs/formats/artifact.md. Its bytes are a function of the model:
// the cluster that trained it does not show.
//
//	m, err := export.Write(ctx, dir, about, export.FromCheckpoint(bucket, manifest))
//	a, err := export.Open(dir)
//	defer a.Close()
//	err = a.Pull(ctx, 0, rows, tensors) // as a client of the servers would
package export
