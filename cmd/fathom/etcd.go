package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto/identity"
)

func (a *app) newEtcd() *cobra.Command {
	var (
		f   processFlags
		cfg store.EmbeddedConfig
	)
	cmd := &cobra.Command{
		Use:   "etcd",
		Short: "Run an etcd server, the store of the coordinators",
		Long: `Run an etcd server, the store of the coordinators: a single one for a local
cluster, or with --initial-cluster one of several members.

An etcd that exists already can be used instead: give its client URLs to
fathom coordinator --etcd.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runProcess(cmd.Context(), identity.Etcd, &f, []string{cfg.ClientURL, cfg.PeerURL}, func(p *process) (component, []string, error) {
				cfg.Name = f.name
				if p.identity != nil {
					cfg.CredentialsDir = p.identity.Dir()
				}
				e, err := store.StartEmbedded(cfg)
				if err != nil {
					return nil, nil, err
				}
				return etcdServer{e}, []string{"client", e.ClientURL()}, nil
			})
		},
	}
	f.add(cmd, "server")
	cmd.Flags().StringVar(&cfg.DataDir, "data-dir", "", "directory of the server's data")
	cmd.Flags().StringVar(&cfg.ClientURL, "client-url", "https://127.0.0.1:2379", "URL to serve clients on")
	cmd.Flags().StringVar(&cfg.PeerURL, "peer-url", "https://127.0.0.1:2380", "URL to serve peers on")
	cmd.Flags().StringVar(&cfg.AdvertiseClientURL, "advertise-client-url", "", "URL told to clients (default the one served on)")
	cmd.Flags().StringVar(&cfg.AdvertisePeerURL, "advertise-peer-url", "", "URL told to peers (default the one served on)")
	cmd.Flags().StringVar(&cfg.InitialCluster, "initial-cluster", "", "all members of a new cluster, as NAME=PEERURL,... (default this one alone)")
	mustRequire(cmd, "data-dir")
	return cmd
}

// etcdServer is an embedded etcd server as a component.
type etcdServer struct{ *store.Embedded }

// Run waits until ctx ends or the server fails, and stops it.
func (e etcdServer) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return e.Close()
	case err := <-e.Err():
		return errors.Join(fmt.Errorf("etcd server: %w", err), e.Close())
	}
}
