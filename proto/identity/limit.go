package identity

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// ConnectionsMax is how many connections a server of gRPC or raft has open at
	// the most; AddressConnectionsMax is how many of them are of one address: a
	// server has a few to each other one for every shard.
	ConnectionsMax        = 8192
	AddressConnectionsMax = 2048
	// ConnectionIdle is after how long without a call a connection is closed. A
	// client makes a new one when it needs it.
	ConnectionIdle = 15 * time.Minute
)

// Bound lets at most that many connections of a listener be open at a time, and
// as many of one address. Further ones are closed at once: they must not stand in
// the way of others. Processes of one machine share the addresses of the loopback,
// so there only the first limit counts. A nil Source logs nothing.
func (s *Source) Bound(l net.Listener, most, ofOneAddress int) net.Listener {
	return &bounded{Listener: l, source: s, most: most, ofOneAddress: ofOneAddress, open: map[netip.Addr]int{}}
}

type bounded struct {
	net.Listener
	source             *Source
	most, ofOneAddress int

	// mu guards the counts.
	mu   sync.Mutex
	all  int
	open map[netip.Addr]int
}

// Accept returns the next connection that is within the limits.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(conn)
		if err := b.take(from); err != nil {
			if b.source != nil {
				b.source.refused(conn.RemoteAddr(), err)
			}
			conn.Close()
			continue
		}
		return &counted{Conn: conn, done: sync.OnceFunc(func() { b.give(from) })}, nil
	}
}

func (b *bounded) take(from netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all >= b.most {
		return fmt.Errorf("%d connections are open, the most there may be", b.all)
	}
	if b.open[from] >= b.ofOneAddress && !from.IsLoopback() {
		return fmt.Errorf("%d connections of its address are open, the most there may be", b.open[from])
	}
	b.all++
	b.open[from]++
	return nil
}

func (b *bounded) give(from netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.open[from]--; b.open[from] == 0 {
		delete(b.open, from)
	}
}

// addressOf is the peer's address; connections in memory have none, and share one.
func addressOf(conn net.Conn) netip.Addr {
	if conn.RemoteAddr() == nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	done func()
}

// Close closes the connection.
func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}
