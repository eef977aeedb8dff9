package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fathom-train/fathom/proto/identity"
)

// layer is the raft.StreamLayer of one group. It knows every connection of the
// group and closes all of them with the group, which raft's transport does not.
type layer struct {
	*acceptor
	mux      *Mux
	name     string
	onHungUp func()

	// mu guards conns and shut.
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	shut  bool
}

// Accept returns the next connection of a peer.
func (l *layer) Accept() (net.Conn, error) {
	conn, err := l.acceptor.Accept()
	if err != nil {
		return nil, err
	}
	return l.track(conn)
}

// errUnknownReplica answers a dial to a replica that no order names any more.
var errUnknownReplica = errors.New("no order names this replica")

// Dial connects to a replica of the same group; its number stands behind the address.
func (l *layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	host, number, _ := strings.Cut(string(to), string(replicaMark))
	if host == "" {
		return nil, errUnknownReplica
	}
	name, _, _ := strings.Cut(l.name, string(replicaMark))
	if number != "" {
		name += string(replicaMark) + number
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := l.dial(ctx, host)
	if err != nil {
		return nil, err
	}
	hello := append([]byte{raftByte, byte(len(name))}, name...)
	if err = conn.SetWriteDeadline(time.Now().Add(timeout)); err == nil {
		_, err = conn.Write(hello)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greet %s: %w", to, err)
	}
	if err := conn.SetWriteDeadline(time.Time{}); err != nil {
		conn.Close()
		return nil, err
	}
	return l.track(conn)
}

// absent reports whether a replica is gone from its address for certain: nobody
// listens there, or who does closes the connection because he does not serve the
// replica, as a process that has just been started again.
func (l *layer) absent(at raft.ServerAddress, wait time.Duration) bool {
	conn, err := l.Dial(at, wait)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	defer conn.Close()
	// Not by way of tracked, which would report the end of this one, too.
	if t, ok := conn.(*tracked); ok {
		conn = t.Conn
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

// dial connects to a node, inside of TLS if this one has an identity.
func (l *layer) dial(ctx context.Context, to string) (net.Conn, error) {
	conn, err := l.mux.dial(ctx, to)
	if err != nil || l.mux.identity == nil {
		return conn, err
	}
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	secured, err := l.mux.identity.Connect(ctx, conn, host, identity.PS)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}

// Close unregisters the group and closes its connections.
func (l *layer) Close() error {
	l.mux.mu.Lock()
	if l.mux.groups[l.name] == l {
		delete(l.mux.groups, l.name)
	}
	l.mux.mu.Unlock()
	l.acceptor.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	for conn := range l.conns {
		conn.Close()
	}
	clear(l.conns)
	return nil
}

func (l *layer) track(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[conn] = struct{}{}
	t := &tracked{Conn: conn, layer: l}
	if l.mux.identity != nil {
		// It must not outlive the certificates it began with for long.
		t.age = time.AfterFunc(identity.ConnectionAge, func() { t.Close() })
	}
	return t, nil
}

// tracked leaves its layer when it is closed.
type tracked struct {
	net.Conn
	layer *layer
	age   *time.Timer // nil: it may grow old
}

// Read tells the layer when there is nothing more to read.
func (t *tracked) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if err != nil {
		t.layer.onHungUp()
	}
	return n, err
}

func (t *tracked) Close() error {
	t.layer.mu.Lock()
	delete(t.layer.conns, t.Conn)
	t.layer.mu.Unlock()
	if t.age != nil {
		t.age.Stop()
	}
	return t.Conn.Close()
}

// carrier is what carries raft's messages.
type carrier interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// transport is raft's transport with remedies for what raft does wrong around
// it: see inbound, pipeline and SetHeartbeatHandler.
type transport struct {
	carrier
	// held and onStart are set before raft is started.
	held    held
	onStart func()
	// inbound is nil before raft is started.
	inbound *inbound

	// mu guards what follows: the pipelines of a leader to its followers.
	mu   sync.Mutex
	open map[*pipeline]struct{}
	shut bool
}

func newTransport(c carrier) *transport {
	return &transport{carrier: c, open: map[*pipeline]struct{}{}}
}

// Consumer returns what peers send. Raft calls it once, when it is created.
func (t *transport) Consumer() <-chan raft.RPC {
	in := newInbound(t.carrier.Consumer(), t.held)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inbound = in
	if t.shut {
		in.close()
	}
	go in.run()
	return in.to
}

// AppendEntriesPipeline opens a pipeline that ends with the transport.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.carrier.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{AppendPipeline: inner, transport: t, answers: make(chan raft.AppendFuture, answersMax), closed: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return nil, errors.Join(raft.ErrTransportShutdown, inner.Close())
	}
	t.open[p] = struct{}{}
	go p.forward()
	return p, nil
}

// Close ends the transport with its pipelines.
func (t *transport) Close() error {
	t.mu.Lock()
	t.shut = true
	open := slices.Collect(maps.Keys(t.open))
	if t.inbound != nil {
		t.inbound.close()
	}
	t.mu.Unlock()
	var errs []error
	for _, p := range open {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, t.carrier.Close())...)
}

// pipeline takes the answers off raft's own pipeline without delay. Raft stops
// reading them at the first that is no success, as when the connection broke; a
// request that is being sent at that moment would then wait for ever for its
// turn, and the follower would get no entry any more while this leader lives,
// nor could raft be stopped.
type pipeline struct {
	raft.AppendPipeline
	transport *transport
	answers   chan raft.AppendFuture
	closed    chan struct{}
	once      sync.Once
}

// answersMax is more than raft sends before it notices that nobody reads.
const answersMax = 256

// Consumer returns the answers.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

func (p *pipeline) forward() {
	for {
		select {
		case a := <-p.AppendPipeline.Consumer():
			select {
			case p.answers <- a:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

// Close leaves the transport.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	p.transport.mu.Lock()
	delete(p.transport.open, p)
	p.transport.mu.Unlock()
	return p.AppendPipeline.Close()
}

// SetHeartbeatHandler ignores the handler: on the transport's goroutine, a
// heartbeat may change the term under the leader's main loop (hashicorp/raft
// #695). Without a handler it goes through that loop. Raft calls it when all is
// ready and before it starts its goroutines.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) { t.onStart() }
