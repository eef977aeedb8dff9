package sim

import (
	"context"
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
	{"power", servers}, {"power", servers}, {"power all", servers}, {"flip", servers},
	{"freeze", servers}, {"freeze", workers}, {"freeze", coordinators},
	{"cut", nil}, {"cut both", nil}, {"reset", servers}, {"slow", nil},
	{"disk full", servers}, {"disk hang", servers}, {"sync error", servers}, {"disk slow", servers},
	{"expire", coordinators[:1]}, {"store fails", coordinators}, {"kill at write", coordinators}, {"kill at write", coordinators},
	{"disk lost", servers}, {"server joins", []string{spareServer}}, {"drain", servers},
	{"worker joins", []string{spareWorker}}, {"checkpoint", coordinators[:1]}, {"checkpoint", coordinators[:1]},
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
	damaged := false
	for range 2 + rng.IntN(7) {
		k := kinds[enabled[rng.IntN(len(enabled))]]
		f := fault{kind: k.kind, draw: rng.Uint64(),
			after: time.Duration(rng.IntN(250)) * time.Millisecond, lasts: time.Duration(20+rng.IntN(1500)) * time.Millisecond}
		switch {
		case k.kind == "power all":
			f.nodes = servers
		case k.of == nil:
			p := rng.Perm(len(everyone))
			f.nodes = []string{everyone[p[0]], everyone[p[1]]}
		default:
			f.nodes = []string{k.of[rng.IntN(len(k.of))]}
		}
		// A shard may have lost a replica's data for good only once.
		if k.kind == "flip" || k.kind == "disk lost" {
			if damaged {
				continue
			}
			damaged = true
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
		if v := c.calls.version(); v > 0 && v < steps {
			seen.add(faultInTime, 1)
		} else {
			seen.add(faultElse, 1)
		}
		undo := c.inject(f)
		pending.Go(func() {
			<-time.After(f.lasts)
			undo()
			c.log.Info("fault is over", "fault", f.String())
		})
	}
	pending.Wait()
	c.asked.Wait()
	for _, n := range c.nodes {
		if !n.spare {
			c.start(n)
		}
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
		c.awaitWrite(n, rng)
		c.powerOff(n, rng)
		return again
	case "power all":
		c.awaitWrite(n, rng)
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
		if n.proc == nil && c.calls.trained() && (rng.IntN(3) > 0 || !c.flipSnapshot(n, rng)) {
			n.flipped = n.disk.flip(rng)
		}
		n.mu.Unlock()
		return again
	case "disk lost":
		c.kill(n, true)
		n.mu.Lock()
		if n.proc == nil && c.calls.trained() {
			c.loseDisk(n)
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
		seen.add(leaseExpired, 1)
		c.memory.Expire("fathom/leader")
	case "store fails":
		c.failStore(n, failingWrite{happens: rng.IntN(2) == 0, then: func() {}})
	case "kill at write":
		c.failStore(n, failingWrite{happens: rng.IntN(2) == 0, then: func() {
			seen.add(storeKilled, 1)
			c.ghosts.Go(func() {
				c.kill(n, false)
				<-time.After(f.lasts)
				c.start(n)
			})
		}})
	case "server joins":
		c.join(n, nodeAdded)
	case "worker joins":
		c.join(n, workerJoined)
		return func() {
			c.kill(n, false)
			n.mu.Lock()
			n.spare = true
			n.mu.Unlock()
		}
	case "drain":
		// Somebody must be there to take the replicas.
		c.join(c.node(spareServer), nodeAdded)
		drain := func(undo bool) func(context.Context) error {
			return func(ctx context.Context) error { _, err := c.ctl.Drain(ctx, n.name, undo); return err }
		}
		c.ask(drain(false), nodeDrained)
		return func() { c.ask(drain(true), nodeReturned) }
	case "checkpoint":
		c.ask(func(ctx context.Context) error {
			info, err := c.ctl.Checkpoint(ctx, "")
			if err == nil {
				c.checkpoint.Store(info)
			}
			return err
		}, checkpointed)
	default:
		panic("no fault " + f.kind)
	}
	return func() {}
}

// failStore makes a coordinator's next write fail.
func (c *cluster) failStore(n *node, w failingWrite) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		n.proc.store.failNext(w)
	}
}

// join starts a node that was not there.
func (c *cluster) join(n *node, what string) {
	n.mu.Lock()
	was := n.spare
	n.spare = false
	n.mu.Unlock()
	if was {
		seen.add(what, 1)
		c.start(n)
	}
}

// askLimit is how long an operator waits for an answer.
const askLimit = 20 * time.Second

// ask is what an operator wants of the coordinator; it may refuse.
func (c *cluster) ask(what func(context.Context) error, done string) {
	c.asked.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		defer cancel()
		if err := what(ctx); err != nil {
			c.log.Info("the coordinator refuses", "wish", done, "error", err)
			return
		}
		seen.add(done, 1)
	})
}

// flipSnapshot damages a bit of a snapshot and reports whether there was one.
func (c *cluster) flipSnapshot(n *node, rng *rand.Rand) bool {
	files, err := filepath.Glob(filepath.Join(n.dir, "groups", "*", "*", "snapshots", "*", "*.*"))
	if err != nil {
		panic(err)
	}
	if len(files) == 0 {
		return false
	}
	path := files[rng.IntN(len(files))]
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return false
	}
	b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		c.wrong.Errorf("%v", err)
	}
	seen.add(snapFlip, 1)
	return true
}

// loseDisk gives a server that is down an empty disk.
func (c *cluster) loseDisk(n *node) {
	seen.add(diskGone, 1)
	n.lives++
	n.disk, n.dir = newDisk(), filepath.Join(c.scratch, n.name, fmt.Sprint(n.lives))
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

// awaitWrite waits for a moment at which a server writes, if there is one soon.
func (c *cluster) awaitWrite(n *node, rng *rand.Rand) {
	if rng.IntN(4) == 0 {
		return
	}
	for range 400 {
		n.mu.Lock()
		writing := n.disk.writing()
		n.mu.Unlock()
		if writing {
			return
		}
		<-time.After(syncTime / 2)
	}
}

// powerOff ends a machine. The tail files, which are never synced when they
// grow, may be older than the logs.
func (c *cluster) powerOff(n *node, rng *rand.Rand) {
	c.kill(n, true)
	n.mu.Lock()
	defer n.mu.Unlock()
	// With a flipped bit in the log, the tail file is what shows that entries are
	// missing: it must not be lost as well.
	if n.proc != nil || n.flipped {
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
