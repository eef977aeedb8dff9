// Package coordinator is the control plane: it elects one leader, takes jobs
// from the command line, places shards on parameter servers, hands lanes to
// workers, and drives every job through its phases.
package coordinator

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Config configures one coordinator process.
type Config struct {
	Node       string   // name, stable over restarts
	Listen     string   // address the gRPC services listen on
	Advertise  string   // address told to others; default: the one listened on
	Etcd       []string // client URLs of the store
	Cluster    string   // prefix of all keys in the store; default "fathom"
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Service is one coordinator.
type Service struct{}

// New opens the listener.
func New(cfg Config) (*Service, error) { return nil, errors.ErrUnsupported }

// Run serves until ctx ends.
func (s *Service) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Addr is the address listened on.
func (s *Service) Addr() string { return "" }
