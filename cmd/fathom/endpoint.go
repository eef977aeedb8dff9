package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fathom-train/fathom/proto/identity"
)

// endpoint is the HTTP side of a process: /metrics for Prometheus, /healthz
// and /readyz for a supervisor, /logs for people. It carries no training traffic. With an
// identity it speaks TLS; /healthz then answers everybody, the others whom the
// rules let in.
type endpoint struct {
	registry *prometheus.Registry
	listener net.Listener
	server   *http.Server
	served   chan error
	// advertised is the address told to others.
	advertised string
	ready      atomic.Pointer[readier] // nil while the process starts
}

// always is ready once it runs.
type always struct{}

// Ready implements readier.
func (always) Ready() error { return nil }

// running makes the endpoint tell whether the component is ready.
func (e *endpoint) running(c component) {
	r, ok := c.(readier)
	if !ok {
		r = always{}
	}
	e.ready.Store(&r)
}

// readier is a component that knows whether it can be counted on.
type readier interface {
	// Ready returns why not.
	Ready() error
}

// endpointConnectionsMax bounds the connections of probes, Prometheus and people.
const endpointConnectionsMax = 512

// openEndpoint listens on addr; serve begins to answer.
func openEndpoint(addr string, logs *logRing, self *identity.Source) (*endpoint, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	l = self.Bound(l, endpointConnectionsMax, endpointConnectionsMax/4)
	if self != nil {
		l = tls.NewListener(l, self.ServerOptional())
	}
	e := &endpoint{registry: prometheus.NewRegistry(), listener: l, advertised: l.Addr().String(), served: make(chan error, 1)}
	e.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{Registry: e.registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := errors.New("starting")
		if ready := e.ready.Load(); ready != nil {
			err = (*ready).Ready()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /logs", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		// Who follows the log says nothing more.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		flush := func() { _ = http.NewResponseController(w).Flush() } // a lost client shows at the next write
		_ = logs.copyTo(r.Context(), w, r.URL.Query().Get("follow") != "", flush)
	})
	e.server = &http.Server{Handler: self.Handler(mux, "/healthz", "/readyz"),
		ReadHeaderTimeout: identity.HandshakeTimeout, // of TLS, too
		ReadTimeout:       10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	return e, nil
}

// address is where others find the endpoint.
func (e *endpoint) address() string { return e.advertised }

// serve answers requests until close.
func (e *endpoint) serve() {
	go func() { e.served <- e.server.Serve(e.listener) }()
}

// close ends all requests, those that follow the log included, and waits for
// the server.
func (e *endpoint) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := e.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = e.server.Close()
	}
	if serr := <-e.served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
