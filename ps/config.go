package ps

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/replica"
)

// Config describes one server. The zero value of everything after
// Coordinators is the documented default.
type Config struct {
	// Node is the server's name, stable over restarts.
	Node string
	// Listen is the address of gRPC and raft ("host:port").
	Listen string
	// DataDir holds the logs and snapshots; one process at a time may use it.
	DataDir string
	// Coordinators are the coordinators' addresses.
	Coordinators []string

	// Identity secures all connections; nil: plain text, for tests and loopback.
	Identity *identity.Source
	// Advertise is the address others dial; default: the one listened on.
	Advertise string
	// Pool is of which servers a shard's replicas are kept together (default the
	// pool without a name).
	Pool string
	// MetricsAddress is reported to the coordinator, not listened on.
	MetricsAddress string
	// Logger gets what matters; default: nothing is logged.
	Logger *slog.Logger
	// Registerer gets the metrics; default: none.
	Registerer prometheus.Registerer

	// Heartbeat of the raft groups (default 500 ms); see replica.Config.
	Heartbeat time.Duration
	// SnapshotBytes and DiskTimeout: see replica.Config.
	SnapshotBytes int64
	DiskTimeout   time.Duration
	// PullWait bounds how long a pull waits for its version, PushWait how long a
	// push waits for its commit (default 10 s each).
	PullWait, PushWait time.Duration
	// InFlightBytes bounds the bodies of the pulls being answered, and those of the
	// pushes (default 512 MiB each); further pulls wait, further pushes are refused
	// and sent again.
	InFlightBytes int64
	// MemoryLimit bounds the bytes of rows and tensors, with what a snapshot
	// copies (default no limit; see DefaultMemoryLimit). A push that would pass it
	// is refused for good.
	MemoryLimit uint64
	// DeleteAfter is how long an order must have left out a group before its data
	// is deleted (default 10 s).
	DeleteAfter time.Duration
	// Listener is used instead of Listen, Dial instead of TCP to reach the raft
	// groups of other servers; DialOptions are added to those of the session.
	Listener    net.Listener
	Dial        replica.Dialer
	DialOptions []grpc.DialOption
	// Tune may change the configuration of a replica before it is opened.
	Tune func(*replica.Config)
	// RetryAfter is the pause before a group that failed is opened again (default
	// 5 s); one with damaged data is not.
	RetryAfter time.Duration
}

func (c Config) withDefaults() Config {
	setDefault(&c.PullWait, 10*time.Second)
	setDefault(&c.PushWait, 10*time.Second)
	setDefault(&c.InFlightBytes, 512<<20)
	setDefault(&c.DeleteAfter, 10*time.Second)
	setDefault(&c.RetryAfter, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// dialOptions are those of the connections to the coordinators.
func (c Config) dialOptions() []grpc.DialOption {
	secure := grpc.WithTransportCredentials(c.Identity.Dialer(identity.Coordinator))
	return append([]grpc.DialOption{secure}, c.DialOptions...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Node == "" {
		errs = append(errs, errors.New("the node has no name"))
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("the data directory is not named"))
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil && c.Listener == nil {
		errs = append(errs, fmt.Errorf("address to listen on: %w", err))
	}
	if c.Advertise != "" {
		if _, _, err := net.SplitHostPort(c.Advertise); err != nil {
			errs = append(errs, fmt.Errorf("address told to others: %w", err))
		}
	}
	if len(c.Coordinators) == 0 {
		errs = append(errs, errors.New("no coordinator is named"))
	}
	return errors.Join(errs...)
}
