package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/fathom-train/fathom/proto/identity"
)

// raftByte is the first byte of a raft connection; HTTP/2 starts with 'P'.
const raftByte = 0x01

const (
	// greetingTimeout bounds how long a connection may take to say what it is.
	greetingTimeout = 5 * time.Second
	// greetingsMax bounds the connections that have not said it yet.
	greetingsMax = 1024
)

// Mux is one TCP listener shared by gRPC and the raft groups of a node. A raft
// connection starts with 0x01, the length of the group's name (one byte) and
// the name; everything else is gRPC. With an identity all of it is inside of
// TLS, and only servers may speak raft.
type Mux struct {
	listener net.Listener
	dial     Dialer
	identity *identity.Source // nil: plain text
	grpc     *acceptor
	// greetings holds one token per connection in its greeting.
	greetings chan struct{}
	wg        sync.WaitGroup

	// mu guards what follows.
	mu     sync.Mutex
	groups map[string]*layer
	// silent are the connections in their greeting.
	silent map[net.Conn]struct{}
	closed bool
}

// ListenMux listens on addr ("host:port"; port 0 takes a free one). A nil
// identity means plain text.
func ListenMux(addr string, self *identity.Source) (*Mux, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: the port is in use by another process", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return NewMux(l, nil, self), nil
}

// Dialer connects to the mux of another node.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// NewMux shares an open listener; a nil dial dials over TCP, a nil identity means
// plain text.
func NewMux(l net.Listener, dial Dialer, self *identity.Source) *Mux {
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	m := &Mux{
		listener:  self.Bound(l, identity.ConnectionsMax, identity.AddressConnectionsMax),
		dial:      dial,
		identity:  self,
		grpc:      newAcceptor(l.Addr()),
		greetings: make(chan struct{}, greetingsMax),
		groups:    map[string]*layer{},
		silent:    map[net.Conn]struct{}{},
	}
	m.wg.Add(1)
	go m.accept()
	return m
}

// GRPC returns the listener of everything that is not raft.
func (m *Mux) GRPC() net.Listener { return m.grpc }

// Addr returns the address listened on.
func (m *Mux) Addr() string { return m.listener.Addr().String() }

// Group registers a group and returns its stream layer. A name may be
// registered once at a time; connections to unknown names are closed.
// advertise is the address other nodes dial; empty means that of the listener.
// onHungUp, unless nil, is told when a connection of the group has ended.
func (m *Mux) Group(name, advertise string, onHungUp func()) (*layer, error) {
	if name == "" || len(name) > 255 {
		return nil, fmt.Errorf("group name %q must have 1 to 255 bytes", name)
	}
	if advertise == "" {
		advertise = m.Addr()
	}
	if onHungUp == nil {
		onHungUp = func() {}
	}
	l := &layer{
		acceptor: newAcceptor(address(advertise)),
		mux:      m, name: name, onHungUp: onHungUp,
		conns: map[net.Conn]struct{}{},
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("register group %s: %w", name, net.ErrClosed)
	}
	if m.groups[name] != nil {
		return nil, fmt.Errorf("group %s is open already", name)
	}
	m.groups[name] = l
	return l, nil
}

// Close stops listening and closes every raft connection; gRPC connections
// belong to the gRPC server.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	var open []*layer
	for _, l := range m.groups {
		open = append(open, l)
	}
	for conn := range m.silent {
		conn.Close()
	}
	m.mu.Unlock()
	err := m.listener.Close()
	m.grpc.Close()
	for _, l := range open {
		l.Close()
	}
	m.wg.Wait()
	return err
}

func (m *Mux) accept() {
	defer m.wg.Done()
	for {
		conn, err := m.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, mostly: wait for some to be given back.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-m.grpc.done:
			}
			continue
		}
		select {
		case m.greetings <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		m.wg.Add(1)
		go func() {
			defer m.wg.Done()
			if !m.greet(conn) {
				conn.Close()
			}
		}()
	}
}

// greet reads what the connection is and hands it over.
func (m *Mux) greet(conn net.Conn) bool {
	m.mu.Lock()
	m.silent[conn] = struct{}{}
	closed := m.closed
	m.mu.Unlock()
	if closed {
		conn.Close()
	}
	raw := conn
	conn, peer, err := m.secure(raw)
	var (
		target *acceptor
		first  byte
	)
	if err == nil {
		target, first, err = m.greeting(conn)
	}
	m.mu.Lock()
	delete(m.silent, raw)
	m.mu.Unlock()
	<-m.greetings
	if err != nil || target == nil || first == raftByte && m.identity != nil && peer != identity.PS {
		return false
	}
	if first != raftByte {
		conn = &peeked{Conn: conn, first: []byte{first}}
	}
	return target.hand(conn)
}

// secure makes the handshake of a connection, if there is to be one.
func (m *Mux) secure(conn net.Conn) (net.Conn, identity.Role, error) {
	if m.identity == nil {
		return conn, "", nil
	}
	secured, peer, err := m.identity.Accept(conn)
	if err != nil {
		return nil, "", err
	}
	return secured, peer.Role, nil
}

// Unwrap returns the TLS connection within one that the gRPC listener handed
// out.
func Unwrap(conn net.Conn) (*identity.Conn, bool) {
	p, ok := conn.(*peeked)
	if !ok {
		return nil, false
	}
	secured, ok := p.Conn.(*identity.Conn)
	return secured, ok
}

func (m *Mux) greeting(conn net.Conn) (*acceptor, byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(greetingTimeout)); err != nil {
		return nil, 0, err
	}
	var b [2]byte
	if _, err := io.ReadFull(conn, b[:1]); err != nil {
		return nil, 0, err
	}
	target := m.grpc
	if b[0] == raftByte {
		if _, err := io.ReadFull(conn, b[1:]); err != nil {
			return nil, 0, err
		}
		name := make([]byte, b[1])
		if _, err := io.ReadFull(conn, name); err != nil {
			return nil, 0, err
		}
		m.mu.Lock()
		l := m.groups[string(name)]
		m.mu.Unlock()
		if l == nil {
			return nil, 0, fmt.Errorf("no group %q", name)
		}
		target = l.acceptor
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil { // hung up already
		return nil, 0, err
	}
	return target, b[0], nil
}

// acceptor is a listener fed by the mux. Its queue is unbuffered: a connection
// that nobody accepts any more must be closed, not wait for its peer to give up.
type acceptor struct {
	addr  net.Addr
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newAcceptor(addr net.Addr) *acceptor {
	return &acceptor{addr: addr, queue: make(chan net.Conn), done: make(chan struct{})}
}

func (a *acceptor) hand(conn net.Conn) bool {
	select {
	case a.queue <- conn:
		return true
	case <-a.done:
		return false
	}
}

func (a *acceptor) Accept() (net.Conn, error) {
	select {
	case conn := <-a.queue:
		return conn, nil
	case <-a.done:
		return nil, net.ErrClosed
	}
}

func (a *acceptor) Close() error {
	a.once.Do(func() { close(a.done) })
	return nil
}

func (a *acceptor) Addr() net.Addr { return a.addr }

// address is an advertised "host:port".
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// peeked is a connection whose first byte was read already.
type peeked struct {
	net.Conn
	first []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.first) > 0 && len(b) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}
