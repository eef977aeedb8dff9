package plan_test

import (
	"slices"
	"testing"

	"github.com/fathom-train/fathom/deploy/plan"
)

func TestEveryProcessIsProfiledWhenAsked(t *testing.T) {
	p, err := plan.New(parse(t), plan.Options{ProfileDir: "/profiles"})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range p.Processes {
		at := slices.Index(q.Args, "--profile")
		if at < 0 || at+1 == len(q.Args) || q.Args[at+1] != "/profiles" {
			t.Errorf("%s is started with %q", q.Name, q.Args)
		}
	}
}
