package replica

import (
	"testing"

	"go.uber.org/goleak"
)

// A proposal that raft never answers would be found here: see Group.release.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
