// Package client is the thin client of the coordinator, used by servers,
// workers and the command line. It knows several coordinator addresses, finds
// the one that leads, and follows it when the leadership moves.
//
// Session is the long-lived side: one node reports what it is and obeys what
// it is told. Control is the side of the command line.
//
// A coordinator that does not lead answers every call with UNAVAILABLE and,
// when it knows the leader, its address in the trailer LeaderTrailer; the
// client tries that address next.
package client

import "time"

// LeaderTrailer is the gRPC trailer in which a coordinator that does not lead
// names the address of the one that does. It is present on every refusal for
// that reason, and empty when no leader is known.
const LeaderTrailer = "fathom-leader"

const (
	// HeartbeatInterval is how often a session reports when nothing happens.
	HeartbeatInterval = 500 * time.Millisecond
	// EchoInterval is how often a coordinator repeats its last order when
	// nothing changed, so that a session notices a coordinator that hangs.
	EchoInterval = time.Second
	// SilenceMax is how long a session waits for a word of the coordinator
	// before it tries another.
	SilenceMax = 4 * time.Second
	// MessageBytesMax bounds one message in either direction.
	MessageBytesMax = 64 << 20
)
