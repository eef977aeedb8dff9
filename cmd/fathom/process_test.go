package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/proto/identity"
)

func ringOf(text string) *logRing {
	r := newLogRing(1 << 10)
	r.Write([]byte(text))
	return r
}

func get(t *testing.T, url string) string {
	t.Helper()
	reply, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// componentFunc is a component made of its Run.
type componentFunc func(ctx context.Context) error

func (f componentFunc) Run(ctx context.Context) error { return f(ctx) }

func TestProcessServesItsEndpointUntilItIsStopped(t *testing.T) {
	a, out, errs := newTestApp(t, nil)
	running := make(chan string)
	ended := make(chan error)
	go func() {
		f := &processFlags{name: "ps-0", metrics: "127.0.0.1:0", security: securityFlags{insecure: true}}
		ended <- a.runProcess(a.interrupts.ctx, identity.PS, f, nil, func(p *process) (component, []string, error) {
			p.log.Info("opened", "shards", 2)
			return componentFunc(func(ctx context.Context) error {
				running <- "http://" + p.endpoint.address()
				<-ctx.Done()
				return ctx.Err()
			}), []string{"listen", "here"}, nil
		})
	}()
	base := <-running
	if want := fmt.Sprintf("ready role=ps name=ps-0 listen=here metrics=%s\n", strings.TrimPrefix(base, "http://")); out.String() != want {
		t.Errorf("announced %q, want %q", out.String(), want)
	}
	if got := get(t, base+"/healthz"); got != "ok\n" {
		t.Errorf("health %q", got)
	}
	if got := get(t, base+"/logs"); !strings.Contains(got, "msg=opened node=ps-0 shards=2") || got != errs.String() {
		t.Errorf("logs %q, standard error %q", got, errs.String())
	}
	if got := get(t, base+"/metrics"); !strings.Contains(got, "go_goroutines") || !strings.Contains(got, "process_cpu_seconds_total") {
		t.Errorf("metrics:\n%s", got)
	}
	follower, err := http.Get(base + "/logs?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Body.Close()
	a.interrupts.raise()
	if err := <-ended; err != nil {
		t.Errorf("an orderly stop returned %v", err)
	}
	if !strings.Contains(errs.String(), "msg=stopped") {
		t.Errorf("log:\n%s", errs.String())
	}
}

func TestProcessThatFails(t *testing.T) {
	boom := errors.New("boom")
	for name, build := range map[string]func(*process) (component, []string, error){
		"to build": func(*process) (component, []string, error) { return nil, nil, boom },
		"to run": func(*process) (component, []string, error) {
			return componentFunc(func(context.Context) error { return boom }), nil, nil
		},
	} {
		a, _, _ := newTestApp(t, nil)
		f := &processFlags{name: "ps-0", metrics: "127.0.0.1:0", security: securityFlags{insecure: true}}
		if err := a.runProcess(t.Context(), identity.PS, f, nil, build); !errors.Is(err, boom) || !strings.Contains(err.Error(), "ps ps-0: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestProcessWhoseMetricsPortIsTaken(t *testing.T) {
	e, err := openEndpoint("127.0.0.1:0", newLogRing(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	e.serve()
	defer e.close()
	a, _, _ := newTestApp(t, nil)
	err = a.runProcess(t.Context(), identity.PS, &processFlags{name: "x", metrics: e.address(), security: securityFlags{insecure: true}}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), e.address()) {
		t.Errorf("error %v", err)
	}
}
