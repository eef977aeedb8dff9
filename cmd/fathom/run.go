package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// cancelPatience bounds how long an interrupted run waits for the coordinator
// to cancel the job; the cluster is stopped anyway.
const cancelPatience = 3 * time.Second

// runFlags are the flags of fathom run.
type runFlags struct {
	sets     []string
	workdir  string
	keep     bool
	profile  string
	insecure bool
	// resume goes on with the run in workdir; fromCheckpoint not from where the
	// servers' logs are but from the newest checkpoint.
	resume, fromCheckpoint bool
	// restore is the checkpoint that a new run begins with; empty: none.
	restore string
	// noExport leaves the trained model on the servers.
	noExport bool
	output   output
	log      logLevel
	// sizes are the flags that stand for a value of the job.
	sizes map[string]*int
}

// sizeFlags maps a flag to the value of the job it replaces.
var sizeFlags = []struct{ flag, path, usage string }{
	{"workers", "spec.cluster.workers", "worker processes"},
	{"ps", "spec.cluster.ps", "parameter server processes"},
	{"replicas", "spec.cluster.replicas", "replicas of every shard"},
	{"shards", "spec.cluster.shards", "shards"},
}

func (a *app) newRun() *cobra.Command {
	f := runFlags{sizes: map[string]*int{}}
	cmd := &cobra.Command{
		Use:   "run JOB.yaml",
		Short: "Train a job on a cluster of this machine, from start to end",
		Long: `Train a job on a cluster of this machine, from start to end.

All processes are started as children, the job is followed until it has ended,
and everything is stopped. The result is printed and written to result.json in
the working directory, with report.html for the browser, the exported model in
artifact, and the logs. The first Ctrl-C cancels the job
and stops the cluster in order, a second one kills it at once.

A run that was killed as a whole goes on with --resume --workdir DIR, without a
job file: from the servers' logs, which lack nothing that was acknowledged. With
--from-checkpoint, and when the logs are gone, it goes on from the newest
checkpoint, then also with a cluster of another size.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.resume = f.resume || f.fromCheckpoint
			sets := f.sets
			for _, s := range sizeFlags {
				if cmd.Flags().Changed(s.flag) {
					sets = append(sets, s.path+"="+strconv.Itoa(*f.sizes[s.flag]))
				}
			}
			if err := checkCPU(); err != nil {
				return err
			}
			if err := checkOpenFiles(); err != nil {
				return err
			}
			if f.resume {
				if f.workdir == "" || len(args) > 0 {
					return inputError{errors.New("--resume needs --workdir DIR, and takes the job from there")}
				}
				if f.restore != "" {
					return inputError{errors.New("--restore begins a new run, --resume goes on with one: give one of them")}
				}
				return a.resume(cmd.Context(), sets, &f)
			}
			if len(args) == 0 {
				return inputError{errors.New("no job is named: fathom run JOB.yaml")}
			}
			j, err := a.loadJob(args[0], sets)
			if err != nil {
				return err
			}
			dir, err := makeWorkdir(f.workdir)
			if err != nil {
				return err
			}
			if err := prepareRun(j, dir); err != nil {
				return err
			}
			if f.restore != "" {
				if len(j.Spec.Train.Seeds) > 0 {
					return inputError{errors.New("--restore begins with one model: give one seed")}
				}
				if f.restore, err = absolute(f.restore); err != nil {
					return err
				}
			}
			return a.run(cmd.Context(), j, dir, f.restore, &f)
		},
	}
	for _, s := range sizeFlags {
		f.sizes[s.flag] = cmd.Flags().Int(s.flag, 0, s.usage+" (default as in the job)")
	}
	addSets(cmd, &f.sets)
	cmd.Flags().StringVar(&f.workdir, "workdir", "", "directory of logs, data and result (default a new one in the temporary directory)")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "keep the servers' data, too, when the job is done")
	cmd.Flags().BoolVar(&f.noExport, "no-export", false, "do not write the trained model to artifact/ in the working directory")
	cmd.Flags().StringVar(&f.profile, "profile", "", "write pprof files of every process to this directory, and show where the time went")
	cmd.Flags().BoolVar(&f.insecure, "insecure", false, "plain text between the processes; every user of this machine can reach them")
	cmd.Flags().BoolVar(&f.resume, "resume", false, "go on with the run in --workdir")
	cmd.Flags().BoolVar(&f.fromCheckpoint, "from-checkpoint", false, "resume from the newest checkpoint instead of the servers' logs")
	cmd.Flags().StringVar(&f.restore, "restore", "", "checkpoint that the run begins with, of a job with the same data and tables, such as the supernet that another search has kept")
	f.output.add(cmd)
	f.log.add(cmd)
	return cmd
}

// cluster is the local cluster as the run needs it.
type cluster interface {
	// coordinators are the addresses to talk to.
	coordinators() []string
	// identity is who may talk to them; nil: anybody, in plain text.
	identity() *identity.Source
	// failed delivers why the cluster cannot go on.
	failed() <-chan error
	// restarts counts, by process, how often it died and was started again.
	restarts() map[string]int
	// stop ends all processes in order and returns the CPU seconds by role.
	stop() (cpu map[string]float64, err error)
	// kill ends all processes at once.
	kill()
}

// run trains the job on a cluster in dir, from the checkpoint at a location
// unless that is empty.
func (a *app) run(ctx context.Context, j *job.Job, dir, restore string, f *runFlags) (err error) {
	profileDir, err := makeProfileDir(f.profile)
	if err != nil {
		return err
	}
	if f.output == outputText {
		fmt.Fprintf(a.err, "%s: working in %s\n", j.Metadata.Name, dir)
	}
	p := newProgress(a.err, f.output, a.now)
	c, err := a.startCluster(ctx, j, dir, clusterOptions{log: f.log, profileDir: profileDir, insecure: f.insecure}, p.restarted)
	if err != nil {
		p.close()
		return fmt.Errorf("start the cluster: %w", err)
	}
	a.interrupts.onSecond(c.kill)
	if f.output == outputText {
		fmt.Fprintf(a.err, "%s: for fathom nodes, status and logs:\n  export %s\n", j.Metadata.Name, environment(c))
	}
	exportDir := filepath.Join(dir, artifactDir)
	if f.noExport {
		exportDir = ""
	}
	results, profile, err := a.trainSeeds(ctx, c, j, beginning{f.resume, restore}, p, exportDir, profileDir)
	p.close()
	if err == nil {
		if e := a.saveHashes(ctx, c, dir); e != nil && f.output == outputText {
			fmt.Fprintf(a.err, "%s: the state hashes are not kept: %v\n", j.Metadata.Name, e)
		}
	}
	cpu, stopErr := c.stop()
	if err != nil || stopErr != nil {
		return a.explainFailure(errors.Join(err, stopErr), dir)
	}
	for i, one := range j.PerSeed() {
		a.countKept(ctx, one, results[i])
	}
	told := whole(j, results, cpu, c.restarts(), profile)
	if err := writeResult(filepath.Join(dir, "result.json"), told); err != nil {
		return err
	}
	if err := writeReport(filepath.Join(dir, reportFile), j.Metadata.Name, results); err != nil {
		return err
	}
	if !f.keep {
		if err := os.RemoveAll(filepath.Join(dir, dataDir)); err != nil {
			return fmt.Errorf("remove the servers' data: %w", err)
		}
	}
	return a.printResult(f.output, told)
}

// whole is what a run tells: the result of its job, or the sweep of its seeds. What
// the processes used in their whole lives belongs to all of it.
func whole(j *job.Job, results []*result, cpu map[string]float64, restarts map[string]int, profile *profileReport) shown {
	if len(j.Spec.Train.Seeds) > 0 {
		s := newSweep(j, results)
		s.CPUSeconds, s.Restarts, s.Profile = cpu, restarts, profile
		return s
	}
	r := results[0]
	maps.Copy(r.CPUSeconds, cpu)
	r.Restarts, r.Profile = restarts, profile
	return r
}

// trainSeeds trains the job, or one after the other the jobs of its seeds, exports
// their models to exportDir unless that is empty, and returns their results. The profile is of all of it.
func (a *app) trainSeeds(ctx context.Context, c cluster, j *job.Job, from beginning, p progress, exportDir, profileDir string) (results []*result, profile *profileReport, err error) {
	var trainSeconds float64
	for _, one := range j.PerSeed() {
		last, err := a.trainOn(ctx, c, one, from, p)
		if err != nil {
			return nil, nil, err
		}
		r, err := newResult(last)
		if err != nil {
			return nil, nil, err
		}
		if exportDir != "" {
			to := exportDir
			if len(j.Spec.Train.Seeds) > 0 {
				to = filepath.Join(to, one.Metadata.Name)
			}
			if r.Artifact, err = a.exportDone(ctx, c, last, to); err != nil {
				return nil, nil, fmt.Errorf("export the trained model: %w\nthe servers' data are kept: fathom run --resume --workdir %s tries again", err, filepath.Dir(exportDir))
			}
		}
		results = append(results, r)
		trainSeconds += last.GetTrainSeconds()
	}
	if o, ok := c.(observed); ok && profileDir != "" {
		profile = newProfileReport(ctx, profileDir, o, trainSeconds)
	}
	return results, profile, nil
}

// exportDone exports the model of a job that is done.
func (a *app) exportDone(ctx context.Context, c cluster, s *proto.JobStatus, dir string) (r *artifactResult, err error) {
	control, err := a.dial(c.coordinators(), c.identity())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	m, err := a.exportServers(ctx, control, c.identity(), s, dir)
	if err != nil {
		return nil, err
	}
	return newArtifactResult(dir, m), nil
}

// environment is what lets other commands reach the cluster.
func environment(c cluster) string {
	e := coordinatorEnv + "=" + strings.Join(c.coordinators(), ",")
	if self := c.identity(); self != nil {
		e += " " + credentialsEnv + "=" + self.Dir()
	}
	return e
}

// trainOn begins the job and follows it to its end. When ctx ends first, the job
// is cancelled.
func (a *app) trainOn(ctx context.Context, c cluster, j *job.Job, from beginning, p progress) (last *proto.JobStatus, err error) {
	control, err := a.dial(c.coordinators(), c.identity())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	watch, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-c.failed():
			cancel(err)
		case <-watch.Done():
		}
	}()
	name, err := from.begin(watch, control, j)
	if err == nil {
		last, err = follow(watch, control, name, p)
	}
	switch {
	case err == nil:
		return last, nil
	case ctx.Err() != nil:
		a.cancelJob(ctx, control, name)
		return nil, errInterrupted
	case watch.Err() != nil:
		return nil, context.Cause(watch)
	}
	return nil, err
}

// cancelJob tells the coordinator, so that nothing is computed while the
// cluster stops. It is a courtesy: the cluster ends anyway.
func (a *app) cancelJob(ctx context.Context, c control, name string) {
	if name == "" {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cancelPatience)
	defer done()
	_, _ = c.Cancel(ctx, name)
}

// explainFailure adds where to look, unless the error says it all.
func (a *app) explainFailure(err error, dir string) error {
	if exitCode(err) == exitFailed {
		return fmt.Errorf("%w\nthe logs are in %s", err, filepath.Join(dir, "logs"))
	}
	return err
}

// makeWorkdir makes the working directory of a run. It must be empty: a run
// does not go on where another one ended.
func makeWorkdir(dir string) (string, error) {
	if dir == "" {
		dir, err := os.MkdirTemp("", "fathom-")
		if err != nil {
			return "", fmt.Errorf("make the working directory: %w", err)
		}
		return dir, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the working directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	if len(entries) > 0 {
		return "", inputError{fmt.Errorf("working directory %s is not empty: name a new one", dir)}
	}
	return dir, nil
}
