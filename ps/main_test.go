package ps

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// serve is what the test binary does instead of testing when a benchmark starts
// it as a server.
var serve func() error

func TestMain(m *testing.M) {
	if serve != nil {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
