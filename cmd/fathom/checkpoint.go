package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/fsm"
)

func (a *app) newCheckpoint() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Make, list, check and delete checkpoints, and go on from one",
		Long: `Make, list, check and delete checkpoints, and go on from one.

A checkpoint is the whole model as it was after one step, with all that is needed
to train on from there. LOCATION is a directory or an s3:// URL, either of one
checkpoint or of a folder of them, of which the newest is meant.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newCheckpointCreate(), a.newCheckpointList(), a.newCheckpointVerify(), a.newCheckpointRestore(), a.newCheckpointDelete())
	return cmd
}

func (a *app) newCheckpointCreate() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "create [JOB]",
		Short: "Make a checkpoint of a job that trains, and wait for it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.cluster.prefer(optional(args))
			return a.withControl(&f, func(c control) error {
				info, err := c.Checkpoint(cmd.Context(), strings.Join(args, ""))
				if err != nil {
					return err
				}
				e := checkpointJSON{Location: info.GetLocation(), Step: info.GetStep(), StateHash: info.GetStateHash(), Bytes: int64(info.GetBytes())}
				if f.output == outputJSON {
					return writeJSON(a.out, e)
				}
				fmt.Fprintf(a.out, "step %d: %s, %s, state hash %s\n", e.Step, e.Location, bytesText(e.Bytes), e.StateHash)
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}

// checkpointJSON is one checkpoint for programs.
type checkpointJSON struct {
	Location  string    `json:"location"`
	Job       string    `json:"job,omitempty"`
	Step      uint64    `json:"step"`
	Epoch     uint64    `json:"epoch,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Bytes     int64     `json:"bytes"`
	Rows      uint64    `json:"rows,omitempty"`
	Shards    int       `json:"shards,omitempty"`
	StateHash string    `json:"state_hash"`
	Error     string    `json:"error,omitempty"`
}

func describeCheckpoint(location string, e checkpoint.Entry) checkpointJSON {
	d := checkpointJSON{Location: checkpoint.Join(location, e.Name)}
	if e.Err != nil {
		d.Error = e.Err.Error()
		return d
	}
	m := e.Manifest
	d.Job, d.Step, d.Epoch, d.Created, d.Bytes, d.Rows, d.Shards, d.StateHash = m.Job, m.Step, m.Epoch, m.Created, m.Bytes(), m.Rows(), len(m.Files), m.StateHash
	return d
}

func (a *app) newCheckpointList() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "list LOCATION",
		Short: "List the checkpoints in a folder",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			location, err := absolute(args[0])
			if err != nil {
				return err
			}
			return withBucket(cmd.Context(), location, func(b checkpoint.Bucket) error {
				all, err := checkpoint.List(cmd.Context(), b)
				if err != nil {
					return err
				}
				found := []checkpointJSON{}
				rows := [][]string{{"checkpoint", "step", "epoch", "made", "size", "shards", "state hash"}}
				for _, e := range all {
					d := describeCheckpoint(location, e)
					found = append(found, d)
					if d.Error != "" {
						rows = append(rows, []string{e.Name, "-", "-", "-", "-", "-", d.Error})
						continue
					}
					rows = append(rows, []string{e.Name, fmt.Sprint(d.Step), fmt.Sprint(d.Epoch), d.Created.Local().Format(time.DateTime), bytesText(d.Bytes), fmt.Sprint(d.Shards), d.StateHash})
				}
				if out == outputJSON {
					return writeJSON(a.out, found)
				}
				if len(all) == 0 {
					fmt.Fprintf(a.out, "no checkpoints in %s\n", location)
					return nil
				}
				for _, l := range columns("lrrlrrl", rows) {
					fmt.Fprintln(a.out, l)
				}
				return nil
			})
		},
	}
	out.add(cmd)
	return cmd
}

func (a *app) newCheckpointVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify LOCATION",
		Short: "Read a whole checkpoint and check every checksum and the state hash",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return withCheckpoint(ctx, args[0], func(location string, b checkpoint.Bucket, m *checkpoint.Manifest) error {
				var hashes [][16]byte
				for _, f := range m.Files {
					got, err := verifyFile(ctx, b, m, f)
					switch file := checkpoint.Join(location, f.Name); {
					case errors.Is(err, fs.ErrNotExist):
						return fmt.Errorf("%s: %w: it is gone", file, checkpoint.ErrDamaged)
					case errors.Is(err, fsm.ErrSnapshot):
						return fmt.Errorf("%s: %w: %w", file, checkpoint.ErrDamaged, err)
					case err != nil:
						return fmt.Errorf("%s: %w", file, err)
					}
					hashes = append(hashes, got.Parts...)
				}
				if sum := fsm.SumHashes(hashes...); fmt.Sprintf("%x", sum) != m.StateHash {
					return fmt.Errorf("%s: the state hash of its shards is %x, the manifest says %s", location, sum, m.StateHash)
				}
				fmt.Fprintf(a.out, "%s is sound: step %d, %d shards, %d rows, %s, state hash %s\n", location, m.Step, len(m.Files), m.Rows(), bytesText(m.Bytes()), m.StateHash)
				return nil
			})
		},
	}
}

// verifyFile reads one shard and compares it with what the manifest says of it.
func verifyFile(ctx context.Context, b checkpoint.Bucket, m *checkpoint.Manifest, f checkpoint.File) (got fsm.CheckpointFile, err error) {
	r, err := checkpoint.OpenFile(ctx, b, "", f)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	// Not to the end of its format alone, but to that of the file.
	if got, err = fsm.VerifyCheckpoint(r); err != nil {
		return got, err
	}
	if err := checkpoint.AtEnd(r); err != nil {
		return got, err
	}
	if hash := fsm.SumHashes(got.Parts...); got.Version != m.Step || got.Rows != f.Rows || fmt.Sprintf("%x", hash) != f.Hash {
		return got, fmt.Errorf("it is of step %d with %d rows and the state hash %x, the manifest says step %d, %d rows, %s",
			got.Version, got.Rows, hash, m.Step, f.Rows, f.Hash)
	}
	return got, nil
}

func (a *app) newCheckpointRestore() *cobra.Command {
	var (
		f    controlFlags
		sets []string
	)
	cmd := &cobra.Command{
		Use:   "restore LOCATION",
		Short: "Submit the job of a checkpoint, to go on from there",
		Long: `Submit the job of a checkpoint, to go on from there.

The job is the one in the checkpoint. Its cluster may have another size
(--set spec.cluster.shards=8); the model is the same to the last bit.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var location string
			var j *job.Job
			err := withCheckpoint(cmd.Context(), args[0], func(at string, _ checkpoint.Bucket, m *checkpoint.Manifest) (err error) {
				location = at
				j, err = checkpointJob(m, sets)
				return err
			})
			if err != nil {
				return err
			}
			return a.withControl(&f, func(c control) error {
				name, err := c.Restore(cmd.Context(), j.JSON(), location)
				if err != nil {
					return err
				}
				s, err := c.Status(cmd.Context(), name)
				if err != nil {
					return err
				}
				return a.printStatus(f.output, s)
			})
		},
	}
	f.add(cmd)
	addSets(cmd, &sets)
	return cmd
}

// checkpointJob is the job of a checkpoint with some values replaced.
func checkpointJob(m *checkpoint.Manifest, sets []string) (*job.Job, error) {
	return job.Parse(checkpoint.ManifestName, m.Spec, sets) // JSON is YAML, too
}

func (a *app) newCheckpointDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete LOCATION",
		Short: "Delete one checkpoint",
		Long: `Delete one checkpoint.

LOCATION is the checkpoint itself, FOLDER/JOB/STEP as fathom checkpoint list shows
it: never the newest of a folder by chance.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			location, err := absolute(args[0])
			if err != nil {
				return err
			}
			above, name := checkpoint.Split(location, 2)
			return withBucket(ctx, above, func(b checkpoint.Bucket) error {
				// Named exactly: the newest is never meant by chance.
				_, err := checkpoint.ReadManifest(ctx, b, name)
				if errors.Is(err, checkpoint.ErrNone) {
					return inputError{fmt.Errorf("%s is no checkpoint, it has no %s: name one that fathom checkpoint list shows, as FOLDER/JOB/STEP", location, checkpoint.ManifestName)}
				}
				if err != nil && !errors.Is(err, checkpoint.ErrDamaged) {
					return err
				}
				if err := checkpoint.Delete(ctx, b, name); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s is deleted\n", location)
				return nil
			})
		},
	}
}

// absolute makes a path absolute; URLs stay.
func absolute(location string) (string, error) {
	if strings.Contains(location, "://") {
		return location, nil
	}
	return filepath.Abs(location)
}

func withBucket(ctx context.Context, location string, do func(checkpoint.Bucket) error) error {
	b, err := checkpoint.Open(ctx, location)
	if err != nil {
		return err
	}
	return errors.Join(do(b), b.Close())
}

// withCheckpoint opens the checkpoint at a location, or the newest of those in
// the folder there.
func withCheckpoint(ctx context.Context, location string, do func(location string, b checkpoint.Bucket, m *checkpoint.Manifest) error) error {
	location, err := absolute(location)
	if err != nil {
		return err
	}
	var newest checkpoint.Entry
	err = withBucket(ctx, location, func(b checkpoint.Bucket) error {
		m, err := checkpoint.ReadManifest(ctx, b, "")
		if err == nil {
			return do(location, b, m)
		}
		if !errors.Is(err, checkpoint.ErrNone) {
			return err
		}
		newest, err = checkpoint.Newest(ctx, b)
		return err
	})
	if errors.Is(err, checkpoint.ErrNone) {
		return inputError{fmt.Errorf("there is no checkpoint in %s", location)}
	}
	if err != nil || newest.Manifest == nil {
		return err
	}
	location = checkpoint.Join(location, newest.Name)
	return withBucket(ctx, location, func(b checkpoint.Bucket) error { return do(location, b, newest.Manifest) })
}
