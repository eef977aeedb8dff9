package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/manifest"
)

const (
	gib              = 1 << 30
	defaultWorkerMem = 4 // GiB
)

// manifestFlags say what the objects need besides the job.
type manifestFlags struct {
	o              manifest.Options
	rows           int64
	server, worker int64 // GiB
	pools          []string
}

func (f *manifestFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.o.Image, "image", "", "image of all containers, with a tag or digest")
	flags.StringVar(&f.o.StorageClass, "storage-class", "", "storage class of the volumes (default the cluster's)")
	flags.StringVar(&f.o.ServerStorage, "server-storage", "20Gi", "size of a server's volume: its logs and snapshots")
	flags.StringVar(&f.o.EtcdStorage, "etcd-storage", "2Gi", "size of an etcd member's volume")
	flags.StringVar(&f.o.DataClaim, "data-claim", "", "volume claim with the data, mounted at the job's data.root")
	flags.StringSliceVar(&f.o.Etcd, "etcd", nil, "https URLs of an etcd that exists (default three members of its own)")
	flags.StringVar(&f.o.EtcdSecret, "etcd-secret", "", "secret of the credentials towards that etcd")
	flags.IntVar(&f.o.Coordinators, "coordinators", 2, "coordinators that stand for election")
	flags.StringVar(&f.o.Issuer, "issuer", "", "cert-manager issuer that signs the certificates: NAME, ClusterIssuer/NAME or KIND.GROUP/NAME")
	flags.StringToStringVar(&f.o.Secrets, "secret", nil, "secret that exists for a role, such as ps=NAME (repeatable)")
	flags.BoolVar(&f.o.Standing, "standing", false, "keep the cluster for further jobs: workers go with a job and come back with the next")
	flags.StringVar(&f.o.Queue, "queue", "", "queue of the workers: Kueue's, or Volcano's with --scheduler volcano")
	flags.StringVar(&f.o.Scheduler, "scheduler", "", "scheduler of the workers' pods, such as volcano (default the cluster's)")
	flags.Int64Var(&f.rows, "rows", 0, "rows the embedding table will have, to plan the servers' memory")
	flags.Int64Var(&f.server, "server-memory", 0, "GiB of a server (default what --rows or the generated data need, and a fifth more)")
	flags.StringArrayVar(&f.pools, "pool", nil, "servers apart from the others, which are spec.cluster.ps less these (repeatable): "+poolUsage)
	flags.Int64Var(&f.worker, "worker-memory", defaultWorkerMem, "GiB of a worker")
	flags.IntVar(&f.o.ServerCPU, "server-cpu", 2000, "thousandths of a processor requested for a server")
	flags.IntVar(&f.o.WorkerCPU, "worker-cpu", 2000, "thousandths of a processor requested for a worker")
}

// render plans the memory and returns the objects.
func (f *manifestFlags) render(j *job.Job) ([]manifest.Object, error) {
	if err := f.planPools(j); err != nil {
		return nil, err
	}
	f.o.WorkerMemory = f.worker * gib
	objects, err := manifest.Render(j, f.o)
	if err != nil {
		return nil, inputError{err}
	}
	return objects, nil
}

func (a *app) newManifest() *cobra.Command {
	var (
		f           manifestFlags
		sets        []string
		secretsOnly bool
	)
	cmd := &cobra.Command{
		Use:   "manifest JOB.yaml --image IMAGE",
		Short: "Print the Kubernetes objects that run a job's cluster",
		Long: `Print the Kubernetes objects that run a job's cluster.

  fathom manifest job.yaml --image registry.example/fathom:v1 --namespace ml | kubectl apply --server-side -f -

The same job and flags print the same text. The certificates are expected in
secrets, which --secrets lists, or are asked of a cert-manager issuer
(--issuer). The coordinator submits the job; the workers end with it.
fathom launch applies the objects itself.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			j, err := a.loadJob(args[0], sets)
			if err != nil {
				return err
			}
			if secretsOnly {
				return a.printSecrets(j, f.o)
			}
			objects, err := f.render(j)
			if err != nil {
				return err
			}
			return a.printObjects(objects)
		},
	}
	addSets(cmd, &sets)
	f.add(cmd)
	cmd.Flags().StringVarP(&f.o.Namespace, "namespace", "n", "default", "namespace of all objects")
	cmd.Flags().BoolVar(&f.o.Monitor, "pod-monitor", false, "add a PodMonitor, for the Prometheus operator")
	cmd.Flags().BoolVar(&secretsOnly, "secrets", false, "list the secrets that must exist and how to make them, instead of the objects")
	return cmd
}

// printObjects writes the objects as YAML.
func (a *app) printObjects(objects []manifest.Object) error {
	text, err := manifest.YAML(objects)
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

// serverMemory plans the memory of each of some servers that have some of the
// shards: what the rows need and a fifth more, in whole GiB; or what is given by
// a flag, if the rows that are known fit in.
func serverMemory(j *job.Job, shards, servers int, rows, given int64, flag string) (int64, error) {
	count, known, err := j.RowsMax(rows)
	if err != nil {
		return 0, err
	}
	if !known && rows <= 0 {
		if given > 0 {
			return given, nil
		}
		return 0, inputError{errors.New("how much memory do the servers need? Give --rows (fathom data inspect counts them) or --server-memory")}
	}
	m, err := j.MemoryOfServers(count, shards, servers)
	if err != nil {
		return 0, err
	}
	if given > 0 && m.Total > given {
		return 0, inputError{fmt.Errorf("a server needs %s (%s of it rows), %s gives it %s: give more, or spread the shards over more servers (spec.cluster.ps)",
			byteSize(uint64(m.Total)), byteSize(uint64(m.Rows)), flag, byteSize(uint64(given)))}
	}
	if given > 0 {
		return given, nil
	}
	return (m.Total*6/5 + gib - 1) / gib * gib, nil
}

// printSecrets says which secrets the objects need.
func (a *app) printSecrets(j *job.Job, o manifest.Options) error {
	fmt.Fprintf(a.out, "fathom certs create --ca ca --cluster %s\n", j.Metadata.Name)
	for _, s := range manifest.Secrets(j.Metadata.Name, o) {
		if s.Given {
			fmt.Fprintf(a.out, "# secret %s exists: %s of cluster %s, for %v\n", s.Name, s.Role, j.Metadata.Name, s.Hosts)
			continue
		}
		fmt.Fprintf(a.out, "fathom certs issue %s %s --ca ca --out %s", s.Role, s.Identity, s.Name)
		for _, h := range s.Hosts {
			fmt.Fprintf(a.out, " --host '%s'", h)
		}
		fmt.Fprintf(a.out, "\nkubectl create secret generic %s -n %s --from-file=%s\n", s.Name, o.Namespace, s.Name)
	}
	return nil
}
