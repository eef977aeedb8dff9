package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/worker"
)

func (a *app) newWorker() *cobra.Command {
	var (
		f   processFlags
		cfg worker.Config
	)
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a worker: it reads the data and computes the gradients",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkCPU(); err != nil {
				return err
			}
			return a.runProcess(cmd.Context(), identity.Worker, &f, nil, func(p *process) (component, []string, error) {
				if cfg.Threads <= 0 {
					cfg.Threads = runtime.GOMAXPROCS(0) // knows of a container's limit
				}
				cfg.Node, cfg.Logger, cfg.Registerer = f.name, p.log, p.endpoint.registry
				cfg.Identity = p.identity
				cfg.MetricsAddress = p.endpoint.address()
				w, err := worker.New(cfg)
				if err != nil {
					return nil, nil, err
				}
				return w, []string{"cpu", kernel.Path()}, nil
			})
		},
	}
	f.add(cmd, "worker")
	cmd.Flags().StringSliceVar(&cfg.Coordinators, "coordinator", nil, "addresses of the coordinators")
	cmd.Flags().IntVar(&cfg.Threads, "threads", 0, "processors to compute with (default all); the model does not depend on it")
	cmd.Flags().StringVar(&cfg.Until, "until", "", "end with the job of this name (default never)")
	mustRequire(cmd, "coordinator")
	return cmd
}

// checkCPU refuses an unknown FATHOM_CPU instead of computing on another path
// than the one asked for.
func checkCPU() error {
	if _, err := kernel.CPU(); err != nil {
		return inputError{err}
	}
	return nil
}
