package identity

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// crowd is a listener whose connections come from the addresses given, in turn.
type crowd struct {
	net.Listener
	from []string
	ends []net.Conn // the other ends
}

func (c *crowd) Accept() (net.Conn, error) {
	if len(c.ends) == len(c.from) {
		return nil, net.ErrClosed
	}
	far, near := net.Pipe()
	address := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from[len(c.ends)]), uint16(1000+len(c.ends))))
	c.ends = append(c.ends, far)
	return from{near, address}, nil
}

type from struct {
	net.Conn
	address net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.address }

// accepted returns from where connections were let in.
func accepted(t *testing.T, l net.Listener) (conns []net.Conn) {
	t.Helper()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return conns
		}
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	same := func(address string, n int) (all []string) {
		for range n {
			all = append(all, address)
		}
		return all
	}
	for name, c := range map[string]struct {
		from []string
		want int
	}{
		"within":                 {same("10.0.0.1", 3), 3},
		"of one address":         {same("10.0.0.1", 9), 3},
		"in its other form":      {append(same("10.0.0.1", 2), same("::ffff:10.0.0.1", 5)...), 3},
		"of several":             {append(same("10.0.0.1", 9), same("10.0.0.2", 2)...), 5},
		"of all":                 {append(append(same("10.0.0.1", 3), same("10.0.0.2", 3)...), same("10.0.0.3", 3)...), 7},
		"of the machine itself":  {same("127.0.0.1", 9), 7},
		"of the machine, by IP6": {same("::1", 6), 6},
	} {
		inner := &crowd{from: c.from}
		bound := (*Source)(nil).Bound(inner, 7, 3)
		conns := accepted(t, bound)
		if len(conns) != c.want {
			t.Errorf("%s: %d connections, want %d", name, len(conns), c.want)
		}
		hungUp := 0
		for _, end := range inner.ends {
			// A pipe whose other end is closed refuses a deadline.
			if err := end.SetReadDeadline(time.Now().Add(-time.Second)); errors.Is(err, io.ErrClosedPipe) {
				hungUp++
			}
		}
		if want := len(c.from) - c.want; hungUp != want {
			t.Errorf("%s: %d were hung up on, want %d", name, hungUp, want)
		}
		for _, conn := range conns {
			conn.Close()
			conn.Close() // gives one place back
		}
		inner.from, inner.ends = same("10.0.0.9", 9), nil
		if again := accepted(t, bound); len(again) != 3 {
			t.Errorf("%s: %d connections after all were closed, want 3", name, len(again))
		}
	}
}
