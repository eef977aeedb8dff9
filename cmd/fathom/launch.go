package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/launch"
	"github.com/fathom-train/fathom/deploy/manifest"
)

// What launch waits for.
const (
	waitDone  = "done"
	waitReady = "ready"
	waitNot   = "false"
)

// launchFlags are the flags of fathom launch.
type launchFlags struct {
	manifestFlags
	kube    kubeFlags
	sets    []string
	on      string
	dryRun  string
	output  string
	diff    bool
	force   bool
	wait    string
	timeout time.Duration
}

// monitorVersion is of the kind that is rendered if the cluster has it.
const monitorVersion = "monitoring.coreos.com/v1"

func (a *app) newLaunch() *cobra.Command {
	var f launchFlags
	cmd := &cobra.Command{
		Use:   "launch JOB.yaml --image IMAGE",
		Short: "Train a job on a Kubernetes cluster",
		Long: `Train a job on a Kubernetes cluster.

The job is checked and rendered as fathom manifest does, the certificates are
made, everything is applied on the server's side, and the job is followed to its
end (--wait ready: until all pods are ready; --wait false: not at all). Ctrl-C
stops watching; the cluster goes on. Launched again, what is the same stays as it
is, what changed is changed, and what the job no longer has is pruned. A job that
was launched stays what it trains: of its file only the numbers of workers and
servers can change, another job needs another name.

  fathom launch job.yaml --image registry.example/fathom:v1 -n ml --diff
  fathom launch job.yaml --image registry.example/fathom:v1 -n ml

With --diff the exit code is 1 when there are changes, and 2 on errors. Exit
codes else: 64 what was asked is at fault or not allowed, 69 the cluster does not
answer, 75 not ready in time, 1 failed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			j, err := a.loadJob(args[0], f.sets)
			if err != nil {
				return err
			}
			if f.on == onLocal {
				return a.launchLocal(cmd.Context(), j)
			}
			err = a.launch(cmd.Context(), j, &f)
			if f.diff && err != nil && exitCode(err) == exitFailed && !errors.Is(err, errChanges) {
				return codedError{err, exitTrouble}
			}
			return err
		},
	}
	f.manifestFlags.add(cmd)
	f.kube.add(cmd)
	addSets(cmd, &f.sets)
	flags := cmd.Flags()
	flags.StringVar(&f.on, "on", onKubernetes, "where: kubernetes, or local, which is fathom run")
	flags.StringVar(&f.dryRun, "dry-run", "", "client: only render; server: let the cluster check it all and change nothing")
	flags.StringVarP(&f.output, "output", "o", "", "with --dry-run: yaml prints the objects")
	flags.BoolVar(&f.diff, "diff", false, "show what would change, and change nothing")
	flags.BoolVar(&f.force, "force-conflicts", false, "take over fields and objects that belong to others")
	flags.StringVar(&f.wait, "wait", waitDone, "how long to wait: done, ready or false")
	flags.DurationVar(&f.timeout, "timeout", 15*time.Minute, "how long all pods may take to become ready")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "diff")
	return cmd
}

// Where a job runs.
const (
	onKubernetes = "kubernetes"
	onLocal      = "local"
)

// errChanges: there is a difference.
var errChanges = errors.New("the cluster differs from the job")

// exitTrouble is the exit code of a diff that could not be made.
const exitTrouble = 2

func (f *launchFlags) check() error {
	in := func(flag, value string, allowed ...string) error {
		for _, w := range allowed {
			if value == w {
				return nil
			}
		}
		return inputError{fmt.Errorf("--%s %s: want %s", flag, value, strings.Join(allowed, " or "))}
	}
	err := errors.Join(
		in("on", f.on, onKubernetes, onLocal),
		in("wait", f.wait, waitDone, waitReady, waitNot),
		in("dry-run", f.dryRun, "", "client", "server"),
		in("output", f.output, "", "yaml"))
	switch {
	case err != nil:
		return inputError{err}
	case f.output != "" && f.dryRun == "":
		return inputError{errors.New("-o yaml goes with --dry-run")}
	case f.timeout <= 0:
		return inputError{fmt.Errorf("--timeout %s: want more than 0", f.timeout)}
	}
	return nil
}

// launchLocal is fathom run.
func (a *app) launchLocal(ctx context.Context, j *job.Job) error {
	if err := checkCPU(); err != nil {
		return err
	}
	dir, err := makeWorkdir("")
	if err != nil {
		return err
	}
	if err := prepareRun(j, dir); err != nil {
		return err
	}
	return a.run(ctx, j, dir, "", &runFlags{output: outputText})
}

// launch brings the job into the cluster and waits as long as was asked.
func (a *app) launch(ctx context.Context, j *job.Job, f *launchFlags) error {
	if len(j.Spec.Train.Seeds) > 0 {
		return inputError{errors.New("a launched cluster trains one job: name one seed (train.seed), or hand the seeds to it with fathom submit")}
	}
	if f.dryRun == "client" {
		f.o.Namespace = f.kube.target.Namespace
		objects, err := f.render(j)
		if err != nil {
			return err
		}
		if f.output == "yaml" {
			return a.printObjects(objects)
		}
		for _, o := range objects {
			fmt.Fprintf(a.out, "%s rendered (client dry run)\n", o.Name())
		}
		return nil
	}
	// What is wrong with the job or the flags is told before a cluster is asked.
	if _, err := f.render(j); err != nil {
		return err
	}
	c, err := f.kube.connect(ctx)
	if err != nil {
		return err
	}
	return kubeError(a.launchOn(ctx, c, j, f))
}

func (a *app) launchOn(ctx context.Context, c *launch.Cluster, j *job.Job, f *launchFlags) error {
	name := j.Metadata.Name
	f.o.Namespace = c.Namespace()
	var err error
	if f.o.Monitor, err = c.Has(ctx, monitorVersion, "PodMonitor"); err != nil {
		return err
	}
	objects, err := f.render(j)
	if err != nil {
		return err
	}
	changes := !f.diff && f.dryRun == ""
	if err := c.Preflight(ctx, objects, f.o.Issuer == "", changes && f.wait == waitDone); err != nil {
		return err
	}
	if err := a.checkChange(ctx, c, j, f.o.ServersByPool(j)); err != nil {
		return err
	}
	certificates := &launch.SecretsPlan{}
	if f.o.Issuer == "" {
		if certificates, err = c.PlanSecrets(ctx, name, manifest.Secrets(name, f.o)); err != nil {
			return err
		}
	}
	plan, err := c.Plan(ctx, name, objects, f.force)
	switch {
	case err != nil:
		return err
	case f.diff:
		return a.printDiff(plan, certificates)
	case !changes:
		return a.printPlan(plan, certificates, f.output)
	}
	if err := c.MakeSecrets(ctx, certificates); err != nil {
		return err
	}
	for _, s := range certificates.Make {
		fmt.Fprintf(a.out, "secret/%s made\n", s)
	}
	if err := c.Apply(ctx, plan, func(ch launch.Change) { a.printChange(ch, "") }); err != nil {
		return err
	}
	if f.wait == waitNot {
		return nil
	}
	return a.await(ctx, c, j, f)
}

func (a *app) printChange(ch launch.Change, how string) {
	line := ch.Object + " " + string(ch.Action) + how
	if ch.Note != "" {
		line += ": " + ch.Note
	}
	fmt.Fprintln(a.out, line)
}

// printPlan tells what a dry run found.
func (a *app) printPlan(p *launch.Plan, certificates *launch.SecretsPlan, format string) error {
	if format == "yaml" {
		var all []manifest.Object
		for _, ch := range p.Changes {
			if ch.After != nil {
				all = append(all, ch.After)
			}
		}
		return a.printObjects(all)
	}
	for _, s := range certificates.Make {
		fmt.Fprintf(a.out, "secret/%s made (server dry run)\n", s)
	}
	for _, ch := range p.Changes {
		a.printChange(ch, " (server dry run)")
	}
	return nil
}

func (a *app) printDiff(p *launch.Plan, certificates *launch.SecretsPlan) error {
	text, err := p.Diff()
	if err != nil {
		return err
	}
	for _, s := range certificates.Make {
		fmt.Fprintf(a.out, "# secret/%s made\n", s)
	}
	fmt.Fprint(a.out, text)
	if p.Changed() || len(certificates.Make) > 0 {
		return errChanges
	}
	return nil
}
