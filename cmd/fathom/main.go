package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/export"
)

func main() {
	cobra.EnableCommandSorting = false // the order of newRoot is that of use
	interrupts, stop := watchInterrupts()
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		interrupts:    interrupts,
		dial:          dialControl,
		startCluster:  startLocal,
		exportServers: exportServers,
		now:           time.Now,
		plugin:        isPlugin(os.Args[0]),
	}
	code := a.execute(os.Args[1:])
	stop()
	os.Exit(code)
}

// app is what all commands share; tests replace its parts.
type app struct {
	in         io.Reader
	out, err   io.Writer
	interrupts *interrupts
	// dial connects to coordinators; a nil identity means plain text.
	dial func(addrs []string, self *identity.Source, options ...grpc.DialOption) (control, error)
	// startCluster starts the processes of a job on this machine, with their
	// files in dir; restarted is told whenever one died and was started again.
	startCluster func(ctx context.Context, j *job.Job, dir string, o clusterOptions, restarted func(process string, times int)) (cluster, error)
	// exportServers writes the model of a job that is done to a directory.
	exportServers func(ctx context.Context, c control, self *identity.Source, s *proto.JobStatus, dir string) (*export.Manifest, error)
	now           func() time.Time
	// plugin: called as kubectl fathom, so that Kubernetes is meant.
	plugin bool
}

// execute runs one command line and returns the process's exit code.
func (a *app) execute(args []string) int {
	root, started := a.newRoot()
	root.SetArgs(args)
	ctx := a.interrupts.ctx
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
	case !*started:
		err = usageError{err, cmd.UseLine()} // nothing ran: cobra refused the command line
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || rpcStatus(err).Code() == codes.Canceled):
		err = errInterrupted
	}
	report(a.err, err)
	return exitCode(err)
}

// newRoot builds the command tree. started tells, after execution, whether a
// command began its work, that is whether the command line was accepted.
func (a *app) newRoot() (root *cobra.Command, started *bool) {
	root = &cobra.Command{
		Use:   "fathom",
		Short: "Train CTR models on replicated parameter servers",
		Long: `fathom trains click-through-rate models on a cluster of replicated parameter
servers. The trained model is a pure function of the job, the data and the
version of fathom: the same bits whatever the number of processes and whatever
is killed on the way.

Begin with: fathom run deploy/jobs/quickstart.yaml`,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if a.plugin {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fathom"}
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	addGroup(root, "use", "Train:", a.newRun(), a.newChaos(), a.newJob(), a.newData(), a.newSearch(), a.newPredict())
	addGroup(root, "kubernetes", "On Kubernetes:", a.newLaunch(), a.newScale(), a.newSuspend(), a.newResume(), a.newRestart(), a.newEvents(), a.newPortForward(), a.newDelete(), a.newManifest())
	addGroup(root, "control", "Control a running cluster:",
		a.newSubmit(), a.newList(), a.newStatus(), a.newWatch(), a.newLogs(), a.newCancel(), a.newCheckpoint(), a.newExport(), a.newHash(), a.newDiff(), a.newNodes(), a.newNode())
	addGroup(root, "process", "Processes of a cluster:", a.newEtcd(), a.newCoordinator(), a.newPS(), a.newWorker(), a.newCerts())
	root.AddCommand(a.newBench(), a.newVersion())

	started = new(bool)
	markStarted(root, started)
	return root, started
}

func addGroup(root *cobra.Command, id, title string, cmds ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: id, Title: title})
	for _, c := range cmds {
		c.GroupID = id
		root.AddCommand(c)
	}
}

// markStarted wraps every command's work so that it notes that it began.
func markStarted(c *cobra.Command, started *bool) {
	if work := c.RunE; work != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return work(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		markStarted(sub, started)
	}
}
