// Package store owns the coordinator's durable state: one small key-value
// contract with two twins, etcd and memory, and the election of the one
// coordinator that may write. It is the only package that knows etcd.
//
// There is no unfenced write. Reading is open to everyone; writing needs a
// Leadership, and every write is one transaction that holds only while the
// leader's election key is still the one it won with. A leader that was
// replaced while it was paused therefore cannot write, whatever its clock says.
//
// All methods may be called by several goroutines.
package store

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrNotFound says that a key does not exist.
	ErrNotFound = errors.New("key not found")
	// ErrFenced says that the writer is no longer the leader; nothing was written.
	ErrFenced = errors.New("no longer the leader")
	// ErrConflict says that the condition of a Create or CAS did not hold;
	// nothing was written.
	ErrConflict = errors.New("key was changed by another writer")
	// ErrNoLeader says that nobody leads at the moment.
	ErrNoLeader = errors.New("no leader")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Limits of what a store accepts, below those of etcd (1.5 MiB and 128
// operations for one request) so that both twins refuse the same writes.
const (
	// ValueBytesMax bounds the values of one transaction together.
	ValueBytesMax = 1400 << 10
	// OpsMax bounds the operations of one transaction.
	OpsMax = 100
)

// Entry is one key with its value. Revision grows with every write of the key
// and is what CAS compares; it is never 0.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64
}

// Store is the contract of both twins.
type Store interface {
	// Get returns one entry or ErrNotFound. The read is linearizable.
	Get(ctx context.Context, key string) (Entry, error)
	// Range returns all entries whose key begins with prefix, keys ascending,
	// as of one moment.
	Range(ctx context.Context, prefix string) ([]Entry, error)
	// Campaign waits until the candidate leads the named election. A candidacy
	// or leadership of an earlier process of the same node is removed at once,
	// so that a restarted coordinator does not wait for its own old lease.
	Campaign(ctx context.Context, election string, c Candidate) (Leadership, error)
	// Leader returns who leads, or ErrNoLeader.
	Leader(ctx context.Context, election string) (Candidate, error)
	// Close gives up what this store holds, leaderships included.
	Close() error
}

// Candidate is who stands for election.
type Candidate struct {
	Node    string `json:"node"`    // stable over restarts
	Address string `json:"address"` // where it serves, told to those it should serve
}

// Leadership is a won election, and the right to write.
type Leadership interface {
	// Term is larger than that of every earlier leadership of the election.
	Term() int64
	// Done is closed when the leadership is lost or can no longer be renewed;
	// it may still hold then, but must no longer be acted upon.
	Done() <-chan struct{}
	// Write applies all operations or none, and only while the leadership
	// holds: otherwise ErrFenced. A failed condition is ErrConflict. After any
	// other error the write may or may not have happened.
	Write(ctx context.Context, ops ...Op) error
	// Resign ends the leadership, so that the next candidate need not wait.
	Resign(ctx context.Context) error
}

// Op is one operation of a write.
type Op struct {
	kind     opKind
	key      string
	value    []byte
	revision int64
}

type opKind int

const (
	opPut opKind = iota
	opCreate
	opCAS
	opDelete
)

// Put writes a value, whatever was there.
func Put(key string, value []byte) Op { return Op{kind: opPut, key: key, value: value} }

// Create writes a value if the key does not exist.
func Create(key string, value []byte) Op { return Op{kind: opCreate, key: key, value: value} }

// CAS writes a value if the key is still at the given revision.
func CAS(key string, value []byte, revision int64) Op {
	return Op{kind: opCAS, key: key, value: value, revision: revision}
}

// Delete removes a key; removing an absent one is no error.
func Delete(key string) Op { return Op{kind: opDelete, key: key} }

// checkOps refuses what either twin could not store.
func checkOps(ops []Op) error {
	if len(ops) == 0 || len(ops) > OpsMax {
		return fmt.Errorf("a write of %d operations, want 1 to %d", len(ops), OpsMax)
	}
	size := 0
	for _, op := range ops {
		if op.key == "" {
			return errors.New("a write to the empty key")
		}
		size += len(op.key) + len(op.value)
	}
	if size > ValueBytesMax {
		return fmt.Errorf("a write of %d bytes, at most %d are possible", size, ValueBytesMax)
	}
	return nil
}
