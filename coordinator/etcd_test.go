package coordinator

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

// TestHandoverOnRealEtcd runs in real time over loopback: the job a first
// coordinator took is served, and ended, by the second.
func TestHandoverOnRealEtcd(t *testing.T) {
	dir := t.TempDir()
	etcd, err := store.StartEmbedded(store.EmbeddedConfig{Name: "etcd-0", DataDir: filepath.Join(dir, "data"),
		ClientURL: "http://127.0.0.1:0", PeerURL: "http://127.0.0.1:0", LogFile: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := func(node string) (*Service, func()) {
		s, err := New(Config{Node: node, Listen: "127.0.0.1:0", Etcd: []string{etcd.ClientURL()}})
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.Run(running) }()
		return s, func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", node, err)
			}
		}
	}
	first, stopFirst := start("c0")
	ctl, err := client.Dial([]string{first.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	name, err := ctl.Submit(ctx, spec(t, "handover", nil))
	if err != nil {
		t.Fatal(err)
	}
	second, stopSecond := start("c1")
	defer stopSecond()
	// The second does not lead; asked, it names the first.
	other, err := client.Dial([]string{second.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if s, err := other.Status(ctx, name); err != nil || s.GetPhase() == proto.Phase_PHASE_UNSPECIFIED {
		t.Fatalf("status through the second coordinator: %v, %v", s, err)
	}
	stopFirst()
	s, err := other.Cancel(ctx, name)
	if err != nil || s.GetPhase() != proto.Phase_PHASE_CANCELLED || string(s.GetSpec()) != string(spec(t, "handover", nil)) {
		t.Fatalf("cancel after the handover: %v, %v", s, err)
	}
	if !second.Leading() || first.Leading() {
		t.Error("the second coordinator does not lead")
	}
}
