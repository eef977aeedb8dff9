package coordinator

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fathom-train/fathom/coordinator/store"
)

// Every leader of one store tells the servers the same identity, and a store
// that was lost has another one.
func TestTheStoreHasAnIdentity(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		told := func(on store.Store, names ...string) (identities map[string]bool) {
			t.Helper()
			identities = map[string]bool{}
			for _, name := range names {
				_, stop := c.coordinatorOn(name, on)
				n := c.server("ps-of-"+name, nil, name)
				<-time.After(10 * time.Second) // of the bubble: the order has come by then
				synctest.Wait()
				n.mu.Lock()
				for _, o := range n.orders {
					identities[o.GetCluster()] = true
				}
				if len(n.orders) == 0 {
					t.Errorf("%s was told nothing", name)
				}
				n.mu.Unlock()
				stop()
			}
			return identities
		}
		first, second := store.NewMemory(), store.NewMemory()
		a := told(first.Open(), "c0", "c1")
		b := told(second.Open(), "c2")
		if len(a) != 1 || len(b) != 1 || a[""] || b[""] {
			t.Fatalf("identities %v and %v, want one each", a, b)
		}
		for id := range a {
			if b[id] {
				t.Error("two stores have the same identity")
			}
		}
	})
}
