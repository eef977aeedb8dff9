package certs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/deploy/certs"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

const limit = 2 * time.Minute

// authority makes a certificate authority for the test.
func authority(t *testing.T, cluster string) *certs.Authority {
	t.Helper()
	ca, err := certs.Create(filepath.Join(t.TempDir(), "ca"), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue returns credentials signed by ca.
func issue(t *testing.T, ca *certs.Authority, r certs.Request) *identity.Source {
	t.Helper()
	dir := t.TempDir()
	if err := ca.Issue(dir, r); err != nil {
		t.Fatal(err)
	}
	return load(t, dir)
}

func load(t *testing.T, dir string) *identity.Source {
	t.Helper()
	s, err := identity.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// control is a coordinator that answers List and Submit.
type control struct {
	proto.UnimplementedControlServer
	callers chan identity.Identity
}

func (c *control) List(ctx context.Context, _ *proto.ListRequest) (*proto.ListReply, error) {
	who, ok := identity.Caller(ctx)
	if !ok {
		return nil, errors.New("the caller is not known")
	}
	c.callers <- who
	return &proto.ListReply{}, nil
}

func (c *control) Submit(context.Context, *proto.SubmitRequest) (*proto.SubmitReply, error) {
	return &proto.SubmitReply{Job: "j"}, nil
}

// serve runs a coordinator with the credentials.
func serve(t *testing.T, self *identity.Source) (address string, callers chan identity.Identity) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &control{callers: make(chan identity.Identity, 100)}
	s := grpc.NewServer(append(self.Interceptors(slog.New(slog.DiscardHandler)), grpc.Creds(self.Listener()))...)
	proto.RegisterControlServer(s, c)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String(), c.callers
}

// call lists or submits over a new connection.
func call(t *testing.T, address string, secure credentials.TransportCredentials, submit bool) error {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(secure))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if submit {
		_, err = proto.NewControlClient(conn).Submit(ctx, &proto.SubmitRequest{})
	} else {
		_, err = proto.NewControlClient(conn).List(ctx, &proto.ListRequest{})
	}
	return err
}

// lockedBuffer is a buffer that a logger writes while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var here = []string{"127.0.0.1"}

// tomorrow issues a certificate that becomes valid in a day, as the authority's
// machine does whose clock is a day ahead.
func tomorrow(t *testing.T, caDir string, r certs.Request) (dir string) {
	t.Helper()
	ca, err := certs.Open(caDir)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := ca.Issue(dir, r); err != nil {
		t.Fatal(err)
	}
	block := func(path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := pem.Decode(text)
		return b.Bytes
	}
	parent, err := x509.ParseCertificate(block(filepath.Join(caDir, identity.CAFile)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParseECPrivateKey(block(filepath.Join(caDir, "ca.key")))
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(block(filepath.Join(dir, identity.CertFile)))
	if err != nil {
		t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, c.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, identity.CertFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhoGetsIn(t *testing.T) {
	caDir := filepath.Join(t.TempDir(), "ca")
	ca, err := certs.Create(caDir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	address, callers := serve(t, issue(t, ca, certs.Request{Role: identity.Coordinator, Name: "c-0", Hosts: here}))
	admin := issue(t, ca, certs.Request{Role: identity.Admin, Name: "ann"})
	if err := call(t, address, admin.Dialer(identity.Coordinator), false); err != nil {
		t.Fatalf("an admin is refused: %v", err)
	}
	if who := <-callers; who != (identity.Identity{Cluster: "shop", Role: identity.Admin, Name: "ann"}) {
		t.Errorf("the server saw %+v", who)
	}

	// Another authority's certificate, shown to a server whose authority the
	// client trusts all the same.
	foreign := authority(t, "shop")
	stranger := t.TempDir()
	if err := foreign.Issue(stranger, certs.Request{Role: identity.Admin, Name: "eve"}); err != nil {
		t.Fatal(err)
	}
	external := func(certDir, caDir string) credentials.TransportCredentials {
		dir := t.TempDir()
		for name, from := range map[string]string{identity.CertFile: certDir, identity.KeyFile: certDir, identity.CAFile: caDir} {
			b, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := identity.ExternalDialer(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	expired := t.TempDir()
	if err := ca.Issue(expired, certs.Request{Role: identity.Admin, Name: "old", Life: -time.Minute}); err != nil {
		t.Fatal(err)
	}
	otherCluster := issue(t, authority(t, "bank"), certs.Request{Role: identity.Admin, Name: "bob"})

	for name, c := range map[string]struct {
		secure credentials.TransportCredentials
		submit bool
		code   codes.Code
		want   string
	}{
		"a viewer looks":                   {issue(t, ca, certs.Request{Role: identity.Viewer, Name: "vic"}).Dialer(), false, codes.OK, ""},
		"a viewer submits":                 {issue(t, ca, certs.Request{Role: identity.Viewer, Name: "vic"}).Dialer(), true, codes.PermissionDenied, "viewer vic may not call"},
		"a worker submits":                 {issue(t, ca, certs.Request{Role: identity.Worker, Name: "worker-0"}).Dialer(), true, codes.PermissionDenied, "worker worker-0 may not call"},
		"a worker lists":                   {issue(t, ca, certs.Request{Role: identity.Worker, Name: "worker-0"}).Dialer(), false, codes.PermissionDenied, "roles [admin viewer]"},
		"plain text":                       {insecure.NewCredentials(), false, codes.Unavailable, ""},
		"a client that trusts others only": {otherCluster.Dialer(), false, codes.Unavailable, "certificate signed by unknown authority"},
		"a client that wants another role": {admin.Dialer(identity.PS), false, codes.Unavailable, "coordinator c-0, want role [ps]"},
	} {
		err := call(t, address, c.secure, c.submit)
		if status.Code(err) != c.code || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want code %v and %q", name, err, c.code, c.want)
		}
	}
	// The client may not hear why its certificate is refused; the server says it.
	for name, c := range map[string]struct {
		dir, want string
	}{
		"a certificate of somebody else": {stranger, "certificate signed by unknown authority"},
		"an expired certificate":         {expired, "is after"},
		"a certificate of tomorrow":      {tomorrow(t, caDir, certs.Request{Role: identity.Admin, Name: "eve"}), "not yet valid: current time"},
	} {
		var log lockedBuffer
		dir := t.TempDir()
		if err := ca.Issue(dir, certs.Request{Role: identity.Coordinator, Name: "c-2", Hosts: here}); err != nil {
			t.Fatal(err)
		}
		self, err := identity.Load(dir, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		logged, _ := serve(t, self)
		if err := call(t, logged, external(c.dir, admin.Dir()), false); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v", name, err)
		}
		await(t, func() bool { return strings.Contains(log.String(), c.want) })
	}
	// A name that is not in the certificate is not the server's.
	elsewhere, _ := serve(t, issue(t, ca, certs.Request{Role: identity.Coordinator, Name: "c-1", Hosts: []string{"c-1.example"}}))
	if err := call(t, elsewhere, admin.Dialer(), false); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("a server under a foreign name: %v", err)
	}
}

// Certificates and authorities are replaced under a server and a client that run on.
func TestRotation(t *testing.T) {
	ca := authority(t, "shop")
	server, client := t.TempDir(), t.TempDir()
	issueAll := func(ca *certs.Authority) {
		t.Helper()
		if err := errors.Join(
			ca.Issue(server, certs.Request{Role: identity.Coordinator, Name: "c-0", Hosts: here}),
			ca.Issue(client, certs.Request{Role: identity.Admin, Name: "ann"})); err != nil {
			t.Fatal(err)
		}
	}
	issueAll(ca)
	self, admin := load(t, server), load(t, client)
	address, _ := serve(t, self)
	secure := admin.Dialer(identity.Coordinator)
	if err := call(t, address, secure, false); err != nil {
		t.Fatal(err)
	}
	before := self.Certificate().SerialNumber
	issueAll(authority(t, "shop")) // another authority altogether
	await(t, func() bool {
		return self.Certificate().SerialNumber.Cmp(before) != 0 && call(t, address, secure, false) == nil
	})
	// What cannot be used does not replace what can.
	if err := os.WriteFile(filepath.Join(server, identity.CertFile), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	stays := self.Certificate().SerialNumber
	stop := time.After(2500 * time.Millisecond) // longer than a Source waits between looks
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-tick.C:
			if err := call(t, address, secure, false); err != nil {
				t.Fatalf("after a damaged certificate was put in place: %v", err)
			}
			continue
		case <-stop:
			tick.Stop()
		}
		break
	}
	if self.Certificate().SerialNumber.Cmp(stays) != 0 {
		t.Error("the certificate in use changed")
	}
}

// await asks again and again until ok or the limit.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not after %v", limit)
		}
	}
}

func TestEndpointRules(t *testing.T) {
	ca := authority(t, "shop")
	self := issue(t, ca, certs.Request{Role: identity.PS, Name: "ps-0", Hosts: here})
	s := httptest.NewUnstartedServer(self.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), "/healthz"))
	s.TLS = self.ServerOptional()
	s.StartTLS()
	defer s.Close()
	viewer, scheme := issue(t, ca, certs.Request{Role: identity.Viewer, Name: "prometheus"}).HTTP()
	worker, _ := issue(t, ca, certs.Request{Role: identity.Worker, Name: "worker-0"}).HTTP()
	if scheme != "https" {
		t.Errorf("scheme %s", scheme)
	}
	for _, c := range []struct {
		client *http.Client
		path   string
		want   int
	}{
		{viewer, "/metrics", http.StatusOK},
		{viewer, "/secret", http.StatusForbidden},
		{worker, "/metrics", http.StatusForbidden},
		{worker, "/logs", http.StatusForbidden},
		{worker, "/healthz", http.StatusOK},
		{s.Client(), "/metrics", http.StatusUnauthorized}, // no certificate
		{s.Client(), "/healthz", http.StatusOK},
	} {
		if c.client == s.Client() {
			c.client.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true // as a kubelet's probe
		}
		reply, err := c.client.Get(s.URL + c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		reply.Body.Close()
		if reply.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", c.path, reply.StatusCode, c.want)
		}
		c.client.CloseIdleConnections()
	}
}

func TestAuthorityIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	first, err := certs.OpenOrCreate(dir, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Create(dir, "shop"); !errors.Is(err, certs.ErrExists) {
		t.Errorf("a second authority in the same place: %v", err)
	}
	again, err := certs.OpenOrCreate(dir, "ignored")
	if err != nil || again.Cluster() != first.Cluster() {
		t.Errorf("opened again: %v, %v", again, err)
	}
	if err := first.Issue(t.TempDir(), certs.Request{Role: "root", Name: "x"}); !errors.Is(err, identity.ErrIdentity) {
		t.Errorf("an unknown role: %v", err)
	}
	for name, mode := range map[string]os.FileMode{"ca.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
