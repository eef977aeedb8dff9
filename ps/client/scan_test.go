package client

import (
	"errors"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/shard"
)

func TestScanReadsEveryRowOfAShardOnce(t *testing.T) {
	t.Parallel()
	all, routes := states(t, 2)
	c := NewLocal(run, routes, all)
	pushAndPull(t, c, 2)
	got := map[shard.Key][]float32{}
	for i := range c.Shards() {
		err := c.Scan(t.Context(), i, 1, 0, func(keys []shard.Key, w []float32) error {
			for j, k := range keys {
				got[k] = slices.Clone(w[j*width : (j+1)*width])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != len(keys) {
		t.Errorf("%d rows, want %d", len(got), len(keys))
	}
	for i, k := range keys {
		if want := []float32{10 - float32(2*i), 10 - float32(2*i+1)}; !slices.Equal(got[k], want) {
			t.Errorf("row %#x is %v, want %v", uint64(k), got[k], want)
		}
	}
	stop := errors.New("stop")
	if err := c.Scan(t.Context(), 0, 1, 0, func([]shard.Key, []float32) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the caller: %v", err)
	}
	if err := c.Scan(t.Context(), 0, 0, 0, nil); !errors.Is(err, fsm.ErrVersionGone) {
		t.Errorf("scan of a version before: %v", err)
	}
}
