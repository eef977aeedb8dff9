package launch

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// echo listens and sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	text := strings.Repeat("what goes in comes out\n", 10_000)
	go io.WriteString(c, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Errorf("%v; equal: %v", err, string(got) == text)
	}
}

func TestConnectionsReachPodsThroughTheAPI(t *testing.T) {
	s, c := connect(t)
	s.Listen("quickstart-coordinator-1:7070", echo(t))
	conn, err := c.DialAddress(t.Context(), "quickstart-coordinator-1.quickstart-coordinator.ml.svc:7070")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, conn)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	closed, err := c.DialPod(t.Context(), "quickstart-coordinator-1", 9090)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := closed.Read(make([]byte, 1)); err == nil {
		t.Error("a port where nobody listens answers")
	}
	closed.Close()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Forward(ctx, l, "quickstart-coordinator-1", 7070, func(err error) { t.Error(err) })
	}()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, near)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("forward: %v", err)
	}
	near.Close()
}
