package replica

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Raft never answers what was in its queue when it was shut down, and a
		// future cannot be given up: see Propose.
		goleak.IgnoreAnyFunction("github.com/fathom-train/fathom/ps/replica.(*Group).collect"))
}
