package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fathom-train/fathom/coordinator"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/deploy/certs"
	"github.com/fathom-train/fathom/deploy/scale"
	"github.com/fathom-train/fathom/proto/identity"
)

func (a *app) newCoordinator() *cobra.Command {
	var (
		f        processFlags
		cfg      coordinator.Config
		embedded string
		etcdDir  string
		submit   string
		workers  string
	)
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Run a coordinator: it takes jobs, places shards and hands out work",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runProcess(cmd.Context(), identity.Coordinator, &f, append([]string{cfg.Listen, cfg.Advertise}, cfg.Etcd...), func(p *process) (component, []string, error) {
				cfg.Node, cfg.Logger, cfg.Registerer = f.name, p.log, p.endpoint.registry
				cfg.Identity = p.identity
				if submit != "" {
					j, err := a.loadJob(submit, nil)
					if err != nil {
						return nil, nil, err
					}
					cfg.Submit = j.JSON()
				}
				if err := secureStore(&cfg, etcdDir); err != nil {
					return nil, nil, err
				}
				var kube *scale.Kubernetes
				if workers != "" {
					var err error
					if kube, err = scale.InCluster(f.name, workers); err != nil {
						return nil, nil, inputError{err}
					}
				}
				etcd, err := embeddedStore(f.name, embedded, &cfg)
				if err != nil {
					return nil, nil, err
				}
				s, err := coordinator.New(cfg)
				if err != nil {
					if etcd != nil {
						err = errors.Join(err, etcd.Close())
					}
					return nil, nil, err
				}
				var scaler *scale.Scaler
				if kube != nil {
					scaler = scale.New(kube, demandOf(s), p.log, func(action, job, target, detail string) {
						p.identity.Acted(action, job, target, detail, nil)
					})
				}
				return coordinatorProcess{s, etcd, scaler}, []string{"listen", s.Addr()}, nil
			})
		},
	}
	f.add(cmd, "coordinator")
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:7070", "gRPC address to listen on")
	cmd.Flags().StringVar(&cfg.Advertise, "advertise", "", "gRPC address told to others (default the one listened on)")
	cmd.Flags().StringSliceVar(&cfg.Etcd, "etcd", nil, "client URLs of etcd")
	cmd.Flags().StringVar(&cfg.Cluster, "cluster", "", `prefix of all keys in etcd (default "fathom")`)
	cmd.Flags().StringVar(&submit, "submit", "", "job file to submit once there is a leader, unless its name is known already")
	cmd.Flags().StringVar(&etcdDir, "etcd-credentials", "", "directory of the credentials towards etcd (default those of --credentials)")
	cmd.Flags().StringVar(&workers, "workers-job", "", "in a pod: keep this Kubernetes Job of the workers as the jobs need it")
	cmd.Flags().DurationVar(&cfg.ReplaceAfter, "replace-after", time.Minute, "how long a parameter server may be gone before its replicas are made anew on others")
	cmd.Flags().StringVar(&embedded, "embedded-etcd", "", "run etcd inside this process with its data in this directory")
	cmd.MarkFlagsMutuallyExclusive("etcd", "embedded-etcd")
	cmd.MarkFlagsOneRequired("etcd", "embedded-etcd")
	return cmd
}

// secureStore settles how the coordinator talks to etcd.
func secureStore(cfg *coordinator.Config, dir string) (err error) {
	if dir != "" {
		if cfg.EtcdCredentials, err = identity.ExternalDialer(dir); err != nil {
			return inputError{err}
		}
	}
	if cfg.Identity == nil && dir == "" {
		return nil
	}
	for _, u := range cfg.Etcd {
		if !strings.HasPrefix(u, "https://") {
			return inputError{fmt.Errorf("--etcd %s: with credentials etcd must be reached by https", u)}
		}
	}
	return nil
}

// embeddedStore starts the etcd server inside the coordinator's process, when
// one is wanted, and points the coordinator to it.
func embeddedStore(name, dir string, cfg *coordinator.Config) (*store.Embedded, error) {
	if dir == "" {
		return nil, nil
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	etcd, scheme := store.EmbeddedConfig{Name: name, DataDir: dir}, "http"
	cfg.EtcdCredentials = insecure.NewCredentials()
	if cfg.Identity != nil {
		// An authority of its own: nobody else may talk to this etcd.
		scheme = "https"
		if etcd.CredentialsDir, cfg.EtcdCredentials, err = privateCredentials(filepath.Join(dir, "credentials"), name); err != nil {
			return nil, err
		}
	}
	etcd.ClientURL = fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[0])
	etcd.PeerURL = fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[1])
	e, err := store.StartEmbedded(etcd)
	if err != nil {
		return nil, err
	}
	cfg.Etcd = []string{e.ClientURL()}
	return e, nil
}

// privateCredentials makes certificates for an etcd server and its only client
// in dir. It returns the server's directory and the client's credentials.
func privateCredentials(dir, name string) (server string, client credentials.TransportCredentials, err error) {
	ca, err := certs.OpenOrCreate(dir, "embedded")
	if err != nil {
		return "", nil, err
	}
	server, own := filepath.Join(dir, "etcd"), filepath.Join(dir, "coordinator")
	err = errors.Join(
		ca.Issue(server, certs.Request{Role: identity.Etcd, Name: name, Hosts: []string{"127.0.0.1"}}),
		ca.Issue(own, certs.Request{Role: identity.Coordinator, Name: name}))
	if err != nil {
		return "", nil, err
	}
	client, err = identity.ExternalDialer(own)
	return server, client, err
}

// demandOf tells package scale what the coordinator wants.
func demandOf(s *coordinator.Service) func() (scale.Demand, bool) {
	return func() (scale.Demand, bool) {
		d, leads := s.Demand()
		seen := make(map[string]scale.Seen, len(d.Seen))
		for name, w := range d.Seen {
			seen[name] = scale.Seen(w)
		}
		return scale.Demand{Job: d.Job, Run: d.Run, Active: d.Active, Workers: d.Workers, Ended: d.Ended, Since: d.Since, Seen: seen}, leads
	}
}

// coordinatorProcess is a coordinator and, when it has them, its own store and
// what keeps the workers' Job.
type coordinatorProcess struct {
	*coordinator.Service
	etcd   *store.Embedded // nil: etcd is elsewhere
	scaler *scale.Scaler   // nil: others see to the workers
}

// Run runs all; the store stops after the coordinator, which still writes
// while it stops.
func (c coordinatorProcess) Run(ctx context.Context) error {
	if c.scaler != nil {
		scaling, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); c.scaler.Run(scaling) }()
		defer func() { stop(); <-done }()
	}
	if c.etcd == nil {
		return c.Service.Run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		select {
		case err := <-c.etcd.Err():
			failed <- fmt.Errorf("etcd server: %w", err)
			cancel()
		case <-ctx.Done():
			failed <- nil
		}
	}()
	err := c.Service.Run(ctx)
	cancel()
	return errors.Join(<-failed, err, c.etcd.Close())
}

// freePorts returns n different ports of the loopback that were free just now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all at the end, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
