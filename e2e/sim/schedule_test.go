package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"encoding/binary"
	"hash/crc32"
)

// fault is one line of a schedule.
type fault struct {
	after time.Duration // since the one before
	lasts time.Duration
	kind  string
	nodes []string
	draw  uint64 // for what else is random in it
}

func (f fault) String() string {
	return fmt.Sprintf("+%v %s %s for %v", f.after, f.kind, strings.Join(f.nodes, " "), f.lasts)
}

// schedule is what happens in one run. It is a function of the seed alone.
type schedule struct {
	twice, late, lost float64
	faults            []fault
}

func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "duplicates %.2f, late copies %.2f, lost answers %.2f", s.twice, s.late, s.lost)
	for _, f := range s.faults {
		fmt.Fprintf(&b, "\n  %v", f)
	}
	return b.String()
}

var (
	servers      = []string{"ps-0", "ps-1", "ps-2"}
	workers      = []string{"worker-0", "worker-1"}
	coordinators = []string{"c-0", "c-1"}
)

// kinds are the faults there are, and to whom they happen.
var kinds = []struct {
	kind string
	of   []string
}{
	{"kill", servers}, {"kill", servers}, {"kill", workers}, {"kill", coordinators},
	{"power", servers}, {"power all", servers}, {"flip", servers},
	{"freeze", servers}, {"freeze", workers}, {"freeze", coordinators},
	{"cut", nil}, {"cut both", nil}, {"reset", servers}, {"slow", nil},
	{"disk full", servers}, {"disk hang", servers}, {"sync error", servers}, {"disk slow", servers},
	{"expire", coordinators[:1]}, {"store fails", coordinators},
}

// plan draws a schedule. Every seed enables other faults, so that some runs
// see many of one kind (swarm testing).
func plan(seed uint64) schedule {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	var s schedule
	if rng.IntN(2) == 0 {
		s.twice, s.late, s.lost = rng.Float64()/4, rng.Float64()/8, rng.Float64()/8
	}
	enabled := rng.Perm(len(kinds))[:2+rng.IntN(len(kinds)-2)]
	everyone := append(append(append([]string(nil), servers...), workers...), coordinators...)
	flipped := false
	for range 2 + rng.IntN(7) {
		k := kinds[enabled[rng.IntN(len(enabled))]]
		f := fault{kind: k.kind, draw: rng.Uint64(),
			after: time.Duration(rng.IntN(500)) * time.Millisecond, lasts: time.Duration(20+rng.IntN(1500)) * time.Millisecond}
		switch {
		case k.kind == "power all":
			f.nodes = servers
		case k.of == nil:
			p := rng.Perm(len(everyone))
			f.nodes = []string{everyone[p[0]], everyone[p[1]]}
		default:
			f.nodes = []string{k.of[rng.IntN(len(k.of))]}
		}
		if k.kind == "flip" {
			if flipped {
				continue // a second replica of a shard may be gone for good
			}
			flipped = true
		}
		s.faults = append(s.faults, f)
	}
	return s
}

// run lets the schedule happen and returns when everything is whole again.
func (s schedule) run(c *cluster) {
	var pending sync.WaitGroup
	for _, f := range s.faults {
		<-time.After(f.after)
		c.log.Info("fault", "fault", f.String())
		undo := c.inject(f)
		pending.Go(func() {
			<-time.After(f.lasts)
			undo()
			c.log.Info("fault is over", "fault", f.String())
		})
	}
	pending.Wait()
	for _, n := range c.nodes {
		c.start(n)
	}
}

// inject makes a fault and returns what ends it.
func (c *cluster) inject(f fault) (undo func()) {
	rng := rand.New(rand.NewPCG(f.draw, 1))
	n := c.node(f.nodes[0])
	again := func() { c.start(n) }
	switch f.kind {
	case "kill":
		c.kill(n, false)
		return again
	case "power":
		c.powerOff(n, rng)
		return again
	case "power all":
		for _, name := range f.nodes {
			c.powerOff(c.node(name), rng)
		}
		return func() {
			for _, name := range f.nodes {
				c.start(c.node(name))
			}
		}
	case "flip":
		c.kill(n, false)
		n.mu.Lock()
		// Before the groups are formed a damaged log is nobody's to replace.
		if n.proc == nil && c.calls.trained() {
			n.disk.flip(rng)
		}
		n.mu.Unlock()
		return again
	case "freeze":
		return c.cutOff([]string{n.name}, append(c.names(""), "cli"), true)
	case "cut":
		return c.cutOff(f.nodes[:1], f.nodes[1:], false)
	case "cut both":
		return c.cutOff(f.nodes[:1], f.nodes[1:], true)
	case "reset":
		c.net.drop(n.name)
	case "slow":
		d := time.Duration(20+rng.IntN(200)) * time.Millisecond
		c.net.delay(f.nodes[0], f.nodes[1], d)
		return func() { c.net.delay(f.nodes[0], f.nodes[1], 0) }
	case "disk full", "disk hang", "sync error", "disk slow":
		return c.disturbDisk(n, f.kind, rng)
	case "expire":
		c.memory.Expire("fathom/leader")
	case "store fails":
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.proc != nil {
			n.proc.store.failNext(rng.IntN(2) == 0)
		}
	default:
		panic("no fault " + f.kind)
	}
	return func() {}
}

// cutOff partitions two sets of nodes, in one direction or both.
func (c *cluster) cutOff(from, to []string, both bool) (heal func()) {
	c.net.partition(from, to)
	if both {
		c.net.partition(to, from)
	}
	return func() {
		c.net.heal(from, to)
		if both {
			c.net.heal(to, from)
		}
	}
}

func (c *cluster) disturbDisk(n *node, kind string, rng *rand.Rand) (undo func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.disk
	switch kind {
	case "disk full":
		d.full.Store(true)
		// The node may have been restarted, with a copy of the disk.
		return func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			d.full.Store(false)
			n.disk.full.Store(false)
		}
	case "sync error":
		d.failSync.Store(true)
	case "disk slow":
		d.slow.Store(int64(time.Duration(10+rng.IntN(200)) * time.Millisecond))
		return func() { d.slow.Store(0) }
	case "disk hang":
		if n.hung == nil {
			n.hung = d.hang()
		}
		return func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.hung != nil {
				n.hung()
				n.hung = nil
			}
		}
	}
	return func() {}
}

// powerOff ends a machine. The tail files, which are never synced when they
// grow, may be older than the logs.
func (c *cluster) powerOff(n *node, rng *rand.Rand) {
	c.kill(n, true)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		return
	}
	tails, err := filepath.Glob(filepath.Join(n.dir, "groups", "*", "*", "wal-tail"))
	if err != nil {
		panic(err)
	}
	for _, path := range tails {
		b, err := os.ReadFile(path)
		if err != nil || len(b) != 20 || rng.IntN(2) == 0 {
			continue
		}
		last := binary.LittleEndian.Uint64(b[8:])
		binary.LittleEndian.PutUint64(b[8:], rng.Uint64N(last+1))
		binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[:16], crc32.MakeTable(crc32.Castagnoli)))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			c.wrong.Errorf("%v", err)
		}
	}
}
