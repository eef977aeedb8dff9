package sim

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// network carries connections between hosts with latency, and with the faults
// that the schedule makes. What is written to a connection arrives in order, as
// in TCP: a message is lost only together with its connection, and what a
// partition holds up arrives when it heals. Duplicates and reordering come from
// calls that are sent again (calls in history_test.go).
type network struct {
	mu    sync.Mutex
	rng   *rand.Rand
	hosts map[string]*host // by address, the running process
	pairs map[*pair]struct{}
	// cut counts the partitions of a direction, slow is added to its latency.
	cut  map[[2]string]int
	slow map[[2]string]time.Duration
	// changed is closed and replaced when a partition heals or a host starts.
	changed chan struct{}
}

// host is one process on the network; a restarted one is another host.
type host struct {
	net      *network
	name     string
	addr     string
	dead     bool
	silent   bool // it died with its machine: nobody is told
	accepted chan net.Conn
	closed   chan struct{}
}

func newNetwork(rng *rand.Rand) *network {
	return &network{rng: rng, hosts: map[string]*host{}, pairs: map[*pair]struct{}{}, cut: map[[2]string]int{},
		slow: map[[2]string]time.Duration{}, changed: make(chan struct{})}
}

// start brings a process up. Connections to the one before are reset.
func (n *network) start(name, addr string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.hosts[addr]; old != nil {
		n.reset(func(p *pair) bool { return p.of(old) })
	}
	h := &host{net: n, name: name, addr: addr, accepted: make(chan net.Conn, 64), closed: make(chan struct{})}
	n.hosts[addr] = h
	n.announce()
	return h
}

// kill ends a process, or its machine: then its peers hear nothing. The dead
// process runs on as a ghost that reaches nobody.
func (n *network) kill(h *host, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.dead, h.silent = true, silent
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	for p := range n.pairs {
		for i := range p.ends {
			if p.ends[i] != h {
				continue
			}
			p.streams[1-i].deafen(syscall.ECONNRESET)
			switch {
			case silent:
				p.streams[i].lose(false)
			case n.rng.IntN(2) == 0:
				p.streams[i].lose(true)
			default:
				p.streams[i].end()
			}
		}
	}
}

// partition holds up what goes from one set of nodes to another; heal undoes
// one partition of the same sets.
func (n *network) partition(from, to []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			n.cut[[2]string{a, b}]++
		}
	}
}

func (n *network) heal(from, to []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			n.cut[[2]string{a, b}]--
		}
	}
	n.announce()
}

func (n *network) delay(from, to string, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow[[2]string{from, to}] = d
}

// drop resets every connection of a node: what was under way is lost.
func (n *network) drop(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reset(func(p *pair) bool { return p.ends[0].name == name || p.ends[1].name == name })
}

func (n *network) reset(which func(*pair) bool) {
	for p := range n.pairs {
		if which(p) {
			p.streams[0].fail(syscall.ECONNRESET)
			p.streams[1].fail(syscall.ECONNRESET)
			delete(n.pairs, p)
		}
	}
}

func (n *network) announce() {
	close(n.changed)
	n.changed = make(chan struct{})
	for p := range n.pairs {
		p.streams[0].rouse()
		p.streams[1].rouse()
	}
}

func (n *network) open(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[[2]string{from, to}] == 0
}

// latencyUnit times 1 to 12 is how long a message takes: so long that the job
// lasts while a schedule happens, which costs simulated time only.
const latencyUnit = 1500 * time.Microsecond

// arrival is when something sent now arrives. Times are rounded so that the
// simulation has fewer moments to visit.
func (n *network) arrival(from, to string) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	way := [2]string{from, to}
	d := latencyUnit*time.Duration(1+n.rng.IntN(12)) + n.slow[way]
	if n.slow[way] > 0 {
		seen.add(netDelayed, 1)
	}
	if n.cut[way] > 0 {
		seen.add(netHeld, 1)
	}
	return time.Now().Add(d).Truncate(500 * time.Microsecond)
}

// dial connects as TCP does: refused when nobody listens, without an answer
// while a partition lasts or the machine is gone.
func (h *host) dial(ctx context.Context, addr string) (net.Conn, error) {
	n := h.net
	for {
		n.mu.Lock()
		to, changed := n.hosts[addr], n.changed
		reachable := to != nil && n.cut[[2]string{h.name, to.name}] == 0 && n.cut[[2]string{to.name, h.name}] == 0
		switch {
		case h.dead:
			n.mu.Unlock()
			return nil, syscall.ENETUNREACH
		case reachable && to.dead && !to.silent:
			n.mu.Unlock()
			return nil, syscall.ECONNREFUSED
		case reachable && !to.dead:
			conn, peer := n.connect(h, to)
			n.mu.Unlock()
			select {
			case to.accepted <- peer:
				return conn, nil
			case <-to.closed:
				conn.Close()
				return nil, syscall.ECONNREFUSED
			case <-ctx.Done():
				conn.Close()
				return nil, ctx.Err()
			}
		}
		n.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// connect makes a connection; the caller holds mu.
func (n *network) connect(a, b *host) (*conn, *conn) {
	p := &pair{ends: [2]*host{a, b}}
	for i := range p.streams {
		p.streams[i] = &stream{net: n, from: p.ends[i].name, to: p.ends[1-i].name, wake: make(chan struct{}, 1)}
	}
	n.pairs[p] = struct{}{}
	return &conn{p, 0}, &conn{p, 1}
}

// The host is the listener of its process.
func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.accepted:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.dead = true
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	return nil
}

func (h *host) Addr() net.Addr { return address(h.addr) }

type address string

func (address) Network() string  { return "sim" }
func (a address) String() string { return string(a) }

// pair is one connection: streams[i] carries what ends[i] writes.
type pair struct {
	ends    [2]*host
	streams [2]*stream
}

func (p *pair) of(h *host) bool { return p.ends[0] == h || p.ends[1] == h }

// conn is one end of a connection.
type conn struct {
	*pair
	side int
}

func (c *conn) Read(b []byte) (int, error)  { return c.streams[1-c.side].read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.streams[c.side].write(b) }
func (c *conn) LocalAddr() net.Addr         { return address(c.ends[c.side].addr) }
func (c *conn) RemoteAddr() net.Addr        { return address(c.ends[1-c.side].addr) }

func (c *conn) Close() error {
	c.streams[c.side].end()
	c.streams[1-c.side].deafen(net.ErrClosed)
	n := c.streams[0].net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.streams[0].over() && c.streams[1].over() {
		delete(n.pairs, c.pair)
	}
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	s := c.streams[1-c.side]
	s.mu.Lock()
	s.deadline = t
	s.mu.Unlock()
	s.rouse()
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// stream is one direction of a connection, with one reader.
type stream struct {
	net      *network
	from, to string
	wake     chan struct{} // capacity 1

	mu       sync.Mutex
	sent     []parcel
	last     time.Time // arrival of the newest
	ended    bool      // the writer has closed it
	deaf     error     // the reader is gone: what is written goes nowhere
	lost     bool      // the writer is dead: nothing arrives any more
	err      error     // it is broken
	deadline time.Time // of the reader
}

type parcel struct {
	due  time.Time
	data []byte
}

func (s *stream) write(b []byte) (int, error) {
	due := s.net.arrival(s.from, s.to)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case s.ended:
		return 0, net.ErrClosed
	case s.deaf != nil || s.lost:
		return len(b), nil
	}
	if due.Before(s.last) {
		due = s.last
	}
	s.last = due
	s.sent = append(s.sent, parcel{due, slices.Clone(b)})
	s.rouse()
	return len(b), nil
}

func (s *stream) read(b []byte) (int, error) {
	for {
		n, wait, err := s.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		if wait < 0 {
			<-s.wake
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-s.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// take returns what has arrived, or how long to wait (negative: until roused).
func (s *stream) take(b []byte) (n int, wait time.Duration, err error) {
	open := s.net.open(s.from, s.to)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.err != nil:
		return 0, 0, s.err
	case s.deaf != nil:
		return 0, 0, s.deaf
	case !s.deadline.IsZero() && !s.deadline.After(now):
		return 0, 0, os.ErrDeadlineExceeded
	}
	wait = -1
	if !s.deadline.IsZero() {
		wait = s.deadline.Sub(now)
	}
	if s.lost || !open {
		return 0, wait, nil
	}
	for n < len(b) && len(s.sent) > 0 && !s.sent[0].due.After(now) {
		p := &s.sent[0]
		k := copy(b[n:], p.data)
		n += k
		if p.data = p.data[k:]; len(p.data) == 0 {
			s.sent = s.sent[1:]
		}
	}
	switch {
	case n > 0:
		return n, 0, nil
	case len(s.sent) > 0:
		if d := s.sent[0].due.Sub(now); wait < 0 || d < wait {
			wait = d
		}
	case s.ended:
		return 0, 0, io.EOF
	}
	return 0, wait, nil
}

func (s *stream) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.rouse()
}

// deafen ends the reader. The writer is not told: it learns of it from the
// other direction, if at all.
func (s *stream) deafen(err error) {
	s.mu.Lock()
	seen.add(netLost, len(s.sent))
	s.deaf, s.sent = err, nil
	s.mu.Unlock()
	s.rouse()
}

// lose is the death of the writer with what it had sent; told, the reader finds
// the end.
func (s *stream) lose(told bool) {
	s.mu.Lock()
	seen.add(netLost, len(s.sent))
	s.sent, s.ended, s.lost = nil, told, !told
	s.mu.Unlock()
	s.rouse()
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	seen.add(netLost, len(s.sent))
	s.sent = nil
	s.mu.Unlock()
	s.rouse()
}

func (s *stream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended || s.err != nil || s.deaf != nil
}

func (s *stream) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
