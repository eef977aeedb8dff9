package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// chaosFlags are the flags of fathom chaos.
type chaosFlags struct {
	run     runFlags
	seed    uint64
	faults  int
	leaders bool
	hash    string
}

func (a *app) newChaos() *cobra.Command {
	f := chaosFlags{run: runFlags{sizes: map[string]*int{}}}
	cmd := &cobra.Command{
		Use:   "chaos JOB.yaml",
		Short: "Train a job while its processes are killed and stopped, and compare the model",
		Long: `Train a job while its processes are killed and stopped, and compare the model.

The job is trained twice on a cluster of this machine: first undisturbed, unless
its hash is given, then with faults spread over its steps. Every kind of process
is killed (SIGKILL) or stopped for a while (SIGSTOP), sometimes all of a kind or
all there are. The faults are drawn from the seed. At the end a table tells what
each fault did and how long no step was completed (less than 0.2s counts as no
pause), and whether the model is the same to the last bit. If it is not, the exit
code is 1.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			sets := f.run.sets
			for _, s := range sizeFlags {
				if cmd.Flags().Changed(s.flag) {
					sets = append(sets, s.path+"="+strconv.Itoa(*f.run.sizes[s.flag]))
				}
			}
			j, err := a.loadJob(args[0], sets)
			if err != nil {
				return err
			}
			return a.chaos(cmd.Context(), j, &f)
		},
	}
	for _, s := range sizeFlags {
		f.run.sizes[s.flag] = cmd.Flags().Int(s.flag, 0, s.usage+" (default as in the job)")
	}
	addSets(cmd, &f.run.sets)
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "what the faults are drawn from")
	cmd.Flags().IntVar(&f.faults, "faults", 20, "how many faults to make")
	cmd.Flags().BoolVar(&f.leaders, "leaders", false, "make no other fault than killing the server that leads shard 0")
	cmd.Flags().StringVar(&f.hash, "hash", "", "the model's hash, if known: then the job is not trained undisturbed first")
	cmd.Flags().StringVar(&f.run.workdir, "workdir", "", "directory of logs and data (default a new one in the temporary directory)")
	cmd.Flags().BoolVar(&f.run.insecure, "insecure", false, "plain text between the processes; every user of this machine can reach them")
	f.run.output.add(cmd)
	f.run.log.add(cmd)
	return cmd
}

func (f *chaosFlags) check() error {
	if f.faults < 1 {
		return usageError{errors.New("--faults must be at least 1"), ""}
	}
	if f.hash != "" && len(f.hash) != 32 {
		return usageError{fmt.Errorf("--hash %q is no model hash: it has 32 hex digits", f.hash), ""}
	}
	if err := checkCPU(); err != nil {
		return err
	}
	return checkOpenFiles()
}

// chaosReport is the outcome of fathom chaos.
type chaosReport struct {
	Job    string         `json:"job"`
	Seed   uint64         `json:"seed"`
	Faults []chaosOutcome `json:"faults"`
	// Made is how many of the faults were made before the training ended.
	Made int `json:"made"`
	// Recovery is of the faults that held the training up.
	Recovery recovery       `json:"recovery_seconds"`
	Restarts map[string]int `json:"restarts"`
	Expected string         `json:"expected_hash"`
	Got      string         `json:"got_hash"`
	Same     bool           `json:"same"`
	// WallSeconds are of the undisturbed and of the disturbed run; 0: not run.
	UndisturbedSeconds float64 `json:"undisturbed_seconds,omitempty"`
	DisturbedSeconds   float64 `json:"disturbed_seconds"`
}

// recovery sums up how long training took to go on.
type recovery struct {
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// errOtherModel is the failure that fathom chaos looks for.
var errOtherModel = errors.New("the model differs from that of the undisturbed run")

// chaos trains the job twice and compares.
func (a *app) chaos(ctx context.Context, j *job.Job, f *chaosFlags) error {
	dir, err := makeWorkdir(f.run.workdir)
	if err != nil {
		return err
	}
	r := &chaosReport{Job: j.Metadata.Name, Seed: f.seed, Expected: f.hash}
	var stopErrs error // of a cluster that did not stop in order when all was done
	if f.hash == "" {
		fmt.Fprintf(a.err, "%s: trains undisturbed, in %s\n", r.Job, dir)
		s, _, err := a.trainFor(ctx, j, filepath.Join(dir, "undisturbed"), f, nil)
		if s == nil {
			return err
		}
		stopErrs = err
		r.Expected, r.UndisturbedSeconds = s.GetModelHash(), wallSeconds(s)
	}
	plan := drawFaults(f.seed, f.faults, f.leaders, j)
	fmt.Fprintf(a.err, "%s: trains with %d faults of seed %d\n", r.Job, f.faults, f.seed)
	m := &faultMaker{plan: plan, told: func(o chaosOutcome) { fmt.Fprintf(a.err, "  %s\n", o) }}
	s, restarts, err := a.trainFor(ctx, j, filepath.Join(dir, "disturbed"), f, m)
	if s == nil {
		return err
	}
	stopErrs = errors.Join(stopErrs, err)
	r.Faults, r.Restarts, r.Got, r.DisturbedSeconds = m.outcomes(), restarts, s.GetModelHash(), wallSeconds(s)
	r.finish()
	if err := a.printChaos(f.run.output, r); err != nil {
		return err
	}
	if !r.Same {
		return errors.Join(fmt.Errorf("%w: %s, want %s; its logs are in %s", errOtherModel, r.Got, r.Expected, dir), stopErrs)
	}
	if stopErrs != nil {
		return stopErrs
	}
	// Nobody needs the servers' data any more; the logs stay.
	return errors.Join(os.RemoveAll(filepath.Join(dir, "undisturbed", dataDir)), os.RemoveAll(filepath.Join(dir, "disturbed", dataDir)))
}

// trainFor trains the job on a cluster of its own and returns the last status,
// nil when it was not trained, and how often which process was started again. An
// error beside a status is of the cluster's stop. m may be nil.
func (a *app) trainFor(ctx context.Context, j *job.Job, dir string, f *chaosFlags, m *faultMaker) (s *proto.JobStatus, restarts map[string]int, err error) {
	dir, err = makeWorkdir(dir)
	if err != nil {
		return nil, nil, err
	}
	p := newProgress(io.Discard, f.run.output, a.now)
	c, err := a.startCluster(ctx, j, dir, clusterOptions{log: f.run.log, insecure: f.run.insecure, restartsMax: 20 + 10*f.faults}, p.restarted)
	if err != nil {
		return nil, nil, fmt.Errorf("start the cluster: %w", err)
	}
	a.interrupts.onSecond(c.kill)
	stop := func() {}
	if m != nil {
		p = watching{p, m}
		stop, err = m.start(ctx, c, dir)
	}
	if err == nil {
		s, err = a.trainOn(ctx, c, j, beginning{}, p)
	}
	stop()
	_, stopErr := c.stop()
	if err != nil {
		return nil, nil, a.explainFailure(errors.Join(err, stopErr), dir)
	}
	if stopErr != nil {
		stopErr = a.explainFailure(stopErr, dir)
	}
	return s, c.restarts(), stopErr
}

func wallSeconds(s *proto.JobStatus) float64 {
	return time.Duration(s.GetEndedUnixNano() - s.GetCreatedUnixNano()).Seconds()
}

// finish computes what follows from the rest.
func (r *chaosReport) finish() {
	r.Same = r.Got == r.Expected && r.Got != ""
	var stalls []float64
	for _, o := range r.Faults {
		if o.Made {
			r.Made++
		}
		if o.Recovery > 0 {
			stalls = append(stalls, o.Recovery)
		}
	}
	if len(stalls) > 0 {
		slices.Sort(stalls)
		r.Recovery = recovery{Median: stalls[len(stalls)/2], Max: stalls[len(stalls)-1]}
	}
}

func (a *app) printChaos(o output, r *chaosReport) error {
	if o == outputJSON {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	rows := [][]string{{"", "FAULT", "AT STEP", "EFFECT", "BACK AFTER"}}
	for i, f := range r.Faults {
		row := []string{strconv.Itoa(i + 1), f.Fault, "-", f.Effect, "-"}
		if f.Made {
			row[2] = strconv.FormatUint(f.Step, 10)
		}
		if f.Recovery > 0 {
			row[4] = fmt.Sprintf("%.2fs", f.Recovery)
		}
		rows = append(rows, row)
	}
	for _, line := range columns("rlrlr", rows) {
		fmt.Fprintln(a.out, line)
	}
	fmt.Fprintf(a.out, "\n%d of %d faults made; training went on after %.2fs (median), %.2fs (longest)\n", r.Made, len(r.Faults), r.Recovery.Median, r.Recovery.Max)
	if r.UndisturbedSeconds > 0 {
		fmt.Fprintf(a.out, "undisturbed run %s, this one %s\n", seconds(r.UndisturbedSeconds), seconds(r.DisturbedSeconds))
	}
	verdict := "the same model"
	if !r.Same {
		verdict = "ANOTHER MODEL"
	}
	_, err := fmt.Fprintf(a.out, "hash      %s\nexpected  %s: %s\n", r.Got, r.Expected, verdict)
	return err
}
