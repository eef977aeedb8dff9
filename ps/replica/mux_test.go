package replica

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestMuxSortsConnectionsByTheirFirstByte(t *testing.T) {
	t.Parallel()
	m, err := ListenMux("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	a, err := m.Group("job/0", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Group("job/0", "", nil); err == nil {
		t.Error("a group was registered twice")
	}
	if _, err := m.Group(strings.Repeat("x", 256), "", nil); err == nil {
		t.Error("a name of 256 bytes was accepted")
	}
	if a.Addr().String() != m.Addr() || a.Addr().Network() != "tcp" {
		t.Errorf("address %s", a.Addr())
	}
	echo := func(l net.Listener) {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		io.CopyN(conn, conn, 4)
	}
	go echo(a)
	go echo(m.GRPC())
	dialed, err := a.Dial(raft.ServerAddress(m.Addr()), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Dial("tcp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{dialed, plain} {
		var b [4]byte
		if _, err := conn.Write([]byte("PRI ")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, b[:]); err != nil || string(b[:]) != "PRI " {
			t.Errorf("answer %q, %v", b, err)
		}
	}
	// An unknown group is closed, and so is everything when its group ends.
	unknown, err := net.Dial("tcp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	unknown.Write([]byte{raftByte, 3, 'x', '/', '1'})
	if _, err := unknown.Read(make([]byte, 1)); err == nil {
		t.Error("a connection to an unknown group stays open")
	}
	a.Close()
	if _, err := dialed.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives its group")
	}
	if _, err := a.Accept(); err == nil {
		t.Error("a closed group accepts")
	}
	if conn, err := a.Dial(raft.ServerAddress(m.Addr()), time.Second); err == nil {
		conn.Close()
		t.Error("a closed group dials")
	}
	if _, err := m.Group("job/0", "", nil); err != nil {
		t.Errorf("the name is not free again: %v", err)
	}
}

func TestPortInUseIsSaidPlainly(t *testing.T) {
	t.Parallel()
	m, err := ListenMux("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = ListenMux(m.Addr(), nil)
	if err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), m.Addr()) {
		t.Errorf("error %v", err)
	}
	if _, err := ListenMux("nonsense", nil); err == nil {
		t.Error("listens on nonsense")
	}
}

func TestSilentConnectionsDoNotOutliveTheMux(t *testing.T) {
	t.Parallel()
	m, err := ListenMux("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte{raftByte})
	done := make(chan error, 1)
	go func() { done <- m.Close() }()
	select {
	case <-done:
	case <-time.After(greetingTimeout / 2):
		t.Error("the mux does not close")
	}
}

// FuzzGreeting reads any bytes as the beginning of a connection: it is gRPC's, or
// that of the group it names, or refused.
func FuzzGreeting(f *testing.F) {
	f.Add([]byte("PRI * HTTP/2.0"))
	f.Add([]byte("\x01\x05job/0AppendEntries"))
	f.Add([]byte("\x01\x05job/1"))
	f.Add([]byte("\x01\xff"))
	f.Add([]byte(nil))
	group := newAcceptor(address("group"))
	m := &Mux{grpc: newAcceptor(address("grpc")), groups: map[string]*layer{"job/0": {acceptor: group}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			_, _ = far.Write(b) // as far as it is read
			far.Close()
		}()
		target, first, err := m.greeting(near)
		named := bytes.HasPrefix(b, []byte("\x01\x05job/0"))
		switch {
		case err != nil && target != nil:
			t.Fatalf("a refused connection is given to %v", target.addr)
		case err == nil && first != b[0]:
			t.Fatalf("the first byte is %d, want %d", first, b[0])
		case err == nil && target == group && !named, err == nil && target == m.grpc && b[0] == raftByte:
			t.Fatalf("%q is given to %v", b, target.addr)
		case errors.Is(err, io.ErrClosedPipe): // the peer had hung up when it was handed over
		case err != nil && (named || len(b) > 0 && b[0] != raftByte):
			t.Fatalf("%q is refused: %v", b, err)
		}
	})
}
