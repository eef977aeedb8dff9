package replica

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
)

// Member is one replica of a group.
type Member struct {
	// Node is the name of its server, stable over restarts.
	Node string
	// Replica tells the replicas apart that a node has held, one after the other,
	// of this shard. One that lost its disk comes back under a new number, so
	// nobody takes it for the voter that remembers what it acknowledged.
	Replica uint32
	// Address is where it is reached now.
	Address string
	// Role is what it is to become; see Reconfigure.
	Role Role
}

// Role is what the plan of a group wants of a member.
type Role uint8

const (
	// Voter counts for majorities and may lead.
	Voter Role = iota
	// Learner gets everything and counts for nothing: it is catching up.
	Learner
	// Leaving is a voter that is in service until its successor votes.
	Leaving
	// Lost is a voter that will not come back: it gives way before its successor
	// votes, because a majority that counts it is harder to reach.
	Lost
)

// ID is the name by which raft knows the replica.
func (m Member) ID() string {
	if m.Replica == 0 {
		return m.Node
	}
	return fmt.Sprintf("%s%c%d", m.Node, replicaMark, m.Replica)
}

// replicaMark stands before the number of a replica, in raft's names, in
// addresses and in the name of a group on the wire.
const replicaMark = '#'

// nodeOf returns the node in a replica's ID.
func nodeOf(id string) string {
	node, _, _ := strings.Cut(id, string(replicaMark))
	return node
}

// Config describes one replica. The zero value of everything after Members is
// the documented default.
type Config struct {
	// Dir holds log and snapshots of this replica and nothing else.
	Dir string
	// Group names the raft group on the wire; at most 255 bytes. Runs of a job
	// must have different names, or an old replica could talk to a new one.
	Group string
	// Node, Replica and Address are this replica's own; it is one of Members.
	Node    string
	Replica uint32
	Address string
	// Members are all replicas that may have to be reached. Who votes is in the
	// log; see Reconfigure.
	Members []Member
	// Bootstrap allows to form the group from empty directories: Members are its
	// first voters.
	Bootstrap bool
	// Seed writes the snapshot the group begins from, the same on every first
	// voter (default: it begins with an empty state). It counts only where
	// Bootstrap does.
	Seed func(w io.Writer) error
	// Join allows to begin with an empty directory in a group that exists: the
	// replica has never been a voter, and learns from the leader.
	Join bool

	// Heartbeat is how long a follower waits for the leader before it stands for
	// election, and the election timeout (default 500 ms). The leader's lease is
	// half of it.
	Heartbeat time.Duration
	// CommitTimeout is how long a leader waits for more entries before it tells
	// followers of a commit (default 50 ms).
	CommitTimeout time.Duration
	// OutstandingBytes bounds what is proposed and not yet committed
	// (default 8 MiB); proposals above it wait. OutstandingEntries likewise
	// (default 256).
	OutstandingBytes   int64
	OutstandingEntries int64
	// TrailingEntries stay in the log behind a snapshot. It must be greater than
	// OutstandingEntries (default twice that), or a former leader with a stale
	// tail restores snapshots for ever (hashicorp/raft #697).
	TrailingEntries uint64
	// SnapshotBytes of commands are applied between two snapshots (default
	// 128 MiB), or as many as the last snapshot was large, if that is more: then
	// snapshots cost no more than the log itself.
	SnapshotBytes int64
	// SegmentBytes is the size of a log file (default 16 MiB).
	SegmentBytes int
	// Files holds the log's segments (default: files in Dir).
	Files Files
	// Wrap may stand in front of the log.
	Wrap func(Disk) Disk
	// CachedEntries of the log are kept in memory for slow followers (default 64).
	CachedEntries int
	// DiskTimeout is the longest a write to the log may take (default 5 s).
	DiskTimeout time.Duration
	// RestoresMax is how many snapshots may be restored without one entry applied
	// in between before the node counts as stuck (default 5).
	RestoresMax int

	// Snapshots, if not nil, is acquired while a snapshot is taken: those of
	// several groups of a server then follow each other, and only one of them
	// copies memory.
	Snapshots *semaphore.Weighted

	// Logger gets what matters; default: nothing is logged.
	Logger *slog.Logger
	// Metrics counts; default: unregistered.
	Metrics *Metrics
	// OnFatal is told, once, why the process must end (ErrDiskStalled).
	OnFatal func(error)
	// OnChange is called after leadership or Err changed. It must not block.
	OnChange func()
}

func (c Config) withDefaults() Config {
	setDefault(&c.Heartbeat, 500*time.Millisecond)
	setDefault(&c.CommitTimeout, 50*time.Millisecond)
	setDefault(&c.OutstandingBytes, 8<<20)
	setDefault(&c.OutstandingEntries, 256)
	setDefault(&c.TrailingEntries, uint64(2*c.OutstandingEntries))
	setDefault(&c.SnapshotBytes, 128<<20)
	setDefault(&c.SegmentBytes, 16<<20)
	setDefault(&c.CachedEntries, 64)
	setDefault(&c.DiskTimeout, 5*time.Second)
	setDefault(&c.RestoresMax, 5)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.OnFatal == nil {
		c.OnFatal = func(error) {}
	}
	if c.OnChange == nil {
		c.OnChange = func() {}
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("the directory is not named"))
	}
	if c.Group == "" || len(c.Group) > 255 {
		errs = append(errs, fmt.Errorf("group name %q must have 1 to 255 bytes", c.Group))
	}
	own, seen := false, map[string]bool{}
	for _, m := range c.Members {
		if m.Node == "" || m.Address == "" || seen[m.ID()] {
			errs = append(errs, fmt.Errorf("members have %q at %q twice or without name or address", m.ID(), m.Address))
		}
		if strings.ContainsRune(m.Node, replicaMark) {
			errs = append(errs, fmt.Errorf("name %q of a node must not contain %q", m.Node, replicaMark))
		}
		seen[m.ID()] = true
		own = own || m.ID() == c.self().ID()
	}
	if !own {
		errs = append(errs, fmt.Errorf("replica %s is not one of the members", c.self().ID()))
	}
	return errors.Join(errs...)
}

func (c Config) self() Member { return Member{Node: c.Node, Replica: c.Replica, Address: c.Address} }
