package certs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fathom-train/fathom/deploy/certs"
	"github.com/fathom-train/fathom/proto/identity"
)

// counting counts the writes to a connection.
type counting struct {
	net.Conn
	writes *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// pair returns both ends of a TLS connection over TCP, and the count of the
// client's writes below TLS.
func pair(t *testing.T) (client, server *identity.Conn, writes *atomic.Int64) {
	t.Helper()
	dir := t.TempDir()
	ca, err := certs.Create(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	load := func(role identity.Role) *identity.Source {
		own := filepath.Join(dir, string(role))
		if err := ca.Issue(own, certs.Request{Role: role, Name: "x", Hosts: []string{"127.0.0.1"}}); err != nil {
			t.Fatal(err)
		}
		s, err := identity.Load(own, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			server, _, err = load(identity.PS).Accept(conn)
		}
		accepted <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	writes = &atomic.Int64{}
	client, err = load(identity.Worker).Connect(context.Background(), counting{conn, writes}, "127.0.0.1", identity.PS)
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	writes.Store(0)
	return client, server, writes
}

// What is sent arrives, both ways at once and in pieces of all sizes, and is given
// to the system in few.
func TestConnMovesManyRecordsAtATime(t *testing.T) {
	client, server, writes := pair(t)
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 8<<20)
	for i := range text {
		text[i] = byte(random.Uint32())
	}
	send := func(c *identity.Conn, seed uint64) error {
		sizes := rand.New(rand.NewPCG(seed, 0))
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 1+sizes.IntN(1<<sizes.IntN(21)))
			if _, err := c.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	}
	done := make(chan error, 4)
	for i, c := range []*identity.Conn{client, server} {
		go func() { done <- send(c, uint64(i)) }()
		go func() {
			got := make([]byte, len(text))
			_, err := io.ReadFull(c, got)
			if err == nil && !bytes.Equal(got, text) {
				err = errors.New("something else arrived")
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	read := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, server, int64(len(text)))
		read <- err
	}()
	before := writes.Load()
	if n, err := client.Write(text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if n := writes.Load() - before; n > 64 {
		t.Errorf("%d writes for 8 MiB", n)
	}
}

// A peer that does not read holds up neither a deadline nor Close, and nothing
// follows a record that was sent in part.
func TestConnGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	client, _, _ := pair(t)
	if err := client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := client.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	if err := client.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("more")); err == nil {
		t.Error("a write after a part of a record")
	}

	client, _, _ = pair(t)
	failed := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, 64<<20))
		failed <- err
	}()
	client.Close()
	if err := <-failed; err == nil {
		t.Error("64 MiB went to a peer that does not read")
	}
}
