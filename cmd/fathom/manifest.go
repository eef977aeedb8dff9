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

func (a *app) newManifest() *cobra.Command {
	var (
		o              manifest.Options
		sets           []string
		rows           int64
		server, worker int64
		secretsOnly    bool
	)
	cmd := &cobra.Command{
		Use:   "manifest JOB.yaml --image IMAGE",
		Short: "Print the Kubernetes objects that run a job's cluster",
		Long: `Print the Kubernetes objects that run a job's cluster.

  fathom manifest job.yaml --image registry.example/fathom:v1 --namespace ml | kubectl apply --server-side -f -

The same job and flags print the same text. The certificates are expected in
secrets, which --secrets lists, or are asked of a cert-manager issuer
(--issuer). The coordinator submits the job; the workers end with it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			j, err := a.loadJob(args[0], sets)
			if err != nil {
				return err
			}
			if secretsOnly {
				return a.printSecrets(j, o)
			}
			if o.ServerMemory = server * gib; server == 0 {
				if o.ServerMemory, err = serverMemory(j, rows); err != nil {
					return err
				}
			}
			o.WorkerMemory = worker * gib
			objects, err := manifest.Render(j, o)
			if err != nil {
				return inputError{err}
			}
			text, err := manifest.YAML(objects)
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	}
	addSets(cmd, &sets)
	flags := cmd.Flags()
	flags.StringVar(&o.Image, "image", "", "image of all containers, with a tag or digest")
	flags.StringVarP(&o.Namespace, "namespace", "n", "default", "namespace of all objects")
	flags.StringVar(&o.StorageClass, "storage-class", "", "storage class of the volumes (default the cluster's)")
	flags.StringVar(&o.ServerStorage, "server-storage", "20Gi", "size of a server's volume: its logs and snapshots")
	flags.StringVar(&o.EtcdStorage, "etcd-storage", "2Gi", "size of an etcd member's volume")
	flags.StringVar(&o.DataClaim, "data-claim", "", "volume claim with the data, mounted at the job's data.root")
	flags.StringSliceVar(&o.Etcd, "etcd", nil, "https URLs of an etcd that exists (default three members of its own)")
	flags.StringVar(&o.EtcdSecret, "etcd-secret", "", "secret of the credentials towards that etcd")
	flags.IntVar(&o.Coordinators, "coordinators", 2, "coordinators that stand for election")
	flags.StringVar(&o.Issuer, "issuer", "", "cert-manager issuer in the namespace that signs the certificates")
	flags.BoolVar(&o.Standing, "standing", false, "keep the cluster for further jobs: workers go with a job and come back with the next")
	flags.StringVar(&o.Queue, "queue", "", "Kueue queue of the workers")
	flags.BoolVar(&o.Monitor, "pod-monitor", false, "add a PodMonitor, for the Prometheus operator")
	flags.Int64Var(&rows, "rows", 0, "rows the embedding table will have, to plan the servers' memory")
	flags.Int64Var(&server, "server-memory", 0, "GiB of a server (default what --rows or the generated data need, and a fifth more)")
	flags.Int64Var(&worker, "worker-memory", defaultWorkerMem, "GiB of a worker")
	flags.IntVar(&o.ServerCPU, "server-cpu", 2000, "thousandths of a processor requested for a server")
	flags.IntVar(&o.WorkerCPU, "worker-cpu", 2000, "thousandths of a processor requested for a worker")
	flags.BoolVar(&secretsOnly, "secrets", false, "list the secrets that must exist and how to make them, instead of the objects")
	return cmd
}

// serverMemory plans the memory of a server: what the rows need and a fifth
// more, in whole GiB.
func serverMemory(j *job.Job, rows int64) (int64, error) {
	count, known, err := j.RowsMax(rows)
	if err != nil {
		return 0, err
	}
	if !known && rows <= 0 {
		return 0, inputError{errors.New("how much memory do the servers need? Give --rows (fathom data inspect counts them) or --server-memory")}
	}
	m, err := j.MemoryPerServer(count)
	if err != nil {
		return 0, err
	}
	return (m.Total*6/5 + gib - 1) / gib * gib, nil
}

// printSecrets says which secrets the objects need.
func (a *app) printSecrets(j *job.Job, o manifest.Options) error {
	fmt.Fprintf(a.out, "fathom certs create --ca ca --cluster %s\n", j.Metadata.Name)
	for _, s := range manifest.Secrets(j.Metadata.Name, o) {
		fmt.Fprintf(a.out, "fathom certs issue %s %s --ca ca --out %s", s.Role, s.Identity, s.Name)
		for _, h := range s.Hosts {
			fmt.Fprintf(a.out, " --host '%s'", h)
		}
		fmt.Fprintf(a.out, "\nkubectl create secret generic %s -n %s --from-file=%s\n", s.Name, o.Namespace, s.Name)
	}
	return nil
}
