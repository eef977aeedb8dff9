package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/compute/model"
)

// benchKind is one word after fathom bench.
type benchKind struct {
	name string
	run  func(context.Context, *bencher) error
	// alone tells that it runs only when it is named.
	alone bool
}

var benchKinds = []benchKind{
	{name: "kernels", run: benchKernels},
	{name: "gemm", run: benchGemm},
	{name: "table", run: benchTable},
	{name: "fsm", run: benchFSM},
	{name: "wire", run: benchWire},
	{name: "step", run: benchStep},
	{name: "cluster", run: benchCluster, alone: true},
}

// benchFlags are the flags of fathom bench.
type benchFlags struct {
	output  output
	threads []int
	reps    int
	// repTime is the least time of one repeat.
	repTime time.Duration
	quick   bool
	rows    int

	// The shape of a training step; sets change further values of its job.
	sets           []string
	models         []string
	fields, dim    int
	hidden         []int
	batch, batches int
	lanes, shards  int

	// The cluster.
	workers, servers, replicas int
	insecure                   bool
	epochBatches               int
}

func (a *app) newBench() *cobra.Command {
	var f benchFlags
	var names []string
	for _, k := range benchKinds {
		names = append(names, k.name)
	}
	cmd := &cobra.Command{
		Use:   "bench [" + strings.Join(names, "|") + "]...",
		Short: "Measure kernels, products, tables, state machine, codec, training step or a whole cluster",
		Long: `Measure kernels, products, tables, state machine, codec, training step or a whole
cluster; without a name, all but the cluster.

Every measurement is repeated after a warm-up. It is one line of JSON with the
median, the CPU seconds as well as the wall time, and per_cpu, the rate for every
CPU second, which is what to compare on a machine that does other things, too.
docs/benchmarks.md says what exactly each one measures.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCPU(); err != nil {
				return err
			}
			kinds, err := chooseBenches(args)
			if err != nil {
				return usageError{err, cmd.UseLine()}
			}
			if !cmd.Flags().Changed("output") {
				if _, terminal := terminalWidth(a.out); !terminal {
					f.output = outputJSON
				}
			}
			if err := f.complete(cmd.Flags().Changed); err != nil {
				return usageError{err, cmd.UseLine()}
			}
			return a.bench(cmd.Context(), kinds, &f)
		},
	}
	f.add(cmd)
	return cmd
}

func (f *benchFlags) add(cmd *cobra.Command) {
	f.output.add(cmd)
	o := cmd.Flags().Lookup("output")
	o.Usage, o.DefValue = "output format: text or json (default text on a terminal, else json)", ""
	flags := cmd.Flags()
	flags.IntSliceVar(&f.threads, "threads", nil, "numbers of threads to measure with (default 1 and one for each processor)")
	flags.IntVar(&f.reps, "reps", 5, "repeats of every measurement")
	flags.DurationVar(&f.repTime, "rep-time", 300*time.Millisecond, "least time of one repeat")
	flags.BoolVar(&f.quick, "quick", false, "tiny sizes and few repeats: to see that everything works, not how fast")
	flags.IntVar(&f.rows, "rows", 1_000_000, "table, fsm: rows of the table")
	flags.StringSliceVar(&f.models, "model", nil, "step, cluster: models (default lr, fm and deepfm; cluster deepfm)")
	flags.IntVar(&f.fields, "fields", 39, "step, cluster: fields of a sample")
	flags.IntVar(&f.dim, "dim", 16, "step, cluster: width of an embedding")
	flags.IntSliceVar(&f.hidden, "hidden", []int{400, 400, 400}, "step, cluster: widths of the hidden layers")
	flags.IntVar(&f.batch, "batch", 4096, "step, cluster: samples of a step")
	flags.IntVar(&f.batches, "batches", 8, "step, cluster: different batches that are generated")
	flags.IntVar(&f.lanes, "lanes", 0, "step, cluster: lanes of a step (default 1; cluster 4)")
	flags.IntVar(&f.shards, "shards", 0, "step, cluster: shards (default 1; cluster 4)")
	addSets(cmd, &f.sets)
	flags.IntVar(&f.workers, "workers", 2, "cluster: worker processes")
	flags.IntVar(&f.servers, "ps", 0, "cluster: parameter servers (default as many as replicas)")
	flags.BoolVar(&f.insecure, "insecure", false, "cluster: plain text between the processes, to see what TLS costs")
	flags.IntVar(&f.replicas, "replicas", 1, "cluster: replicas of every shard")
	flags.IntVar(&f.epochBatches, "epoch-batches", 96, "cluster: batches of the one epoch that is trained")
}

// complete fills in what depends on other flags, and checks.
func (f *benchFlags) complete(changed func(flag string) bool) error {
	if f.threads == nil {
		f.threads = []int{1}
		if n := runtime.NumCPU(); n > 1 {
			f.threads = append(f.threads, n)
		}
	}
	if f.quick {
		for _, q := range []struct {
			flag  string
			value *int
			small int
		}{
			{"reps", &f.reps, 2}, {"rows", &f.rows, 20_000}, {"fields", &f.fields, 10}, {"dim", &f.dim, 8},
			{"batch", &f.batch, 256}, {"batches", &f.batches, 2}, {"epoch-batches", &f.epochBatches, 60},
		} {
			if !changed(q.flag) {
				*q.value = q.small
			}
		}
		if !changed("hidden") {
			f.hidden = []int{32, 16}
		}
		f.repTime = 0
	}
	if f.servers == 0 {
		f.servers = f.replicas
	}
	return f.check()
}

func (f *benchFlags) check() error {
	var errs []error
	for _, c := range []struct {
		flag     string
		value    int
		min, max int
	}{
		{"reps", f.reps, 1, 1000}, {"rows", f.rows, 1000, 1_000_000_000}, {"fields", f.fields, 1, model.FieldsMax},
		{"dim", f.dim, 1, model.EmbeddingDimMax}, {"batch", f.batch, 1, 1 << 20}, {"batches", f.batches, 1, 4096},
		{"lanes", f.lanes, 0, f.batch}, {"shards", f.shards, 0, 1024}, {"workers", f.workers, 1, 256},
		{"replicas", f.replicas, 1, 9}, {"ps", f.servers, f.replicas, 256},
		{"epoch-batches", f.epochBatches, f.batches, 1 << 20},
	} {
		if c.value < c.min || c.value > c.max {
			errs = append(errs, fmt.Errorf("--%s %d is not in [%d, %d]", c.flag, c.value, c.min, c.max))
		}
	}
	for _, t := range f.threads {
		if t < 1 || t > 1024 {
			errs = append(errs, fmt.Errorf("--threads %d is not in [1, 1024]", t))
		}
	}
	for _, m := range f.models {
		if !slices.Contains(model.Names(), m) {
			errs = append(errs, fmt.Errorf("--model: there is no model %q%s", m, didYouMean(m, model.Names())))
		}
	}
	return errors.Join(errs...)
}

// chooseBenches returns the named kinds in their fixed order.
func chooseBenches(names []string) ([]benchKind, error) {
	var known []string
	for _, k := range benchKinds {
		known = append(known, k.name)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("there is no benchmark %q%s", n, didYouMean(n, known))
		}
	}
	var chosen []benchKind
	for _, k := range benchKinds {
		if slices.Contains(names, k.name) || len(names) == 0 && !k.alone {
			chosen = append(chosen, k)
		}
	}
	return chosen, nil
}

// didYouMean names the known word nearest to an unknown one, or all.
func didYouMean(word string, known []string) string {
	c := &cobra.Command{}
	for _, k := range known {
		c.AddCommand(&cobra.Command{Use: k, Run: func(*cobra.Command, []string) {}})
	}
	// The first letters of a word are always near, so that kern finds kernels.
	for c.SuggestionsMinimumDistance = 1; c.SuggestionsMinimumDistance <= 3; c.SuggestionsMinimumDistance++ {
		if near := c.SuggestionsFor(word); len(near) > 0 {
			return ": did you mean " + near[0] + "?"
		}
	}
	return ": want " + strings.Join(known, ", ")
}

// bench runs the benchmarks one after the other.
func (a *app) bench(ctx context.Context, kinds []benchKind, f *benchFlags) error {
	b := newBencher(a, f)
	for _, k := range kinds {
		b.kind = k.name
		if err := k.run(ctx, b); err != nil {
			return fmt.Errorf("bench %s: %w", k.name, err)
		}
		if err := b.endTable(); err != nil {
			return err
		}
	}
	return nil
}
