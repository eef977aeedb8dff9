// Package coordinator is the control plane: it elects one leader, takes jobs
// from the command line, places shards on parameter servers, hands lanes to
// workers, and drives every job through its phases. It keeps its state in
// package store, never talks to a server or worker by itself (they report and
// obey over their sessions), and never sees a parameter.
//
// See DESIGN.md for what is written when, and what each order means.
package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

const (
	// requestBytesMax bounds one message to the coordinator: a job's spec, a
	// block's scores, or the report of a server with many groups.
	requestBytesMax = 8 << 20
	// campaignPause is how long to wait after the store refused a candidacy or
	// could not be read.
	campaignPause = 500 * time.Millisecond
	// leaderTimeout bounds looking up who leads.
	leaderTimeout = time.Second
	// leaderCache is how long that answer is used again.
	leaderCache = 200 * time.Millisecond
	// streamsMax bounds the calls of one connection that are under way.
	streamsMax = 128
	// stopTimeout bounds the orderly end of requests under way.
	stopTimeout = 3 * time.Second
)

// Config configures one coordinator process.
type Config struct {
	Node      string   // name, stable over restarts
	Listen    string   // address the gRPC services listen on
	Advertise string   // address told to others; default: the one listened on
	Etcd      []string // client URLs of the store
	// Store is used instead of Etcd, in tests; the service does not close it.
	Store   store.Store
	Cluster string // prefix of all keys in the store; default "fathom"
	// Identity secures all connections; nil: plain text, for tests and loopback.
	Identity *identity.Source
	// EtcdCredentials are used towards etcd; nil: those of Identity, or plain text.
	EtcdCredentials credentials.TransportCredentials
	// Submit is a job, as resolved JSON, that a new leader submits unless one of
	// its name is known, in whatever phase; nil: none.
	Submit     []byte
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// ReplaceAfter is how long a server may be gone before its replicas are made
	// anew on others (default one minute).
	ReplaceAfter time.Duration
	// Listener is used instead of Listen.
	Listener net.Listener
}

func (c Config) withDefaults() Config {
	if c.Cluster == "" {
		c.Cluster = "fathom"
	}
	if c.ReplaceAfter == 0 {
		c.ReplaceAfter = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// etcdCredentials are those of the connections to the store.
func (c Config) etcdCredentials() credentials.TransportCredentials {
	if c.EtcdCredentials != nil {
		return c.EtcdCredentials
	}
	return c.Identity.Dialer(identity.Etcd)
}

// Validate reports all faults.
func (c Config) Validate() error {
	var faults []error
	if c.Node == "" {
		faults = append(faults, errors.New("node: a coordinator needs a name"))
	}
	if c.Listen == "" && c.Listener == nil {
		faults = append(faults, errors.New("listen: an address is needed"))
	}
	if len(c.Etcd) == 0 && c.Store == nil {
		faults = append(faults, errors.New("etcd: at least one URL is needed"))
	}
	return errors.Join(faults...)
}

// Service is one coordinator. Several of one cluster stand for election; the
// one that leads serves, the others name it.
type Service struct {
	keys    keys
	self    store.Candidate
	log     *slog.Logger
	metrics *metrics
	store   store.Store
	initial []byte // Config.Submit
	// identity: see Config.
	identity *identity.Source
	owned    bool // the store is closed by Run
	// replaceAfter: see Config.
	replaceAfter time.Duration
	listener     net.Listener
	server       *grpc.Server
	// receivers are the goroutines that read Join streams.
	receivers sync.WaitGroup
	// led is the state while this coordinator leads, else nil.
	led atomic.Pointer[leader]

	// mu guards the cached leader.
	mu       sync.Mutex
	known    string
	lookedUp time.Time
}

// New opens the listener and the store; Run serves.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure coordinator: %w", err)
	}
	cfg = cfg.withDefaults()
	s := &Service{keys: keys{cfg.Cluster}, identity: cfg.Identity, log: cfg.Logger, initial: cfg.Submit, store: cfg.Store, listener: cfg.Listener, replaceAfter: cfg.ReplaceAfter}
	var err error
	if s.listener == nil {
		if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	s.listener = cfg.Identity.Bound(s.listener, identity.ConnectionsMax, identity.AddressConnectionsMax)
	if s.store == nil {
		if s.store, err = store.OpenEtcd(cfg.Etcd, cfg.etcdCredentials()); err != nil {
			s.listener.Close()
			return nil, err
		}
		s.owned = true
	}
	s.self = store.Candidate{Node: cfg.Node, Address: cfg.Advertise}
	if s.self.Address == "" {
		s.self.Address = s.Addr()
	}
	s.metrics = newMetrics(cfg.Registerer)
	s.server = grpc.NewServer(append(cfg.Identity.Interceptors(cfg.Logger),
		grpc.Creds(cfg.Identity.Listener()),
		grpc.MaxConcurrentStreams(streamsMax),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(identity.HandshakeTimeout),
		grpc.MaxRecvMsgSize(requestBytesMax), grpc.MaxSendMsgSize(client.MessageBytesMax),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 3 * time.Second,
			MaxConnectionIdle: identity.ConnectionIdle, MaxConnectionAge: identity.ConnectionAge, MaxConnectionAgeGrace: time.Minute}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)...)
	proto.RegisterControlServer(s.server, &control{service: s})
	proto.RegisterMembershipServer(s.server, &membership{service: s})
	return s, nil
}

// Addr is the address listened on.
func (s *Service) Addr() string { return s.listener.Addr().String() }

// Leading tells whether this coordinator leads now.
func (s *Service) Leading() bool { return s.led.Load() != nil }

// Run stands for election and serves until ctx ends, then gives the
// leadership back and returns nil. It is called once.
func (s *Service) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.listener) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	campaigns := make(chan struct{})
	go func() {
		defer close(campaigns)
		for ctx.Err() == nil {
			s.campaign(ctx)
		}
	}()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
		cancel(err)
	}
	<-campaigns
	s.stop()
	if s.owned {
		err = errors.Join(err, s.store.Close())
	}
	return err
}

// stop ends the server; requests under way have stopTimeout.
func (s *Service) stop() {
	limit := time.AfterFunc(stopTimeout, s.server.Stop)
	s.server.GracefulStop()
	limit.Stop()
	s.receivers.Wait()
}

// campaign lives through one candidacy: it waits to lead, leads, and gives up.
func (s *Service) campaign(ctx context.Context) {
	rights, err := s.store.Campaign(ctx, s.keys.election(), s.self)
	if err != nil {
		s.pause(ctx, "cannot stand for election", err)
		return
	}
	// Resigning needs no living context: it is a courtesy to the next one.
	defer func() {
		if err := rights.Resign(context.WithoutCancel(ctx)); err != nil {
			s.log.Warn("leadership is left to expire", "error", err)
		}
	}()
	l, err := newLeader(ctx, s, rights)
	if err != nil {
		s.pause(ctx, "cannot take over", err)
		return
	}
	s.log.Info("coordinator leads", "node", s.self.Node, "term", rights.Term())
	s.metrics.leads.Set(1)
	s.led.Store(l)
	if s.initial != nil {
		s.receivers.Go(func() { s.submitInitial(ctx, l) })
	}
	err = l.lead(ctx)
	s.led.Store(nil)
	s.metrics.leads.Set(0)
	if ctx.Err() == nil {
		s.log.Warn("coordinator leads no more", "node", s.self.Node, "error", err)
	}
}

// submitInitial submits the job the coordinator was started with, once: a job
// that has ended is not run again.
func (s *Service) submitInitial(ctx context.Context, l *leader) {
	j, err := job.FromJSON(s.initial)
	digest, known := "", false
	if err == nil {
		digest, known = l.digestOf(j.Metadata.Name)
	}
	switch {
	case err != nil:
	case known && digest != j.Digest():
		s.log.Warn("the job the coordinator was started with is another than the one of its name that was submitted, which stays as it is: give it another name to train it", "job", j.Metadata.Name)
	case !known:
		_, err = (&control{service: s}).Submit(ctx, &proto.SubmitRequest{Spec: s.initial})
		s.identity.Acted(proto.Control_Submit_FullMethodName, j.Metadata.Name, "", "the job the coordinator was started with", err)
	}
	if err != nil && status.Code(err) != codes.AlreadyExists && ctx.Err() == nil {
		s.log.Error("the job the coordinator was started with is not submitted", "error", err)
	}
}

// digestOf is of the newest job of the name, if any was ever submitted.
func (l *leader) digestOf(name string) (digest string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.name == name {
			digest, known = e.plan.status.GetSpecDigest(), true
		}
	}
	return digest, known
}

func (s *Service) pause(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.Error(what, "error", err)
	t := time.NewTimer(campaignPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// leading returns the leader's state, or the refusal of a coordinator that
// does not lead.
func (s *Service) leading(ctx context.Context) (*leader, error) {
	if l := s.led.Load(); l != nil {
		return l, nil
	}
	return nil, s.refuse(ctx)
}

// refuse answers in place of the leader and names it in the trailer.
func (s *Service) refuse(ctx context.Context) error {
	addr := s.leaderAddress(ctx)
	if err := grpc.SetTrailer(ctx, metadata.Pairs(client.LeaderTrailer, addr)); err != nil {
		return status.Errorf(codes.Internal, "set trailer: %v", err)
	}
	if addr == "" {
		return status.Errorf(codes.Unavailable, "coordinator %s does not lead and knows no leader; is its store reachable?", s.self.Node)
	}
	return status.Errorf(codes.Unavailable, "coordinator %s does not lead, %s does", s.self.Node, addr)
}

// failure maps the error of a commit to the answer of its request.
func (s *Service) failure(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, store.ErrFenced):
		return s.refuse(ctx) // certainly not written
	case isStoreError(err):
		return status.Error(codes.Unavailable, err.Error())
	}
	return err
}

// leaderAddress is where the leader serves, or "" when nobody else leads.
func (s *Service) leaderAddress(ctx context.Context) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.lookedUp) < leaderCache {
		return s.known
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	c, err := s.store.Leader(ctx, s.keys.election())
	s.known, s.lookedUp = "", time.Now()
	if err == nil && c.Node != s.self.Node {
		s.known = c.Address
	}
	return s.known
}
