package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator"
	"github.com/fathom-train/fathom/coordinator/store"
)

func (a *app) newCoordinator() *cobra.Command {
	var (
		f        processFlags
		cfg      coordinator.Config
		embedded string
	)
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Run a coordinator: it takes jobs, places shards and hands out work",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runProcess(cmd.Context(), "coordinator", &f, func(p *process) (component, []string, error) {
				cfg.Node, cfg.Logger, cfg.Registerer = f.name, p.log, p.endpoint.registry
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
				return coordinatorProcess{s, etcd}, []string{"listen", s.Addr()}, nil
			})
		},
	}
	f.add(cmd, "coordinator")
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:7070", "gRPC address to listen on")
	cmd.Flags().StringVar(&cfg.Advertise, "advertise", "", "gRPC address told to others (default the one listened on)")
	cmd.Flags().StringSliceVar(&cfg.Etcd, "etcd", nil, "client URLs of etcd")
	cmd.Flags().StringVar(&cfg.Cluster, "cluster", "", `prefix of all keys in etcd (default "fathom")`)
	cmd.Flags().StringVar(&embedded, "embedded-etcd", "", "run etcd inside this process with its data in this directory")
	cmd.MarkFlagsMutuallyExclusive("etcd", "embedded-etcd")
	cmd.MarkFlagsOneRequired("etcd", "embedded-etcd")
	return cmd
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
	e, err := store.StartEmbedded(store.EmbeddedConfig{
		Name:      name,
		DataDir:   dir,
		ClientURL: fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		PeerURL:   fmt.Sprintf("http://127.0.0.1:%d", ports[1]),
	})
	if err != nil {
		return nil, err
	}
	cfg.Etcd = []string{e.ClientURL()}
	return e, nil
}

// coordinatorProcess is a coordinator and, when it has one, its own store.
type coordinatorProcess struct {
	*coordinator.Service
	etcd *store.Embedded // nil: etcd is elsewhere
}

// Run runs both; the store stops after the coordinator, which still writes
// while it stops.
func (c coordinatorProcess) Run(ctx context.Context) error {
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
