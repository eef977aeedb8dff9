package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials/insecure"
)

// testTimeout is far beyond what any step needs: a test that reaches it fails.
const testTimeout = 2 * time.Minute

// twin is one implementation under the contract.
type twin struct {
	open   func(t *testing.T) Store
	expire func(t *testing.T, l Leadership, election string) // ends a leadership from outside
}

func memoryTwin() twin {
	m := NewMemory()
	return twin{
		open:   func(t *testing.T) Store { return m.Open() },
		expire: func(t *testing.T, _ Leadership, election string) { m.Expire(election) },
	}
}

func etcdTwin(t *testing.T) twin {
	e := startEmbedded(t)
	return twin{
		open: func(t *testing.T) Store {
			t.Helper()
			s, err := OpenEtcd([]string{e.ClientURL()}, insecure.NewCredentials())
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		expire: func(t *testing.T, l Leadership, _ string) {
			t.Helper()
			own := l.(*etcdLeadership)
			if _, err := own.client.Revoke(testContext(t), own.lease); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func startEmbedded(t *testing.T) *Embedded {
	t.Helper()
	dir := t.TempDir()
	e, err := StartEmbedded(EmbeddedConfig{Name: "etcd-0", DataDir: filepath.Join(dir, "data"),
		ClientURL: "http://127.0.0.1:0", PeerURL: "http://127.0.0.1:0", LogFile: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func TestContractOfTheMemoryTwin(t *testing.T) {
	defer goleak.VerifyNone(t)
	testContract(t, memoryTwin())
}

func TestContractOfTheEtcdTwin(t *testing.T) {
	testContract(t, etcdTwin(t))
}

func testContract(t *testing.T, tw twin) {
	for name, f := range map[string]func(*testing.T, twin){
		"WritesAreReadBack":         testWritesAreReadBack,
		"ConditionsAreKept":         testConditionsAreKept,
		"RangeIsOrderedAndWhole":    testRange,
		"OversizedWritesAreRefused": testLimits,
		"NextCandidateLeads":        testNextCandidateLeads,
		"ExpiredLeaderIsFenced":     testExpiredLeaderIsFenced,
		"RestartTakesOver":          testRestartTakesOver,
		"CampaignEndsWithContext":   testCampaignEndsWithContext,
	} {
		t.Run(name, func(t *testing.T) { f(t, tw) })
	}
}

func lead(t *testing.T, s Store, election, node string) Leadership {
	t.Helper()
	l, err := s.Campaign(testContext(t), election, Candidate{Node: node, Address: node + ":1"})
	if err != nil {
		t.Fatalf("campaign of %s: %v", node, err)
	}
	return l
}

func write(t *testing.T, l Leadership, ops ...Op) {
	t.Helper()
	if err := l.Write(testContext(t), ops...); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func closeStore(t *testing.T, s Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func testWritesAreReadBack(t *testing.T, tw twin) {
	s := tw.open(t)
	defer closeStore(t, s)
	l := lead(t, s, "read/election", "a")
	defer l.Resign(testContext(t))
	if _, err := s.Get(testContext(t), "read/1"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("get of an absent key: %v, want ErrNotFound", err)
	}
	write(t, l, Put("read/1", []byte("one")), Create("read/2", []byte("two")))
	write(t, l, Put("read/1", []byte("uno")), Delete("read/2"), Delete("read/absent"))
	e, err := s.Get(testContext(t), "read/1")
	if err != nil || string(e.Value) != "uno" || e.Revision == 0 {
		t.Fatalf("get: %+v, %v", e, err)
	}
	if _, err := s.Get(testContext(t), "read/2"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("get of a deleted key: %v", err)
	}
}

func testConditionsAreKept(t *testing.T, tw twin) {
	s := tw.open(t)
	defer closeStore(t, s)
	ctx := testContext(t)
	l := lead(t, s, "cas/election", "a")
	defer l.Resign(ctx)
	write(t, l, Create("cas/k", []byte("1")))
	first, _ := s.Get(ctx, "cas/k")
	if err := l.Write(ctx, Put("cas/other", nil), Create("cas/k", []byte("2"))); !errors.Is(err, ErrConflict) {
		t.Fatalf("create of an existing key: %v, want ErrConflict", err)
	}
	if _, err := s.Get(ctx, "cas/other"); !errors.Is(err, ErrNotFound) {
		t.Fatal("half of a refused write was applied")
	}
	write(t, l, CAS("cas/k", []byte("3"), first.Revision))
	if err := l.Write(ctx, CAS("cas/k", []byte("4"), first.Revision)); !errors.Is(err, ErrConflict) {
		t.Fatalf("cas at an old revision: %v, want ErrConflict", err)
	}
	if e, _ := s.Get(ctx, "cas/k"); string(e.Value) != "3" {
		t.Fatalf("value %q, want 3", e.Value)
	}
}

func testRange(t *testing.T, tw twin) {
	s := tw.open(t)
	defer closeStore(t, s)
	l := lead(t, s, "range-election", "a")
	defer l.Resign(testContext(t))
	var want, got []string
	for i := range 2*rangePage + 3 { // more than two pages
		key := "range/" + string([]byte{byte('a' + i/26), byte('a' + i%26)})
		want = append(want, key)
		write(t, l, Put(key, []byte{byte(i)}))
	}
	write(t, l, Put("range0", nil)) // next to the prefix, not in it
	all, err := s.Range(testContext(t), "range/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		got = append(got, e.Key)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func testLimits(t *testing.T, tw twin) {
	s := tw.open(t)
	defer closeStore(t, s)
	ctx := testContext(t)
	l := lead(t, s, "limit/election", "a")
	defer l.Resign(ctx)
	write(t, l, Put("limit/k", bytes.Repeat([]byte{1}, ValueBytesMax-100)))
	many := make([]Op, OpsMax)
	for i := range many {
		many[i] = Put("limit/many/"+string(rune('A'+i)), nil)
	}
	write(t, l, many...)
	for name, ops := range map[string][]Op{
		"too large": {Put("limit/k", bytes.Repeat([]byte{1}, ValueBytesMax))},
		"too many":  append(many, Put("limit/more", nil)),
		"none":      {},
		"no key":    {Put("", nil)},
	} {
		if err := l.Write(ctx, ops...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func testNextCandidateLeads(t *testing.T, tw twin) {
	a, b := tw.open(t), tw.open(t)
	defer closeStore(t, b)
	ctx := testContext(t)
	if _, err := a.Leader(ctx, "next-election"); !errors.Is(err, ErrNoLeader) {
		t.Fatalf("leader before any campaign: %v", err)
	}
	first := lead(t, a, "next-election", "a")
	won := make(chan Leadership)
	go func() {
		l, err := b.Campaign(ctx, "next-election", Candidate{Node: "b", Address: "b:1"})
		if err != nil {
			t.Error(err)
		}
		won <- l
	}()
	if c, err := b.Leader(ctx, "next-election"); err != nil || c != (Candidate{Node: "a", Address: "a:1"}) {
		t.Fatalf("leader %+v, %v; want a", c, err)
	}
	if err := first.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	second := <-won
	<-first.Done()
	if c, _ := a.Leader(ctx, "next-election"); c.Node != "b" {
		t.Fatalf("leader %+v, want b", c)
	}
	closeStore(t, a)
	if second.Term() <= first.Term() {
		t.Fatalf("terms %d then %d, want them to grow", first.Term(), second.Term())
	}
	write(t, second, Put("next/k", []byte("b")))
	second.Resign(ctx)
}

func testExpiredLeaderIsFenced(t *testing.T, tw twin) {
	s, other := tw.open(t), tw.open(t)
	defer closeStore(t, s)
	defer closeStore(t, other)
	l := lead(t, s, "fence-election", "a")
	write(t, l, Put("fence/k", []byte("before")))
	tw.expire(t, l, "fence-election")
	if err := l.Write(testContext(t), Put("fence/k", []byte("zombie"))); !errors.Is(err, ErrFenced) {
		t.Fatalf("write after the lease expired: %v, want ErrFenced", err)
	}
	next := lead(t, other, "fence-election", "b")
	defer next.Resign(testContext(t))
	if err := l.Write(testContext(t), Put("fence/k", []byte("zombie"))); !errors.Is(err, ErrFenced) {
		t.Fatalf("write under a new leader: %v, want ErrFenced", err)
	}
	if e, _ := s.Get(testContext(t), "fence/k"); string(e.Value) != "before" {
		t.Fatalf("value %q: a fenced write was applied", e.Value)
	}
	select {
	case <-l.Done():
	case <-testContext(t).Done():
		t.Fatal("the fenced leader never noticed")
	}
}

func testRestartTakesOver(t *testing.T, tw twin) {
	crashed, restarted := tw.open(t), tw.open(t)
	defer closeStore(t, crashed)
	defer closeStore(t, restarted)
	old := lead(t, crashed, "restart-election", "a")
	l := lead(t, restarted, "restart-election", "a") // would wait for ever if it queued behind itself
	defer l.Resign(testContext(t))
	write(t, l, Put("restart/k", nil))
	if err := old.Write(testContext(t), Put("restart/k", nil)); !errors.Is(err, ErrFenced) {
		t.Fatalf("write of the process before: %v, want ErrFenced", err)
	}
}

func testCampaignEndsWithContext(t *testing.T, tw twin) {
	a, b := tw.open(t), tw.open(t)
	defer closeStore(t, a)
	defer closeStore(t, b)
	l := lead(t, a, "cancel", "a")
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan error)
	go func() {
		_, err := b.Campaign(ctx, "cancel", Candidate{Node: "b"})
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("campaign: %v, want context.Canceled", err)
	}
	l.Resign(testContext(t))
	if _, err := a.Leader(testContext(t), "cancel"); !errors.Is(err, ErrNoLeader) {
		t.Fatalf("leader after all left: %v, want ErrNoLeader", err)
	}
}

func TestClosedMemoryStoreRefusesAndGivesUpItsLeadership(t *testing.T) {
	m := NewMemory()
	s, other := m.Open(), m.Open()
	l := lead(t, s, "e", "a")
	closeStore(t, s)
	<-l.Done()
	if _, err := s.Get(testContext(t), "k"); !errors.Is(err, ErrClosed) {
		t.Fatalf("get on a closed store: %v", err)
	}
	lead(t, other, "e", "b")
}

func TestEmbeddedServerKeepsWhatItAcknowledged(t *testing.T) {
	cfg := EmbeddedConfig{Name: "etcd-0", DataDir: filepath.Join(t.TempDir(), "data"),
		ClientURL: "http://127.0.0.1:0", PeerURL: "http://127.0.0.1:0"}
	for round := range 2 {
		e, err := StartEmbedded(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenEtcd([]string{e.ClientURL()}, insecure.NewCredentials())
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			l := lead(t, s, "e", "a")
			write(t, l, Put("k", []byte("v")))
			if err := l.Resign(testContext(t)); err != nil {
				t.Error(err)
			}
		} else if got, err := s.Get(testContext(t), "k"); err != nil || string(got.Value) != "v" {
			t.Errorf("after a restart: %q, %v", got.Value, err)
		}
		closeStore(t, s)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The server itself has limits: whoever gets in is not bound by those of Store.
func TestEmbeddedServerHasLimits(t *testing.T) {
	e, err := StartEmbedded(EmbeddedConfig{Name: "etcd-0", DataDir: t.TempDir(), ClientURL: "http://127.0.0.1:0", PeerURL: "http://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.ClientURL()}, MaxCallSendMsgSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for size, taken := range map[int]bool{ValueBytesMax: true, requestBytesMax: false, 32 << 20: false} {
		if _, err := c.Put(testContext(t), "k", strings.Repeat("x", size)); (err == nil) != taken {
			t.Errorf("a value of %d bytes: %v", size, err)
		}
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.ClientURL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("began with %v", frame)
	}
	if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n != embeddedStreamsMax {
		t.Errorf("%d calls of a connection at a time, %v", n, ok)
	}
}

func TestEmbeddedConfigurationFaultsAreNamed(t *testing.T) {
	for _, cfg := range []EmbeddedConfig{
		{},
		{Name: "n", DataDir: t.TempDir(), ClientURL: "::", PeerURL: "http://127.0.0.1:0"},
		{Name: "n", DataDir: t.TempDir(), ClientURL: "http://127.0.0.1:0", PeerURL: "::"},
		{Name: "n", DataDir: t.TempDir(), ClientURL: "http://127.0.0.1:0", PeerURL: "https://127.0.0.1:0", CredentialsDir: t.TempDir()},
		{Name: "n", DataDir: t.TempDir(), ClientURL: "https://127.0.0.1:0", PeerURL: "http://127.0.0.1:0", CredentialsDir: t.TempDir()},
		{Name: "n", DataDir: "/dev/null/x", ClientURL: "http://127.0.0.1:0", PeerURL: "http://127.0.0.1:0"},
	} {
		if e, err := StartEmbedded(cfg); err == nil {
			e.Close()
			t.Errorf("%+v: started", cfg)
		}
	}
}
