package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// What can be reached of a running cluster without a certificate, or with one
// that is for something else, is nothing; the run itself is not disturbed.
func TestOnlyTheRightCertificatesGetIn(t *testing.T) {
	t.Parallel()
	r := start(t, nil, "run", writeFile(t, "small.yaml", smallJob), "--set", "spec.train.epochs=6")
	server := r.leaderPast(5, limit)
	atFullSpeed := r.slow() // so that the job is not over before all was tried
	address := server.flag("--listen")
	groups, err := os.ReadDir(filepath.Join(server.flag("--data-dir"), "groups"))
	if err != nil || len(groups) == 0 {
		t.Fatalf("groups: %v, %v", groups, err)
	}
	load := func(name string) *identity.Source {
		s, err := identity.Load(filepath.Join(r.workdir, "credentials", name), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	worker, ps, admin := load("worker-0"), load("ps-0"), load("admin")

	shardStatusCode := func(secure credentials.TransportCredentials) codes.Code {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(secure))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_, err = proto.NewParameterServerClient(conn).ShardStatus(ctx, &proto.ShardStatusRequest{Job: groups[0].Name()})
		return status.Code(err)
	}
	for name, c := range map[string]struct {
		secure credentials.TransportCredentials
		want   codes.Code
	}{
		"admin":          {admin.Dialer(identity.PS), codes.OK},
		"server":         {ps.Dialer(identity.PS), codes.PermissionDenied},
		"plain text":     {insecure.NewCredentials(), codes.Unavailable},
		"no certificate": {credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), codes.Unavailable},
	} {
		if got := shardStatusCode(c.secure); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}

	// A worker may not decide, and that it tried is in the audit trail.
	coordinator := r.children("coordinator")[0]
	conn, err := grpc.NewClient(coordinator.flag("--listen"), grpc.WithTransportCredentials(worker.Dialer(identity.Coordinator)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if _, err := proto.NewControlClient(conn).Cancel(ctx, &proto.CancelRequest{Job: "small"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a worker cancels: %v", err)
	}
	r.logged(`"method":"/fathom.v1.Control/Submit","job":"small","role":"admin"`, limit)
	r.logged(`"method":"/fathom.v1.Control/Cancel","job":"small","role":"worker","name":"worker-0"`, limit)

	// Raft is for servers: others are hung up on before they can say a word.
	raft := func(s *identity.Source, within time.Duration) (closed bool) {
		conn, err := tls.Dial("tcp", address, s.Client("127.0.0.1", identity.PS))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		group := groups[0].Name() + "/0"
		if _, err := conn.Write(append([]byte{1, byte(len(group))}, group...)); err != nil {
			return true
		}
		if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Read(make([]byte, 1))
		var timeout net.Error
		if err == nil {
			t.Error("raft spoke first")
		}
		return !(asTimeout(err, &timeout) && timeout.Timeout())
	}
	if raft(ps, time.Second) {
		t.Error("a server's raft connection was closed")
	}
	if !raft(worker, limit) {
		t.Error("a worker may speak raft")
	}

	// etcd takes coordinators only.
	etcd := r.children("etcd")[0].flag("--client-url")
	for name, want := range map[string]bool{"coordinator": true, "ps-0": false, "worker-0": false, "admin": false} {
		if got := reaches(t, load(name), etcd[len("https://"):]); got != want {
			t.Errorf("%s reaches etcd: %v, want %v", name, got, want)
		}
	}
	old := load("coordinator").Client("127.0.0.1", identity.Etcd)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if conn, err := tls.Dial("tcp", etcd[len("https://"):], old); err == nil {
		conn.Close()
		t.Error("etcd speaks TLS 1.2")
	}
	atFullSpeed()
	r.result(limit)
	r.keepsItsSecrets()
}

// keepsItsSecrets fails when a private key is found in what the run has logged or
// written, its credentials apart.
func (r *fathomRun) keepsItsSecrets() {
	r.t.Helper()
	keys, err := filepath.Glob(filepath.Join(r.workdir, "credentials", "*", "*.key"))
	if err != nil || len(keys) < 7 {
		r.t.Fatalf("keys %v, %v", keys, err)
	}
	var secrets [][]byte
	for _, path := range keys {
		b, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		secrets = append(secrets, bytes.Split(b, []byte("\n"))[1]) // the first line of the key itself
	}
	written := 0
	err = filepath.WalkDir(r.workdir, func(path string, e os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == "credentials":
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		b, err := os.ReadFile(path)
		for i, s := range secrets {
			if bytes.Contains(b, s) {
				r.t.Errorf("%s holds the key of %s", path, keys[i])
			}
		}
		written++
		return err
	})
	if err != nil || written < 10 {
		r.t.Fatalf("%d files looked at: %v", written, err)
	}
	for i, s := range secrets {
		if bytes.Contains(r.stdout.Bytes(), s) || bytes.Contains(r.stderr.Bytes(), s) {
			r.t.Errorf("the run prints the key of %s", keys[i])
		}
	}
}

// The authority and all certificates are replaced while a job trains, as the
// documentation says: nothing is restarted for it, new connections are made
// with the new ones, those of before are refused in the end, and the model is the
// same.
func TestAuthorityIsReplacedWhileAJobTrains(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	longer := []string{"--set", "spec.train.epochs=8"}
	want := start(t, nil, append([]string{"run", job}, longer...)...).result(limit)

	r := start(t, nil, append([]string{"run", job}, longer...)...)
	server := r.leaderPast(5, limit)
	atFullSpeed := r.slow() // so that the job is not over before all is replaced
	credentials := filepath.Join(r.workdir, "credentials")
	old := filepath.Join(t.TempDir(), "old") // somebody who kept what he had
	if err := os.CopyFS(old, os.DirFS(filepath.Join(credentials, "admin"))); err != nil {
		t.Fatal(err)
	}
	read := func(dir, file string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	put := func(dir, file string, text []byte) {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "next"), text, 0o600), os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, file))); err != nil {
			t.Fatal(err)
		}
	}
	var who []string
	for _, c := range r.everyone() {
		who = append(who, filepath.Base(c.flag("--credentials")))
	}
	who = append(who, "admin")
	if len(who) < 7 {
		t.Fatalf("only %v have certificates", who)
	}
	ca := filepath.Join(t.TempDir(), "ca")
	cli(t, 0, "certs", "create", "--ca", ca, "--cluster", "local")
	both := append(read(old, identity.CAFile), read(ca, identity.CAFile)...)
	for _, name := range who {
		put(filepath.Join(credentials, name), identity.CAFile, both)
	}
	settle := func() { <-time.After(2500 * time.Millisecond) } // a process looks once a second
	settle()
	for _, name := range who {
		role := strings.TrimRight(name, "-0123456789")
		issued := filepath.Join(t.TempDir(), name)
		cli(t, 0, "certs", "issue", role, name, "--ca", ca, "--host", "127.0.0.1", "--host", "localhost", "--out", issued)
		put(filepath.Join(credentials, name), identity.KeyFile, read(issued, identity.KeyFile))
		put(filepath.Join(credentials, name), identity.CertFile, read(issued, identity.CertFile))
	}
	settle()
	for _, name := range who {
		put(filepath.Join(credentials, name), identity.CAFile, read(ca, identity.CAFile))
	}
	settle()
	// A server begins anew: all of its connections are made with the new ones.
	r.signal(syscall.SIGKILL, server)
	r.leaderPast(r.version()+5, limit)
	atFullSpeed()
	former, err := identity.Load(old, nil)
	if err != nil {
		t.Fatal(err)
	}
	address := r.children("coordinator")[0].flag("--listen")
	conn, err := tls.Dial("tcp", address, former.Client("127.0.0.1", identity.Coordinator))
	if err == nil {
		conn.Close()
		t.Error("who has only the old authority believes the coordinator")
	} else if !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Error(err)
	}
	if got := r.result(limit); got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
	}
}

func asTimeout(err error, target *net.Error) bool {
	e, ok := err.(net.Error)
	if ok {
		*target = e
	}
	return ok
}

// reaches tells whether a TLS server lets the certificate in: it answers an
// HTTP/2 preface with its settings.
func reaches(t *testing.T, s *identity.Source, address string) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", address, s.Client("127.0.0.1", identity.Etcd))
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 1))
	return err == nil
}
