package ps

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
)

// TestHashesAreKeptOverARestart: the hashes of all versions can be read before
// and after the server was started again, and a torn record costs only itself.
func TestHashesAreKeptOverARestart(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Node: "ps-0", DataDir: dir}
	n := run(t, cfg)
	member := &proto.Member{Node: "ps-0", Address: n.server.Addr()}
	n.obey(1, order(0, true, member))
	eventually(t, "the shard is configured and led", func() bool { g := n.group(0); return g.GetConfigured() && g.GetLeader() })
	const steps = 5
	for step := uint64(1); step <= steps; step++ {
		for lane := range uint16(testLanes) {
			push(t, []*node{n}, 0, step, lane)
		}
	}
	read := func(n *node) []*proto.VersionHash {
		t.Helper()
		r, err := n.client.Hashes(t.Context(), &proto.HashesRequest{Run: testRun, Most: 100})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetVersions()
	}
	before := read(n)
	if len(before) != steps+1 {
		t.Fatalf("%d versions, want %d", len(before), steps+1)
	}
	var last [][16]byte
	for _, p := range before[steps].GetParts() {
		last = append(last, [16]byte(p))
	}
	if sum := fsm.SumHashes(last...); !bytes.Equal(sum[:], n.group(0).GetHash()) {
		t.Error("the last version's hash is not the one reported")
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, groupsFolder, "*", "*", hashesName))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, error %v", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("torn")); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again := run(t, cfg)
	again.obey(1, order(0, false, &proto.Member{Node: "ps-0", Address: again.server.Addr()}))
	eventually(t, "the shard is back", func() bool { return again.group(0).GetVersion() == steps })
	after := read(again)
	if len(after) != len(before) {
		t.Fatalf("%d versions after the restart, %d before", len(after), len(before))
	}
	for i := range after {
		if !bytes.Equal(after[i].GetParts()[0], before[i].GetParts()[0]) {
			t.Errorf("version %d has another hash after the restart", after[i].GetVersion())
		}
	}
}
