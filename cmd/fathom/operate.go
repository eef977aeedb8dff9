package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/launch"
	"github.com/fathom-train/fathom/proto"
)

// operation is a command about a launched job.
func (a *app) operation(use, short, long string, args cobra.PositionalArgs, do func(ctx context.Context, c *launch.Cluster, job string, args []string) error) *cobra.Command {
	var f clusterFlags
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, job, err := f.find(cmd.Context())
			if err != nil {
				return err
			}
			return kubeError(do(cmd.Context(), c, job, args))
		}}
	f.addJob(cmd)
	return cmd
}

func (a *app) newScale() *cobra.Command {
	return a.operation("scale workers=N", "Set the number of workers of a launched job",
		`Set the number of workers of a launched job. The model stays the same to the last
bit. A later launch keeps the number, unless it is told --force-conflicts.

For more servers set spec.cluster.ps and launch again; for fewer, drain one first
(fathom node drain).`, cobra.ExactArgs(1),
		func(ctx context.Context, c *launch.Cluster, job string, args []string) error {
			what, number, _ := strings.Cut(args[0], "=")
			n, err := strconv.Atoi(number)
			if what != "workers" || err != nil {
				return inputError{fmt.Errorf("%s: want workers=N", args[0])}
			}
			if err := c.Scale(ctx, job, n); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "job %s has %d workers\n", job, n)
			return err
		})
}

func (a *app) newSuspend() *cobra.Command {
	var without bool
	cmd := a.operation("suspend", "Take the workers of a launched job away; the servers keep what was trained",
		`Take the workers of a launched job away. The servers stay, and keep what was
trained on their volumes; fathom resume goes on from there, to the same model.

If the job says where checkpoints go (spec.checkpoint.dir), one is made first, so
that the job can go on elsewhere, too. --no-checkpoint leaves it out.`, cobra.NoArgs,
		func(ctx context.Context, c *launch.Cluster, job string, _ []string) error {
			if err := c.Suspendable(ctx, job); err != nil {
				return err
			}
			if !without {
				err := a.reach(ctx, c, job, func(control control) error { return a.checkpointBefore(ctx, control) })
				if err != nil {
					return fmt.Errorf("a checkpoint before the workers go (--no-checkpoint does without): %w", err)
				}
			}
			if err := c.Suspend(ctx, job); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.out, "job %s is suspended; fathom resume goes on\n", job)
			return err
		})
	cmd.Flags().BoolVar(&without, "no-checkpoint", false, "make no checkpoint first")
	return cmd
}

// checkpointBefore makes a checkpoint of the job that trains, if it has a place
// for them.
func (a *app) checkpointBefore(ctx context.Context, c control) error {
	all, err := c.List(ctx)
	if err != nil {
		return err
	}
	trains := slices.IndexFunc(all, func(s *proto.JobStatus) bool {
		return !client.Ended(s.GetPhase()) && s.GetPhase() != proto.Phase_PHASE_PENDING && s.GetPhase() != proto.Phase_PHASE_STARTING
	})
	if trains < 0 {
		return nil
	}
	s, err := c.Status(ctx, all[trains].GetJob())
	if err != nil {
		return err
	}
	j, err := job.FromJSON(s.GetSpec())
	if err != nil {
		return fmt.Errorf("job %s: %w", s.GetJob(), err)
	}
	if j.Spec.Checkpoint.Dir == "" {
		_, err := fmt.Fprintf(a.err, "no checkpoint: job %s has no spec.checkpoint.dir; what it trained stays on the servers' volumes\n", s.GetJob())
		return err
	}
	made, err := c.Checkpoint(ctx, s.GetJob())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "checkpoint %s\n", made.GetLocation())
	return err
}

func (a *app) newResume() *cobra.Command {
	return a.operation("resume", "Bring the workers of a suspended job back", "", cobra.NoArgs,
		func(ctx context.Context, c *launch.Cluster, job string, _ []string) error {
			if err := c.Resume(ctx, job); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.out, "job %s goes on\n", job)
			return err
		})
}

func (a *app) newRestart() *cobra.Command {
	var timeout time.Duration
	cmd := a.operation("restart ps|coordinator|etcd", "Restart the pods of a launched job one by one, while it trains",
		`Restart the pods of a launched job one by one, while it trains.

Before each and after each, all pods must be ready; for servers the coordinator
must also say that every shard has a leader, which takes a majority of its
replicas. The disruption budgets are kept.`, cobra.ExactArgs(1),
		func(ctx context.Context, c *launch.Cluster, job string, args []string) error {
			restart := func(sound func(context.Context) error) error {
				return c.Restart(ctx, job, args[0], timeout, sound, func(pod string) { fmt.Fprintf(a.out, "pod/%s restarted\n", pod) })
			}
			if args[0] != "ps" {
				return restart(func(context.Context) error { return nil })
			}
			return a.reach(ctx, c, job, func(control control) error {
				return restart(func(ctx context.Context) error { return shardsServe(ctx, control) })
			})
		})
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long one pod may take")
	return cmd
}

// shardsServe is an error while a server is missing or a shard has no leader.
func shardsServe(ctx context.Context, c control) error {
	newest, err := c.Status(ctx, "")
	if err != nil {
		return err
	}
	if client.Ended(newest.GetPhase()) {
		return nil // nothing trains that could be disturbed
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	for _, n := range nodes {
		alive[n.GetNode()] = n.GetAlive()
	}
	groups, err := c.Groups(ctx, "")
	if err != nil {
		return err
	}
	for _, s := range groups.GetShards() {
		if s.GetLeader() == "" || !alive[s.GetLeader()] {
			return fmt.Errorf("shard %d has no leader", s.GetShard())
		}
		for _, m := range s.GetMembers() {
			if !alive[m.GetNode()] {
				return fmt.Errorf("shard %d waits for %s", s.GetShard(), m.GetNode())
			}
		}
	}
	return nil
}

func (a *app) newEvents() *cobra.Command {
	o := outputText
	cmd := a.operation("events", "List what Kubernetes noted about a launched job", "", cobra.NoArgs,
		func(ctx context.Context, c *launch.Cluster, job string, _ []string) error {
			all, err := c.Events(ctx, job)
			if err != nil {
				return err
			}
			if o == outputJSON {
				return writeJSON(a.out, all)
			}
			if len(all) == 0 {
				_, err := fmt.Fprintf(a.out, "no events of job %s\n", job)
				return err
			}
			rows := [][]string{{"age", "type", "reason", "object", "message"}}
			for _, e := range all {
				message := strings.ReplaceAll(e.Message, "\n", " ")
				if e.Count > 1 {
					message += fmt.Sprintf(" (%d times)", e.Count)
				}
				rows = append(rows, []string{seconds(a.now().Sub(e.Time).Seconds()), e.Type, e.Reason, e.Object, message})
			}
			for _, l := range columns("rllll", rows) {
				fmt.Fprintln(a.out, l)
			}
			return nil
		})
	o.add(cmd)
	return cmd
}

func (a *app) newDelete() *cobra.Command {
	var (
		f          kubeFlags
		purge, yes bool
	)
	cmd := &cobra.Command{
		Use:   "delete JOB",
		Short: "Delete a launched job from the cluster",
		Long: `Delete a launched job from the cluster. Its volumes stay, so that launching it
again goes on where it was; --purge deletes them, too, and all that was trained
and not checkpointed or exported elsewhere is lost.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.connect(cmd.Context())
			if err != nil {
				return err
			}
			return kubeError(a.deleteJob(cmd.Context(), c, args[0], purge, yes))
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&purge, "purge", false, "delete the volumes with the servers' state, too")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) deleteJob(ctx context.Context, c *launch.Cluster, job string, purge, yes bool) error {
	d, err := c.PlanDelete(ctx, job, purge)
	if err != nil {
		return err
	}
	if len(d.Objects)+len(d.Volumes) == 0 {
		return inputError{fmt.Errorf("namespace %s has nothing of a job %s", c.Namespace(), job)}
	}
	if !yes {
		volumes := "its volumes stay"
		if purge {
			volumes = fmt.Sprintf("and %d volumes with all that was trained", len(d.Volumes))
		}
		fmt.Fprintf(a.err, "Delete %d objects of job %s in namespace %s at %s, %s?\nType the job's name to go on: ", len(d.Objects), job, c.Namespace(), c.Host(), volumes)
		answer, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if strings.TrimSpace(answer) != job {
			return inputError{errors.New("nothing was deleted (--yes does not ask)")}
		}
	}
	return c.Delete(ctx, d, func(object string) { fmt.Fprintf(a.out, "%s deleted\n", object) })
}

func (a *app) newPortForward() *cobra.Command {
	var (
		listen, credentials string
		port                int
	)
	cmd := a.operation("port-forward [POD]", "Let connections to this machine through to a pod of a launched job",
		`Let connections to this machine through to a pod of a launched job: to the
coordinator that leads, unless a pod is named, such as ps/0. --credentials writes
the admin's certificate there, for programs that need it; the coordinators' are
for the name localhost. The commands of fathom itself need no forwarding: --on
kubernetes.`, cobra.MaximumNArgs(1),
		func(ctx context.Context, c *launch.Cluster, job string, args []string) error {
			pod := job + "-" + strings.ReplaceAll(optional(args), "/", "-")
			if len(args) == 0 {
				err := a.reach(ctx, c, job, func(control control) (err error) {
					pod, err = leadingCoordinator(ctx, control)
					return err
				})
				if err != nil {
					return err
				}
			}
			if credentials != "" {
				if err := c.AdminCredentials(ctx, job, credentials); err != nil {
					return err
				}
			}
			host, _, err := net.SplitHostPort(listen)
			if err != nil {
				return inputError{fmt.Errorf("--listen: %w", err)}
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return inputError{fmt.Errorf("--listen: %w", err)}
			}
			// By the name that was given: the certificates are for names.
			here := net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
			fmt.Fprintf(a.out, "%s leads to port %d of pod %s until Ctrl-C\n", here, port, pod)
			return c.Forward(ctx, l, pod, port, func(err error) { fmt.Fprintf(a.err, "fathom: %v\n", err) })
		})
	cmd.Flags().StringVar(&listen, "listen", "localhost:7070", "address to listen at")
	cmd.Flags().IntVar(&port, "port", 7070, "port of the pod: 7070 takes calls, 9090 serves metrics")
	cmd.Flags().StringVar(&credentials, "credentials", "", "directory to write the admin's certificate to")
	return cmd
}

// leadingCoordinator is the pod of the coordinator that leads: others refer
// whoever asks to it by a name that is known in the cluster only.
func leadingCoordinator(ctx context.Context, c control) (string, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(nodes, func(n *proto.NodeStatus) bool { return n.GetRole() == "coordinator" })
	if i < 0 {
		return "", errors.New("no coordinator says that it leads")
	}
	return nodes[i].GetNode(), nil
}
