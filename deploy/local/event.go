package local

import "fmt"

// EventKind is what happened to a process.
type EventKind string

// The kinds of events.
const (
	Ready     EventKind = "ready"     // it serves, for the first time
	Died      EventKind = "died"      // it ended unasked and will be started again
	Restarted EventKind = "restarted" // it serves again
	Killed    EventKind = "killed"    // it did not end when asked to
	Failed    EventKind = "failed"    // it cannot be kept running
	LogLost   EventKind = "lost log"  // lines of its log could not be written
)

// Event is one thing that happened to a process.
type Event struct {
	Process string
	Kind    EventKind
	PID     int
	// Detail says more, like how the process ended; it may be empty.
	Detail string
}

// String returns the event in the words of a log line: "restarted ps-1".
func (e Event) String() string {
	s := fmt.Sprintf("%s %s", e.Kind, e.Process)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// eventsMax bounds the events that wait for a reader. Beyond it the oldest are
// dropped: they are news for a person, and no process may wait for one.
const eventsMax = 256

// Events returns what happens from now on and what nobody has read yet. It is
// closed when the cluster has been stopped.
func (c *Cluster) Events() <-chan Event { return c.events }

// emit logs and publishes an event.
func (c *Cluster) emit(e Event) {
	log := c.options.Logger.Info
	if e.Kind != Ready && e.Kind != Restarted {
		log = c.options.Logger.Warn
	}
	log("process "+string(e.Kind), "process", e.Process, "pid", e.PID, "detail", e.Detail)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	for {
		select {
		case c.events <- e:
			return
		default:
		}
		select {
		case <-c.events:
		default:
		}
	}
}
