package identity

import (
	"crypto/tls"
	"encoding/binary"
	"math"
	"net"
	"sync"
	"sync/atomic"
)

const (
	// writeBuffer is how much is written to a connection at a time. TLS by itself
	// calls the system for every record of 16 KiB.
	writeBuffer = 256 << 10
	// recordHeader is the length of a record's header, whose last two bytes are
	// the length of what follows (RFC 8446, section 5.1).
	recordHeader = 5
)

// Conn is a TLS connection after its handshake that writes many records at a time.
type Conn struct {
	*tls.Conn
	raw *batched
	// writing serialises writes, each of which ends with all of it sent.
	writing sync.Mutex
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

// batched is the connection below TLS, from its first byte.
type batched struct {
	net.Conn
	incoming records // of the one goroutine that reads
	// sending: what was held is being written.
	sending atomic.Bool

	// mu guards the rest.
	mu     sync.Mutex
	held   *[]byte // nil: writes pass through
	failed error   // of a write: TLS cannot go on after a part of a record
}

// heldBuffers are for batched.held; a connection has one only while it writes.
var heldBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeBuffer); return &b }}

// Read reads a record that has begun to the end of the next one's header and no
// further: TLS has room for little more than a record, and would move what it has
// of the next one. A record that stands alone takes one call.
func (b *batched) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p[:min(len(p), b.incoming.ahead())])
	b.incoming.pass(p[:n])
	return n, err
}

// records follows the bounds of records in what is read. A peer that does not
// speak TLS makes it count wrongly, and TLS refuse what it reads.
type records struct {
	body   int // bytes of the record that are still to come
	header [recordHeader]byte
	have   int // bytes of the header
}

// ahead is how far it is to the end of the next record's header, between two
// records without end.
func (r *records) ahead() int {
	if r.body == 0 && r.have == 0 {
		return math.MaxInt
	}
	return r.body + recordHeader - r.have
}

// pass goes on by p.
func (r *records) pass(p []byte) {
	for len(p) > 0 {
		n := min(r.body, len(p))
		r.body -= n
		h := copy(r.header[r.have:], p[n:])
		if r.have += h; r.have == recordHeader {
			r.body, r.have = int(binary.BigEndian.Uint16(r.header[3:])), 0
		}
		p = p[n+h:]
	}
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
