package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/wire"
)

// TestFaultsOfTheSystemAreFound breaks what the system promises, at the seams
// of the simulation, and wants every breach to be noticed.
func TestFaultsOfTheSystemAreFound(t *testing.T) {
	known := baseline(t)
	push, pull := proto.ParameterServer_Push_FullMethodName, proto.ParameterServer_Pull_FullMethodName
	// sometimes calls f for every n-th call of a method.
	sometimes := func(n int, method string, f func(q, a *proto.Frame, call func(*proto.Frame) error) error) func(*cluster) {
		var mu sync.Mutex
		seen := 0
		return func(c *cluster) {
			c.calls.mutate = func(_ context.Context, m string, q, a *proto.Frame, call func(*proto.Frame) error) error {
				mu.Lock()
				if m == method {
					seen++
				}
				hit := m == method && seen%n == 0
				mu.Unlock()
				if hit {
					return f(q, a, call)
				}
				return call(q)
			}
		}
	}
	for name, c := range map[string]struct {
		alter func(*cluster)
		plan  schedule
		want  string
	}{
		"a push is acknowledged and lost": {
			sometimes(25, push, func(_, _ *proto.Frame, _ func(*proto.Frame) error) error { return nil }), schedule{}, "PHASE_TRAINING"},
		"a pull is answered with another value": {
			sometimes(20, pull, func(q, a *proto.Frame, call func(*proto.Frame) error) error {
				err := call(q)
				if b := a.GetBody(); err == nil && len(b) > 0 {
					b[len(b)-2] ^= 0x40
					wire.SealPullReply(b)
				}
				return err
			}), schedule{}, "answered with other values"},
		"disks lie about their syncs": {
			func(c *cluster) {
				for _, n := range c.nodes {
					if n.disk != nil {
						n.disk.lies.Store(true)
					}
				}
			},
			schedule{faults: slices.Repeat([]fault{{after: 150 * time.Millisecond, lasts: 50 * time.Millisecond, kind: "power all", nodes: servers, draw: 1}}, 6)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, found := trySimulate(t, "broken", rand.Uint64(), c.plan, known.copy(), c.alter)
			if len(found) == 0 && o.status.GetModelHash() == known.model {
				t.Fatal("nobody noticed")
			}
			all := strings.Join(found, "\n")
			if !strings.Contains(all, c.want) {
				t.Errorf("noticed as %q, want %q", all, c.want)
			}
			t.Logf("noticed: %.300s", all)
		})
	}
}
