package identity

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
)

const (
	// readBuffer and writeBuffer are how much is read from and written to a
	// connection at a time. TLS by itself calls the system for every record of
	// 16 KiB.
	readBuffer  = 128 << 10
	writeBuffer = 256 << 10
)

// Conn is a TLS connection after its handshake that moves many records at a time.
type Conn struct {
	*tls.Conn
	raw *batched
	// writing serialises writes, each of which ends with all of it sent.
	writing sync.Mutex
}

// newConn takes over a connection after its handshake over raw.
func newConn(secured *tls.Conn, raw *batched) *Conn {
	raw.reader = bufio.NewReaderSize(raw.Conn, readBuffer)
	return &Conn{Conn: secured, raw: raw}
}

// Write sends all of b.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.raw.hold()
	n, err := c.Conn.Write(b)
	if ferr := c.raw.release(); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// Close closes the connection, also under a Write that waits for the peer.
func (c *Conn) Close() error {
	if c.raw.sending.Load() {
		return c.raw.Conn.Close()
	}
	return c.Conn.Close()
}

// batched is the connection below TLS.
type batched struct {
	net.Conn
	reader *bufio.Reader // nil until the handshake is done
	// sending: what was held is being written.
	sending atomic.Bool

	// mu guards the rest.
	mu     sync.Mutex
	held   *[]byte // nil: writes pass through
	failed error   // of a write: TLS cannot go on after a part of a record
}

// heldBuffers are for batched.held; a connection has one only while it writes.
var heldBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeBuffer); return &b }}

func (b *batched) Read(p []byte) (int, error) {
	if b.reader == nil {
		return b.Conn.Read(p)
	}
	return b.reader.Read(p)
}

// hold keeps what is written from now on until there is a lot of it, or release.
func (b *batched) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = heldBuffers.Get().(*[]byte)
}

func (b *batched) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.send()
	heldBuffers.Put(b.held)
	b.held = nil
	return err
}

// send writes what is held. It is called with mu held.
func (b *batched) send() error {
	if len(*b.held) > 0 && b.failed == nil {
		b.sending.Store(true)
		defer b.sending.Store(false)
		_, b.failed = b.Conn.Write(*b.held)
	}
	*b.held = (*b.held)[:0]
	return b.failed
}

func (b *batched) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		return b.Conn.Write(p)
	}
	if len(*b.held)+len(p) > writeBuffer {
		if err := b.send(); err != nil {
			return 0, err
		}
	}
	*b.held = append(*b.held, p...)
	return len(p), nil
}
