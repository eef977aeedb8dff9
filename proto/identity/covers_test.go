package identity

import "testing"

func TestCertificatesOfASetCoverItsPodsAndThoseOfItsPools(t *testing.T) {
	set := Identity{Cluster: "shop", Role: PS, Name: "shop-ps"}
	own := Identity{Cluster: "shop", Role: PS, Name: "ps-eu"}
	for _, c := range []struct {
		who  Identity
		node string
		want bool
	}{
		{set, "shop-ps", true}, {set, "shop-ps-0", true}, {set, "shop-ps-12", true},
		{set, "shop-ps-fast-0", true}, {set, "shop-ps-very-fast-12", true},
		{set, "shop-ps-", false}, {set, "shop-ps-x", false}, {set, "shop-ps-fast-", false}, {set, "shop-ps--0", false},
		{set, "shop-worker-0", false}, {set, "shop-ps0", false}, {set, "other-ps-0", false},
		{own, "ps-eu", true}, {own, "ps-eu-3", true}, {own, "ps-eu-west-3", false}, {own, "ps-3", false},
		{Identity{Cluster: "shop", Role: Worker, Name: "shop-ps"}, "shop-ps-fast-0", false},
	} {
		if got := c.who.Covers(c.node); got != c.want {
			t.Errorf("%s for %s: %v", c.who, c.node, got)
		}
	}
}
