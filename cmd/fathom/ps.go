package main

import (
	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps"
)

func (a *app) newPS() *cobra.Command {
	var (
		f      processFlags
		cfg    ps.Config
		memory memoryLimit
	)
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "Run a parameter server: it holds replicas of shards",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkCPU(); err != nil {
				return err
			}
			return a.runProcess(cmd.Context(), identity.PS, &f, []string{cfg.Listen, cfg.Advertise}, func(p *process) (component, []string, error) {
				cfg.Node, cfg.Logger, cfg.Registerer = f.name, p.log, p.endpoint.registry
				cfg.Identity = p.identity
				cfg.MemoryLimit = memory.limit()
				cfg.MetricsAddress = p.endpoint.address()
				s, err := ps.New(cfg)
				if err != nil {
					return nil, nil, err
				}
				return s, []string{"listen", s.Addr()}, nil
			})
		},
	}
	f.add(cmd, "parameter server")
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:7071", "address of gRPC and raft to listen on")
	cmd.Flags().StringVar(&cfg.Advertise, "advertise", "", "address told to others (default the one listened on)")
	cmd.Flags().StringVar(&cfg.DataDir, "data-dir", "", "directory of the raft logs and snapshots")
	cmd.Flags().StringSliceVar(&cfg.Coordinators, "coordinator", nil, "addresses of the coordinators")
	cmd.Flags().StringVar(&cfg.Pool, "pool", "", "pool of servers it is of: all replicas of a shard are in one pool")
	cmd.Flags().Var(&memory, "memory-limit", "most memory for rows and their snapshots: bytes, a share such as 40%, or none (default 80% of the machine's or the container's)")
	mustRequire(cmd, "data-dir", "coordinator")
	return cmd
}
