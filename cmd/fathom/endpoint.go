package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fathom-train/fathom/proto/identity"
)

// endpoint is the HTTP side of a process: /metrics for Prometheus, /healthz
// for a supervisor, /logs for people. It carries no training traffic. With an
// identity it speaks TLS; /healthz then answers everybody, the others whom the
// rules let in.
type endpoint struct {
	registry *prometheus.Registry
	listener net.Listener
	server   *http.Server
	served   chan error
}

// openEndpoint listens on addr; serve begins to answer.
func openEndpoint(addr string, logs *logRing, self *identity.Source) (*endpoint, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	if self != nil {
		l = tls.NewListener(l, self.ServerOptional())
	}
	e := &endpoint{registry: prometheus.NewRegistry(), listener: l, served: make(chan error, 1)}
	e.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{Registry: e.registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /logs", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		flush := func() { _ = http.NewResponseController(w).Flush() } // a lost client shows at the next write
		_ = logs.copyTo(r.Context(), w, r.URL.Query().Get("follow") != "", flush)
	})
	e.server = &http.Server{Handler: self.Handler(mux, "/healthz"), ReadHeaderTimeout: 10 * time.Second}
	return e, nil
}

// address is where the endpoint listens.
func (e *endpoint) address() string { return e.listener.Addr().String() }

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
