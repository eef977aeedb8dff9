package replica

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// layer is the raft.StreamLayer of one group. It knows every connection of the
// group and closes all of them with the group, which raft's transport does not.
type layer struct {
	*acceptor
	mux  *Mux
	name string

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

// Dial connects to the same group on another node.
func (l *layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := l.mux.dial(ctx, string(to))
	if err != nil {
		return nil, err
	}
	hello := append([]byte{raftByte, byte(len(l.name))}, l.name...)
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
	return &tracked{Conn: conn, layer: l}, nil
}

// tracked leaves its layer when it is closed.
type tracked struct {
	net.Conn
	layer *layer
}

func (t *tracked) Close() error {
	t.layer.mu.Lock()
	delete(t.layer.conns, t.Conn)
	t.layer.mu.Unlock()
	return t.Conn.Close()
}

// transport is raft's transport without the heartbeat fast path: handled on
// the transport's goroutine, a heartbeat may change the term under the leader's
// main loop (hashicorp/raft #695). Without a handler it goes through that loop.
type transport struct {
	*raft.NetworkTransport
}

// SetHeartbeatHandler ignores the handler.
func (transport) SetHeartbeatHandler(func(raft.RPC)) {}
