package fsm

import (
	"errors"
	"fmt"
)

var (
	// ErrUnconfigured says that the state machine has no schema yet.
	ErrUnconfigured = errors.New("shard is not configured")
	// ErrMismatch says that a command contradicts what the state holds:
	// another run, another schema, or other bytes for the same work.
	ErrMismatch = errors.New("command does not match the shard's state")
	// ErrAhead says that a push is for a step that cannot be open yet.
	ErrAhead = errors.New("push is ahead of the shard")
	// ErrInvalid says that a command is malformed or does not fit the schema.
	ErrInvalid = errors.New("invalid command")
	// ErrNotFinite says that a gradient is NaN, infinite or absurdly large;
	// it comes together with ErrInvalid.
	ErrNotFinite = errors.New("gradient is not finite")
	// ErrVersionGone says that a version is older than the pre-images kept.
	ErrVersionGone = errors.New("version is gone")
	// ErrNotReached says that a version is not reached yet.
	ErrNotReached = errors.New("version is not reached yet")
	// ErrWrongRun says that a read names another run of the job.
	ErrWrongRun = errors.New("read of another run")
	// ErrUnknownTable says that a read names a table the schema lacks.
	ErrUnknownTable = errors.New("unknown table")
	// ErrUnknownTensor says that a read names a dense tensor the schema lacks.
	ErrUnknownTensor = errors.New("unknown dense tensor")
	// ErrTooLarge says that a read asks for more than one reply may hold.
	ErrTooLarge = errors.New("read is too large")
	// ErrSnapshot says that a snapshot is damaged or of another format.
	ErrSnapshot = errors.New("bad snapshot")
)

// Status is the outcome of a command.
type Status uint8

// The outcomes. Only Accepted changes the state; Accepted and Duplicate are
// success for the sender.
const (
	Accepted     Status = iota + 1
	Duplicate           // was accepted before
	Ahead               // a push for a step that is not open yet
	Unconfigured        // a push before Configure
	Mismatch            // see ErrMismatch
	Invalid             // see ErrInvalid
)

// String returns the outcome's name.
func (s Status) String() string {
	switch s {
	case Accepted:
		return "accepted"
	case Duplicate:
		return "duplicate"
	case Ahead:
		return "ahead"
	case Unconfigured:
		return "unconfigured"
	case Mismatch:
		return "mismatch"
	case Invalid:
		return "invalid"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Result answers one command. It is the same on every replica.
type Result struct {
	Status Status
	// Version is the shard's version after the command.
	Version uint64
	// Complete says that all chunks of the push are there.
	Complete bool
	// Err says what is wrong unless Status is Accepted or Duplicate.
	Err error
}
