package local

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/fathom-train/fathom/deploy/plan"
)

// Usage is what the ended processes of one role have used, over all restarts.
type Usage struct {
	// Processes counts process starts that have ended.
	Processes int
	// User and System are CPU time.
	User, System time.Duration
	// MemoryPeak is the largest resident size of any one of them, in bytes.
	MemoryPeak int64
}

func (u *Usage) add(s *os.ProcessState) {
	u.Processes++
	u.User += s.UserTime()
	u.System += s.SystemTime()
	if r, ok := s.SysUsage().(*syscall.Rusage); ok {
		peak := int64(r.Maxrss)
		if runtime.GOOS != "darwin" { // there it is in bytes already
			peak *= 1024
		}
		u.MemoryPeak = max(u.MemoryPeak, peak)
	}
}

// Usage returns what ended processes have used, by role. A process that still
// runs is not counted, so the sums are complete after Stop.
func (c *Cluster) Usage() map[plan.Role]Usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[plan.Role]Usage{}
	for role, u := range c.usage {
		all[role] = *u
	}
	return all
}
