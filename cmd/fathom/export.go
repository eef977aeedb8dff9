package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/export"
	"github.com/fathom-train/fathom/ps/fsm"
)

// artifactDir is where, in its working directory, a run puts the trained model.
const artifactDir = "artifact"

func (a *app) newExport() *cobra.Command {
	var (
		f    controlFlags
		from string
		out  string
	)
	cmd := &cobra.Command{
		Use:   "export [JOB] --out DIR",
		Short: "Write a trained model as files that scoring needs, and nothing else",
		Long: `Write a trained model as files that scoring needs, and nothing else.

DIR gets the tables as Arrow files, the dense tensors as safetensors and a
manifest; it must not exist. fathom predict reads it, and so can other programs:
docs/formats/artifact.md. The same model gives the same bytes, whatever cluster
trained it.

The model is that of a job that is done, as long as the servers hold it, of a
job that trains, at a checkpoint that is made now, or of the checkpoint at
--checkpoint (a directory or s3:// URL, of one checkpoint or of a folder of them,
of which the newest is meant). fathom run exports by itself.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return inputError{errors.New("--out DIR is missing: where the artifact goes")}
			}
			dir, err := filepath.Abs(out)
			if err != nil {
				return err
			}
			var m *export.Manifest
			switch {
			case from != "" && len(args) > 0:
				return inputError{errors.New("give either a job or --checkpoint")}
			case from != "":
				m, err = exportCheckpoint(cmd.Context(), from, dir)
			default:
				err = a.withIdentity(&f, func(c control, self *identity.Source) (err error) {
					m, err = a.exportJob(cmd.Context(), c, self, strings.Join(args, ""), dir)
					return err
				})
			}
			if errors.Is(err, export.ErrExists) {
				return inputError{err}
			}
			if err != nil {
				return err
			}
			if f.output == outputJSON {
				return writeJSON(a.out, newArtifactResult(dir, m))
			}
			fmt.Fprintf(a.out, "%s, step %d: %s in %s\n", m.Name, m.Step, newArtifactResult(dir, m).sizes(), dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "checkpoint", "", "checkpoint to export instead of a job's newest state")
	cmd.Flags().StringVar(&out, "out", "", "directory to write, which must not exist")
	f.add(cmd)
	return cmd
}

// exportJob exports a job by its name; the empty name means the newest.
func (a *app) exportJob(ctx context.Context, c control, self *identity.Source, name, dir string) (*export.Manifest, error) {
	s, err := c.Status(ctx, name)
	if err != nil {
		return nil, err
	}
	switch s.GetPhase() {
	case proto.Phase_PHASE_DONE:
		return a.exportServers(ctx, c, self, s, dir)
	case proto.Phase_PHASE_FAILED, proto.Phase_PHASE_CANCELLED:
		return nil, inputError{fmt.Errorf("job %s has no trained model: it is %s; export its newest checkpoint with --checkpoint", s.GetJob(), phaseName(s.GetPhase()))}
	}
	// The servers go on, so the state of one step is what a checkpoint has.
	info, err := c.Checkpoint(ctx, s.GetJob())
	if err != nil {
		return nil, err
	}
	return exportCheckpoint(ctx, info.GetLocation(), dir)
}

// exportCheckpoint exports the checkpoint at a location.
func exportCheckpoint(ctx context.Context, location, dir string) (m *export.Manifest, err error) {
	err = withCheckpoint(ctx, location, func(_ string, b checkpoint.Bucket, from *checkpoint.Manifest) error {
		j, err := checkpointJob(from, nil)
		if err != nil {
			return err
		}
		src := export.FromCheckpoint(b, from)
		head, err := src.Head(ctx)
		if err != nil {
			return err
		}
		about, err := aboutModel(j, head.Schema.Tables, head.Schema.Phase)
		if err != nil {
			return err
		}
		about.SpecDigest, about.StateHash = from.SpecDigest, from.StateHash
		about.Scores = append(about.Scores, from.Scores...)
		m, err = export.Write(ctx, dir, about, src)
		return err
	})
	if errors.Is(err, checkpoint.ErrDamaged) || errors.Is(err, fsm.ErrSnapshot) {
		return nil, fmt.Errorf("%w; fathom checkpoint verify checks the others", err)
	}
	return m, err
}

// artifactResult tells of an artifact that was written.
type artifactResult struct {
	Dir string `json:"dir"`
	// TableBytes are those of the tables' weights, DenseBytes of the network's.
	TableBytes int64 `json:"table_bytes"`
	DenseBytes int64 `json:"dense_bytes"`
	// FileBytes is the size of all files but the manifest.
	FileBytes int64  `json:"file_bytes"`
	Step      uint64 `json:"step"`
	StateHash string `json:"state_hash,omitempty"`
}

func newArtifactResult(dir string, m *export.Manifest) *artifactResult {
	r := &artifactResult{Dir: dir, FileBytes: m.Dense.Bytes, Step: m.Step, StateHash: m.StateHash}
	for _, t := range m.Tables {
		r.TableBytes += t.Bytes
		r.FileBytes += t.File.Bytes
	}
	for _, t := range m.Tensors {
		r.DenseBytes += 4 * int64(t.Size())
	}
	return r
}

// sizes tells them to people.
func (r *artifactResult) sizes() string {
	return fmt.Sprintf("%s of tables and %s of dense tensors", bytesText(r.TableBytes), bytesText(r.DenseBytes))
}
