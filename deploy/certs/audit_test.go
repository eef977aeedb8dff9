package certs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/deploy/certs"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// trail is what an audit trail says, line by line.
func trail(t *testing.T, text string) (lines []map[string]any) {
	t.Helper()
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		var one map[string]any
		if err := json.Unmarshal([]byte(l), &one); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if at, err := time.Parse(time.RFC3339Nano, one["time"].(string)); err != nil || time.Since(at) > limit {
			t.Errorf("time %v, %v", one["time"], err)
		}
		if one["msg"] != "audit" || one["node"] != "c-0" {
			t.Errorf("line %v", one)
		}
		lines = append(lines, one)
	}
	return lines
}

// audited is a coordinator with a trail, and a way to call it as somebody.
func audited(t *testing.T) (said *lockedBuffer, self *identity.Source, as func(role identity.Role, name string) (proto.ControlClient, *identity.Source)) {
	t.Helper()
	ca := authority(t, "shop")
	self = issue(t, ca, certs.Request{Role: identity.Coordinator, Name: "c-0", Hosts: here})
	said = &lockedBuffer{}
	self.SetAudit(identity.NewAudit("c-0", slog.New(slog.DiscardHandler), said))
	address, _ := serve(t, self)
	return said, self, func(role identity.Role, name string) (proto.ControlClient, *identity.Source) {
		who := issue(t, ca, certs.Request{Role: role, Name: name})
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(who.Dialer(identity.Coordinator)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return proto.NewControlClient(conn), who
	}
}

func TestAuditTrailSaysWhoDidWhatAndWhoWasNotLet(t *testing.T) {
	said, self, as := audited(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	const secret = "AKIAWHATNOBODYMAYSEE"
	spec := fmt.Appendf(nil, `{"metadata":{"name":"ads"},"spec":{"checkpoint":{"dir":"s3://%s:%s@bucket"}}}`, secret, secret)
	admin, ann := as(identity.Admin, "ann")
	worker, _ := as(identity.Worker, "worker-0")
	viewer, _ := as(identity.Viewer, "bob")
	admin.List(ctx, &proto.ListRequest{}) // looking is not noted
	viewer.List(ctx, &proto.ListRequest{})
	admin.Submit(ctx, &proto.SubmitRequest{Spec: spec, Restore: secret})
	admin.Cancel(ctx, &proto.CancelRequest{Job: "ads"}) // this coordinator cannot
	viewer.Cancel(ctx, &proto.CancelRequest{Job: "ads\n" + strings.Repeat("x", 1<<20)})
	worker.Drain(ctx, &proto.DrainRequest{Node: "ps-1"})
	worker.Submit(ctx, &proto.SubmitRequest{Spec: spec})
	worker.Watch(ctx, &proto.StatusRequest{}) // refused at the first answer
	if stream, err := worker.Watch(ctx, &proto.StatusRequest{}); err == nil {
		stream.Recv()
	}
	self.Acted("resize workers", "ads", "", "from 2 to 4 workers", nil)

	text := said.String()
	for _, s := range []string{secret, "BEGIN", "key"} {
		if strings.Contains(text, s) {
			t.Errorf("%q is in the trail:\n%s", s, text)
		}
	}
	var got []string
	for _, l := range trail(t, text) {
		if l["from"] != nil && !strings.HasPrefix(l["from"].(string), "127.0.0.1:") || l["cluster"] != "shop" || l["certificate"] == "" {
			t.Errorf("line %v", l)
		}
		if l["name"] == "ann" && l["certificate"] != fmt.Sprintf("%X", ann.Certificate().SerialNumber.Bytes()) {
			t.Errorf("certificate %v", l["certificate"])
		}
		job, _ := l["job"].(string)
		if len(job) > 253 {
			t.Errorf("a name of %d bytes", len(job))
		}
		method := l["method"].(string)
		got = append(got, fmt.Sprintf("%v %v: %s %.3s%v: %v %v", l["role"], l["name"], method[strings.LastIndex(method, "/")+1:], job, l["target"], l["decision"], l["outcome"]))
	}
	want := []string{
		"admin ann: Submit j<nil>: allowed OK", // as the answer says
		"admin ann: Cancel ads<nil>: allowed Unimplemented",
		"viewer bob: Cancel ads<nil>: denied PermissionDenied",
		"worker worker-0: Drain ps-1: denied PermissionDenied",
		"worker worker-0: Submit ads<nil>: denied PermissionDenied",
		"worker worker-0: Watch <nil>: denied PermissionDenied",
		"coordinator c-0: resize workers ads<nil>: allowed OK",
	}
	// The first Watch may or may not have reached the server.
	got = compact(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// compact leaves out lines that are like the one before.
func compact(lines []string) (kept []string) {
	for i, l := range lines {
		if i == 0 || l != lines[i-1] {
			kept = append(kept, l)
		}
	}
	return kept
}

// Who is refused again and again does not push out of the trail what was done.
func TestRefusedCallsDoNotFloodTheAuditTrail(t *testing.T) {
	said, _, as := audited(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	admin, _ := as(identity.Admin, "ann")
	worker, _ := as(identity.Worker, "worker-0")
	const calls = 500
	began := time.Now()
	for range calls {
		worker.Drain(ctx, &proto.DrainRequest{})
	}
	admin.Submit(ctx, &proto.SubmitRequest{})
	lines, missed := trail(t, said.String()), 0
	for _, l := range lines {
		n, _ := l["missed"].(float64)
		missed += int(n)
	}
	if most := 20 * (2 + int(time.Since(began)/time.Second)); len(lines) > most || len(lines)+missed != calls+1 {
		t.Errorf("%d lines, %d missed of %d calls", len(lines), missed, calls+1)
	}
	if last := lines[len(lines)-1]; last["name"] != "ann" || last["decision"] != "allowed" {
		t.Errorf("the last line: %v", last)
	}
}

func TestAuditTrailOfTheHTTPEndpoint(t *testing.T) {
	ca := authority(t, "shop")
	self := issue(t, ca, certs.Request{Role: identity.PS, Name: "ps-0", Hosts: here})
	said := &lockedBuffer{}
	self.SetAudit(identity.NewAudit("c-0", slog.New(slog.DiscardHandler), said))
	s := httptest.NewUnstartedServer(self.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	s.TLS = self.ServerOptional()
	s.StartTLS()
	defer s.Close()
	for _, role := range []identity.Role{identity.Viewer, identity.Worker} {
		client, _ := issue(t, ca, certs.Request{Role: role, Name: "x"}).HTTP()
		reply, err := client.Get(s.URL + "/logs?follow=1")
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		client.CloseIdleConnections()
	}
	lines := trail(t, said.String())
	if len(lines) != 1 || lines[0]["role"] != "worker" || lines[0]["method"] != "/logs" || lines[0]["decision"] != "denied" || lines[0]["outcome"] != "PermissionDenied" {
		t.Errorf("trail %v", lines)
	}
}
