package e2e

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// TestCheckpointsInAnObjectStore: a run that was killed goes on from a checkpoint
// in an S3-compatible store, on a cluster of another size, to the same model.
func TestCheckpointsInAnObjectStore(t *testing.T) {
	t.Parallel()
	backend := s3mem.New()
	if err := backend.CreateBucket("models"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	location := fmt.Sprintf("s3://models/ctr?region=us-east-1&endpoint=%s&use_path_style=true", server.URL)

	job := writeFile(t, "small.yaml", smallJob)
	want := start(t, nil, "run", job, "--ps", "1", "--replicas", "1").result(limit)
	dir := killedRun(t, job, 50, "spec.checkpoint.dir="+location)
	if out, _ := cli(t, 0, "checkpoint", "verify", location); !strings.Contains(out, "is sound: step ") {
		t.Errorf("verify: %s", out)
	}
	got := startIn(t, dir, nil, "run", "--from-checkpoint", "--ps", "1", "--replicas", "1", "--shards", "3").result(limit)
	if got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
	}
}
