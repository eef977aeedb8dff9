package ps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/frame"
	"github.com/fathom-train/fathom/ps/replica"
)

// stopTimeout bounds how long Run waits for requests under way when it ends.
const stopTimeout = 2 * time.Second

// membership is what the server needs of its coordinator session.
type membership interface {
	Run(ctx context.Context, report func() *proto.NodeReport, obey func(*proto.NodeOrder)) error
	Poke()
}

// Server is one parameter server. See the package comment.
type Server struct {
	cfg         Config
	metrics     *metrics
	replicas    *replica.Metrics
	unlock      func() error
	mux         *replica.Mux
	grpc        *grpc.Server
	session     membership
	incarnation uint64

	// pullBytes admits pulls, pushBytes pushes.
	pullBytes, pushBytes *semaphore.Weighted
	// fatal takes the first reason to end the process.
	fatal chan error
	// memory admits pushes, snapshotting the snapshots.
	memory       memory
	snapshotting *semaphore.Weighted
	// wake tells the host loop to look again; capacity 1.
	wake chan struct{}

	// mu guards what follows.
	mu     sync.RWMutex
	order  *proto.NodeOrder // newest; nil before the first
	obeyed uint64           // revision
	groups map[groupKey]*hosted
	// reported is when the session last asked for a report: it stands then.
	reported time.Time
}

// New claims the data directory and the port.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("parameter server: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, groupsFolder), 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	var mux *replica.Mux
	if cfg.Listener != nil {
		mux = replica.NewMux(cfg.Listener, cfg.Dial, cfg.Identity)
	} else if mux, err = replica.ListenMux(cfg.Listen, cfg.Identity); err != nil {
		return nil, errors.Join(err, unlock())
	}
	if cfg.Advertise == "" {
		cfg.Advertise = mux.Addr()
	}
	s := &Server{
		cfg: cfg, mux: mux, unlock: unlock,
		replicas:    replica.NewMetrics(cfg.Registerer),
		session:     client.NewSession(cfg.Coordinators, cfg.Logger, cfg.dialOptions()...),
		incarnation: uint64(time.Now().UnixNano()),
		pullBytes:   semaphore.NewWeighted(cfg.InFlightBytes),
		pushBytes:   semaphore.NewWeighted(cfg.InFlightBytes),
		fatal:       make(chan error, 1),
		memory:      memory{limit: cfg.MemoryLimit}, snapshotting: semaphore.NewWeighted(1),
		wake:   make(chan struct{}, 1),
		groups: map[groupKey]*hosted{},
	}
	s.metrics = newMetrics(cfg.Registerer, s)
	options := append(cfg.Identity.Interceptors(cfg.Logger),
		grpc.ForceServerCodecV2(frame.Codec{}),
		experimental.BufferPool(frame.Pool),
		grpc.ChainUnaryInterceptor(recycle),
		grpc.MaxRecvMsgSize(frame.MaxMessage),
		grpc.MaxSendMsgSize(frame.MaxMessage),
		grpc.MaxConcurrentStreams(1024),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(identity.HandshakeTimeout),
		grpc.InitialWindowSize(16<<20),
		grpc.InitialConnWindowSize(32<<20),
		grpc.ReadBufferSize(512<<10),
		grpc.WriteBufferSize(512<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second,
			MaxConnectionIdle: identity.ConnectionIdle, MaxConnectionAge: identity.ConnectionAge, MaxConnectionAgeGrace: time.Minute}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	if cfg.Identity != nil {
		options = append(options, grpc.Creds(identity.Handshaken(replica.Unwrap)))
	}
	s.grpc = grpc.NewServer(options...)
	proto.RegisterParameterServerServer(s.grpc, &service{server: s})
	return s, nil
}

// Addr returns the address others reach the server at.
func (s *Server) Addr() string { return s.cfg.Advertise }

// Run serves until ctx ends, then returns nil, or until the process has to
// end: a disk that hangs, a listener that broke. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	work, stop := errgroup.WithContext(ctx)
	work.Go(func() error {
		if err := s.grpc.Serve(s.mux.GRPC()); err != nil && stop.Err() == nil {
			return fmt.Errorf("serve %s: %w", s.cfg.Listen, err)
		}
		return nil
	})
	work.Go(func() error {
		if err := s.session.Run(stop, s.report, s.obey); err != nil && stop.Err() == nil {
			return fmt.Errorf("coordinator session: %w", err)
		}
		return nil
	})
	work.Go(func() error { return s.host(stop) })
	work.Go(func() error {
		select {
		case err := <-s.fatal:
			return err
		case <-stop.Done():
			select {
			case err := <-s.fatal: // both at once
				return err
			default:
				return nil
			}
		}
	})
	work.Go(func() error {
		<-stop.Done()
		s.handOverAll()
		s.stopServing()
		return nil
	})
	err := work.Wait()
	if errors.Is(err, replica.ErrDiskStalled) {
		go s.shut() // it waits for the disk, the process must not
		return err
	}
	return errors.Join(err, s.shut())
}

// stopServing lets requests under way finish, for a while.
func (s *Server) stopServing() {
	done := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(done) }()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.grpc.Stop()
		<-done
	}
}

// shut closes the groups, the port and the directory.
func (s *Server) shut() error {
	s.mu.Lock()
	open := make([]*hosted, 0, len(s.groups))
	for key, h := range s.groups {
		open = append(open, h)
		delete(s.groups, key)
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	errs := make([]error, len(open))
	for i, h := range open {
		wg.Go(func() { errs[i] = h.close() })
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), s.mux.Close(), s.unlock())
}

// obey takes an order; the host loop carries it out.
func (s *Server) obey(order *proto.NodeOrder) {
	if err := belong(s.cfg.DataDir, order.GetCluster()); err != nil {
		s.die(err)
		return
	}
	s.mu.Lock()
	s.order = order
	s.mu.Unlock()
	s.rouse()
}

// rouse makes the host loop look at order and groups again.
func (s *Server) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// die ends Run with err.
func (s *Server) die(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}
