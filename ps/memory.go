package ps

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/wire"
)

const (
	// memoryShare of what the machine, or the container, has is used unless
	// another limit is given: the rest is for logs on their way, buffers and the
	// collector.
	memoryShare = 0.8
	// stateShare is how much state a push of one byte makes at most: 12 bytes and
	// a float per weight become a row with three slots per weight and its place
	// in the index.
	stateShare = 8
	// memoryLook is how old the count of all groups may be while there is plenty.
	memoryLook = 250 * time.Millisecond
)

// MachineMemory returns the bytes that this process may use according to its
// control group and the machine; 0 when neither tells.
func MachineMemory() uint64 {
	var least uint64
	take := func(n uint64, err error) {
		if err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(path); err == nil { // "max" is no number: no limit
			take(strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64))
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib uint64
		_, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kib)
		take(kib<<10, err)
	}
	return least
}

// DefaultMemoryLimit is the limit when none is given.
func DefaultMemoryLimit() uint64 { return uint64(memoryShare * float64(MachineMemory())) }

// memory keeps what this server holds below its limit. The decision is made by
// the leader before a push enters the log: in the state machine, replicas on
// servers with other limits would decide differently.
type memory struct {
	limit uint64 // 0: none

	// mu guards what follows.
	mu      sync.Mutex
	counted time.Time
	used    uint64 // as counted
	since   uint64 // at most what was admitted since
}

// use counts what the groups hold, and what the snapshot of the largest of them
// may copy: snapshots of a server are taken one at a time.
func (s *Server) use() (held, copied uint64) {
	for _, h := range s.all() {
		h.inspect(func(state *fsm.State) {
			n := state.StateBytes()
			held += n
			copied = max(copied, n)
		})
	}
	return held, copied
}

// admit refuses a push whose new rows do not fit into the memory.
func (s *Server) admit(h *hosted, shard uint32, chunks [][]byte) error {
	m := &s.memory
	if m.limit == 0 {
		return nil
	}
	var most uint64
	for _, c := range chunks {
		most += stateShare * uint64(len(c))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.counted) < memoryLook && m.used+2*(m.since+most) <= m.limit {
		m.since += most
		return nil
	}
	held, copied := s.use()
	m.used, m.counted, m.since = held+copied, time.Now(), most
	if m.used+2*most <= m.limit {
		return nil
	}
	var grows uint64
	var p wire.Push
	for _, c := range chunks {
		if err := wire.ParsePush(c, &p); err != nil {
			return err
		}
		h.inspect(func(state *fsm.State) { grows += state.Growth(&p) })
	}
	if grows == 0 || m.used+2*grows <= m.limit {
		return nil
	}
	return refuse(proto.Reason_REASON_MEMORY,
		"parameter server %s has no memory for new rows: shard %d would grow by %d bytes; the server holds %d bytes, a snapshot may copy %d more, and its limit is %d: "+
			"add parameter servers, which take replicas over (fathom ps), raise --memory-limit, or give the job fewer or narrower rows",
		s.cfg.Node, shard, grows, held, copied, m.limit)
}
