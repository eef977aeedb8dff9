package replica

import (
	"errors"
	"fmt"
)

var (
	// ErrNotLeader says that another replica has to be asked; see NotLeaderError.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknown says that a proposal may or may not have been applied: send the
	// same bytes again.
	ErrUnknown = errors.New("outcome unknown, send again")
	// ErrOverloaded says that there was no room for a proposal in time; nothing
	// of it was accepted.
	ErrOverloaded = errors.New("too much is outstanding")
	// ErrNoData refuses to start a voter from an empty directory: it may have
	// voted and acknowledged entries that are gone now.
	ErrNoData = errors.New("replica has no data and its group is formed already")
	// ErrDamaged says that a log or snapshot on this disk is not what was written.
	ErrDamaged = errors.New("damaged data")
	// ErrDiverged says that the other replicas hold other bits than this one, by
	// the same log: its memory, processor or disk is at fault.
	ErrDiverged = errors.New("replica diverged from the others")
	// ErrDiskStalled is the fatal error of a disk that does not answer: only the
	// end of the process makes the group elect another leader.
	ErrDiskStalled = errors.New("disk stalled")
	// ErrRestart says that the raft node is stuck and that closing and opening
	// the group again cures it.
	ErrRestart = errors.New("raft node must be restarted")
	// ErrClosed says that the group was closed.
	ErrClosed = errors.New("replica closed")
	// ErrNotReady says that the state machine is not configured or did not reach
	// the wanted version in time.
	ErrNotReady = errors.New("version not reached")
)

// NotLeaderError is ErrNotLeader with the name of the node that leads, as far
// as this replica knows.
type NotLeaderError struct {
	// Leader is empty when no leader is known.
	Leader string
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return "not the leader, no leader is known"
	}
	return fmt.Sprintf("not the leader, %s leads", e.Leader)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// damagedError names the damaged file.
type damagedError struct {
	file string
	err  error
}

func damaged(file string, format string, args ...any) error {
	return &damagedError{file: file, err: fmt.Errorf(format, args...)}
}

func (e *damagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.file, e.err) }

func (e *damagedError) Unwrap() error { return e.err }

// Is makes errors.Is(err, ErrDamaged) true.
func (e *damagedError) Is(target error) bool { return target == ErrDamaged }
