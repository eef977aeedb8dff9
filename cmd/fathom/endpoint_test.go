package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whoever opens connections and says nothing, or says it a letter at a time, or
// too much, is hung up on, and the endpoint answers the others.
func TestEndpointOutlastsHostilePeers(t *testing.T) {
	t.Parallel()
	e, err := openEndpoint("127.0.0.1:0", newLogRing(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	e.serve()
	t.Cleanup(func() {
		if err := e.close(); err != nil {
			t.Error(err)
		}
	})
	long, err := http.NewRequest("GET", "http://"+e.address()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	long.Header.Set("X-Long", strings.Repeat("x", 1<<20))
	if reply, err := http.DefaultClient.Do(long); err == nil { // or the connection is closed while we write
		reply.Body.Close()
		if reply.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 1 MiB: %s", reply.Status)
		}
	}

	conns := make([]net.Conn, 1000)
	for i := range conns {
		conn, err := net.Dial("tcp", e.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nX-Slow: ") // hung up on is as good
		}
		conns[i] = conn
	}
	for i, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, conn)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatalf("connection %d stays open", i)
		}
	}
	reply, err := http.Get(fmt.Sprintf("http://%s/healthz", e.address()))
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s", reply.Status)
	}
}

// Following the log outlasts the time a request may take.
func TestLogsAreFollowedForLong(t *testing.T) {
	t.Parallel()
	ring := newLogRing(1 << 10)
	e, err := openEndpoint("127.0.0.1:0", ring, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.server.ReadTimeout = time.Second
	e.serve()
	defer e.close()
	reply, err := http.Get("http://" + e.address() + "/logs?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	ended := make(chan error, 1)
	lines := make(chan string, 8)
	go func() {
		b := make([]byte, 64)
		for {
			n, err := reply.Body.Read(b)
			if err != nil {
				ended <- err
				return
			}
			lines <- string(b[:n])
		}
	}()
	select { // this long nothing may happen
	case err := <-ended:
		t.Fatalf("the log ended: %v", err)
	case <-time.After(2 * e.server.ReadTimeout):
	}
	fmt.Fprintln(ring, "still here")
	select {
	case err := <-ended:
		t.Fatalf("the log ended: %v", err)
	case <-lines:
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
	}
}
