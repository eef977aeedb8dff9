package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/deploy/launch"
)

// kubeFlags say which Kubernetes cluster and namespace is meant, as kubectl's do.
type kubeFlags struct{ target launch.Target }

func (f *kubeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.target.Kubeconfig, "kubeconfig", "", "file that says how to reach the cluster (default $KUBECONFIG or ~/.kube/config)")
	flags.StringVar(&f.target.Context, "context", "", "context of that file (default its current one)")
	flags.StringVarP(&f.target.Namespace, "namespace", "n", "", "namespace (default the context's)")
}

// The exit codes of sysexits that only what talks to Kubernetes uses.
const (
	exitUnavailable = 69
	exitTempFail    = 75
)

// codedError ends the process with a code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// connect reaches the cluster.
func (f *kubeFlags) connect(ctx context.Context) (*launch.Cluster, error) {
	c, err := launch.Connect(ctx, f.target)
	return c, kubeError(err)
}

// kubeError gives an error of package launch the exit code it stands for.
func kubeError(err error) error {
	var failure *launch.Failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure) && failure.Input:
		return inputError{err}
	case errors.As(err, &failure) && failure.Timeout:
		return codedError{err, exitTempFail}
	case errors.Is(err, launch.ErrUnreachable):
		return codedError{err, exitUnavailable}
	case errors.Is(err, launch.ErrRefused), errors.Is(err, launch.ErrTarget):
		return inputError{err}
	}
	return err
}
