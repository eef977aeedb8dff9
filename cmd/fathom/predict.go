package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/export"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/worker/dataset"
	"github.com/fathom-train/fathom/worker/trainer"
)

// predictFlags are the flags of fathom predict.
type predictFlags struct {
	model, split, root, out, format string
	files                           []string
}

func (a *app) newPredict() *cobra.Command {
	var f predictFlags
	cmd := &cobra.Command{
		Use:   "predict --model DIR (--data FILE... | --split SPLIT)",
		Short: "Score records with an exported model",
		Long: `Score records with an exported model.

DIR is an artifact that fathom run or fathom export wrote; nothing else is needed.
Its checksums are compared first. FILE has the format and the columns of the job's
data; labels are not needed (libsvm and libffm: in no line or in all). --split scores a split of
the job instead, generated data included, and says whether the score is the one
that was reported, to the last bit.

One line per record goes to the standard output, in the order of the files: the
probability of label 1, and the label where there is one. AUC and log loss are
told at the end, on the standard error or in the JSON.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.files = append(f.files, args...)
			return a.predict(cmd.Context(), &f)
		},
	}
	cmd.Flags().StringVar(&f.model, "model", "", "directory of the artifact")
	cmd.Flags().StringArrayVar(&f.files, "data", nil, "file or glob to score; may be given several times, and files may follow it")
	cmd.Flags().StringVar(&f.split, "split", "", "score a split of the job instead: train, valid or test")
	cmd.Flags().StringVar(&f.root, "root", "", "directory that the files are in (default the current one)")
	cmd.Flags().StringVar(&f.out, "out", "", "file to write instead of the standard output")
	cmd.Flags().StringVarP(&f.format, "output", "o", "csv", "output format: csv or json")
	return cmd
}

func (f *predictFlags) check() error {
	switch {
	case f.model == "":
		return errors.New("--model DIR is missing: the artifact to score with")
	case len(f.files) == 0 && f.split == "":
		return errors.New("nothing to score: give --data FILE or --split test")
	case len(f.files) > 0 && f.split != "":
		return errors.New("give either --data or --split")
	case f.format != "csv" && f.format != "json":
		return fmt.Errorf("-o %s: want csv or json", f.format)
	}
	return nil
}

func (a *app) predict(ctx context.Context, f *predictFlags) (err error) {
	if err := f.check(); err != nil {
		return inputError{err}
	}
	if err := checkCPU(); err != nil {
		return err
	}
	gemm.SetThreads(runtime.NumCPU())
	model, j, err := openModel(f.model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	data, split, err := f.open(ctx, j.Spec.Data, a.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	t, err := trainer.New(trainer.Config{Job: j, Data: data, Weights: model})
	if err != nil {
		return err
	}
	to, done, err := a.destination(f.out)
	if err != nil {
		return err
	}
	p := &predictions{to: to, json: f.format == "json", labelled: data.Labelled()}
	err = p.score(ctx, t, data, split)
	if err == nil {
		p.end(model.Manifest, f.split)
		err = to.Flush()
	}
	if err := errors.Join(err, done(err)); err != nil {
		return err
	}
	if !p.json {
		for _, l := range p.lines(model.Manifest, f.split) {
			fmt.Fprintln(a.err, l)
		}
	}
	return nil
}

// openModel opens an artifact and the job in it.
func openModel(dir string) (*export.Artifact, *job.Job, error) {
	model, err := export.Open(dir)
	if errors.Is(err, export.ErrNone) || errors.Is(err, export.ErrFormat) {
		return nil, nil, inputError{err}
	}
	if err != nil {
		return nil, nil, err
	}
	j, err := job.FromJSON(model.Manifest.Job)
	if err == nil {
		var tables []table.Schema
		for _, t := range model.Manifest.Tables {
			tables = append(tables, t.Schema)
		}
		err = sameTables(j, tables)
	}
	if err == nil {
		err = sameTensors(j, model.Manifest.Tensors)
	}
	if err != nil {
		return nil, nil, errors.Join(inputError{fmt.Errorf("artifact %s: %w", dir, err)}, model.Close())
	}
	return model, j, nil
}

// open opens the records to score and names the split they are in.
func (f *predictFlags) open(ctx context.Context, d job.Data, warnings io.Writer) (*dataset.Set, string, error) {
	split := f.split
	var err error
	if d.Root, err = filepath.Abs(f.root); err != nil {
		return nil, "", err
	}
	if split == "" {
		if d.Format == job.FormatSynthetic {
			return nil, "", inputError{errors.New("the model was trained on generated data, which have no files: use --split test")}
		}
		// Every record gets its line, so a bad one is an error.
		split, d.Test, d.MaxBadRecords = "test", f.files, 0
	}
	log := slog.New(slog.NewTextHandler(warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	data, err := dataset.OpenScoring(ctx, d, split, log)
	return data, split, err
}

// destination is where the predictions go. A file is there only when done got no
// error.
func (a *app) destination(path string) (to *bufio.Writer, done func(error) error, err error) {
	if path == "" || path == "-" {
		return bufio.NewWriter(a.out), func(error) error { return nil }, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // /dev/null, a pipe
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, nil, inputError{err}
		}
		return bufio.NewWriter(f), func(error) error { return f.Close() }, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".predict-*")
	if err != nil {
		return nil, nil, inputError{fmt.Errorf("write predictions: %w", err)}
	}
	return bufio.NewWriter(f), func(err error) error {
		if err == nil {
			err = f.Chmod(0o644)
		}
		if err = errors.Join(err, f.Close()); err == nil {
			return os.Rename(f.Name(), path)
		}
		return os.Remove(f.Name()) // the caller has the first error
	}, nil
}

// predictions writes them and takes the score.
type predictions struct {
	to       *bufio.Writer
	json     bool
	labelled bool
	rows     int64
	result   eval.Result
	line     []byte
}

// score goes over the split in the blocks in which workers evaluate it.
func (p *predictions) score(ctx context.Context, t *trainer.Trainer, data *dataset.Set, split string) error {
	records, _ := data.Split(split) // OpenScoring has opened it
	p.begin()
	var blocks []*eval.Accumulator
	for lo := int64(0); lo < records.Rows(); lo += job.EvaluationBlockRows {
		acc := &eval.Accumulator{}
		hi := min(lo+job.EvaluationBlockRows, records.Rows())
		err := t.Predict(ctx, split, 0, lo, hi, func(_ int64, probabilities []float32, b *dataset.Batch) error {
			for i, v := range probabilities {
				if err := p.add(v, b.Labels[i]); err != nil {
					return err
				}
			}
			if p.labelled {
				acc.Add(probabilities, b.Labels, b.Groups)
			}
			return nil
		})
		if err != nil {
			return err
		}
		blocks = append(blocks, acc)
	}
	p.result = eval.Merge(blocks)
	return nil
}

func (p *predictions) begin() {
	switch {
	case p.json:
		p.to.WriteString("{\"predictions\": [")
	case p.labelled:
		p.to.WriteString("prediction,label\n")
	default:
		p.to.WriteString("prediction\n")
	}
}

// add writes one record: the shortest text that reads back as the same float32.
func (p *predictions) add(probability, label float32) error {
	b := p.line[:0]
	if p.json {
		if p.rows > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n  {\"prediction\": "...)
	}
	b = strconv.AppendFloat(b, float64(probability), 'g', -1, 32)
	if p.labelled {
		if p.json {
			b = append(b, ", \"label\": "...)
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(label), 10)
	}
	if p.json {
		b = append(b, '}')
	} else {
		b = append(b, '\n')
	}
	p.line = b
	p.rows++
	_, err := p.to.Write(b)
	return err
}

// end writes what follows the records; Flush tells the writer's error.
func (p *predictions) end(m *export.Manifest, split string) {
	if !p.json {
		return
	}
	fmt.Fprintf(p.to, "\n], \"job\": %q, \"state_hash\": %q, \"samples\": %d", m.Name, m.StateHash, p.rows)
	if p.labelled {
		fmt.Fprintf(p.to, ", \"auc\": %s, \"logloss\": %s", digits(p.result.AUC), digits(p.result.LogLoss))
		if p.result.GroupedSamples > 0 {
			fmt.Fprintf(p.to, ", \"gauc\": %s", digits(p.result.GAUC))
		}
	}
	if _, same, ok := p.compare(m, split); ok {
		fmt.Fprintf(p.to, ", \"as_reported\": %t", same)
	}
	p.to.WriteString("}\n")
}

// digits is a float64 in full.
func digits(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// compare looks for the reported score of a split and tells whether this is it, to
// the last bit.
func (p *predictions) compare(m *export.Manifest, split string) (reported checkpoint.Score, same, ok bool) {
	reported, ok = m.Score(split)
	same = reported.Samples == p.result.Samples && math.Float64bits(reported.AUC) == math.Float64bits(p.result.AUC) &&
		math.Float64bits(reported.LogLoss) == math.Float64bits(p.result.LogLoss) && math.Float64bits(reported.GAUC) == math.Float64bits(p.result.GAUC)
	return reported, same, ok && p.labelled
}

// lines is the score for people.
func (p *predictions) lines(m *export.Manifest, split string) []string {
	text := fmt.Sprintf("%s: %s records", m.Name, grouped(uint64(p.rows)))
	if !p.labelled {
		return []string{text + ", no labels"}
	}
	text += fmt.Sprintf(", AUC %s, log loss %s", digits(p.result.AUC), digits(p.result.LogLoss))
	if p.result.GroupedSamples > 0 {
		text += ", AUC within groups " + digits(p.result.GAUC)
	}
	lines := []string{text}
	switch reported, same, ok := p.compare(m, split); {
	case ok && same:
		lines = append(lines, "the score that was reported when it was trained, to the last bit")
	case ok:
		lines = append(lines, fmt.Sprintf("not the score reported when it was trained: %s records, AUC %s, log loss %s; are the data the same?",
			grouped(reported.Samples), digits(reported.AUC), digits(reported.LogLoss)))
	}
	return lines
}

// sameTensors wants the dense tensors of a job's model to be the given ones.
func sameTensors(j *job.Job, tensors []export.Tensor) error {
	want, err := tensorsOf(j)
	if err != nil {
		return err
	}
	if got, want := fmt.Sprint(tensors), fmt.Sprint(want); got != want {
		return fmt.Errorf("its dense tensors are %s, its job has %s", clip(got, 400), clip(want, 400))
	}
	return nil
}
