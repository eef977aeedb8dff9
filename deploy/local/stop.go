package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fathom-train/fathom/deploy/plan"
)

func (c *Cluster) isStopping() bool {
	select {
	case <-c.stopping:
		return true
	default:
		return false
	}
}

// Stop ends all processes: workers first, then servers, coordinator and etcd,
// each role asked to end and killed after StopTimeout. When ctx ends, or Stop is
// called a second time, what is left is killed at once. It returns when nothing
// runs any more; the error tells what had to be killed.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.stops++
	stops := c.stops
	if stops == 1 {
		close(c.stopping)
	} else if stops == 2 {
		close(c.hurry)
	}
	c.mu.Unlock()
	if stops > 1 {
		<-c.done
		return c.stopErr
	}
	var killed []string
	roles := plan.Roles()
	slices.Reverse(roles)
	for _, role := range roles {
		killed = append(killed, c.stopRole(ctx, role)...)
	}
	var err error
	if len(killed) > 0 {
		err = fmt.Errorf("stop cluster: did not end in time and were killed: %s", strings.Join(killed, ", "))
	}
	c.stopErr = errors.Join(err, c.cleanUp())
	close(c.done)
	return c.stopErr
}

// stopNow kills everything; Start uses it when the cluster did not come up.
func (c *Cluster) stopNow() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Stop(ctx) // the reason why it did not come up matters more
}

// stopRole ends the processes of a role and returns those it had to kill.
func (c *Cluster) stopRole(ctx context.Context, role plan.Role) (killed []string) {
	var members []*member
	for _, m := range c.started {
		if m.process.Role == role {
			members = append(members, m)
		}
	}
	for _, m := range members {
		// A process that has just ended needs no signal.
		_ = m.signal(syscall.SIGTERM)
	}
	timeout := time.NewTimer(c.options.StopTimeout)
	defer timeout.Stop()
	late := false
	for _, m := range members {
		if !late {
			select {
			case <-m.ended:
				continue
			case <-timeout.C:
			case <-c.hurry:
			case <-ctx.Done():
			}
			late = true
		}
		select {
		case <-m.ended:
			continue
		default:
		}
		if pid, running := m.pid(); running {
			c.emit(Event{Process: m.process.Name, Kind: Killed, PID: pid})
			killed = append(killed, m.process.Name)
		}
		_ = m.signal(syscall.SIGKILL) // fails only when it has ended
		<-m.ended
	}
	return killed
}

// cleanUp gives back what prepare took.
func (c *Cluster) cleanUp() error {
	var errs []error
	for _, m := range c.members {
		if err := m.log.close(); err != nil {
			// What the cluster did does not depend on it.
			c.emit(Event{Process: m.process.Name, Kind: LogLost, Detail: err.Error()})
		}
	}
	if c.launcher != nil {
		c.launcher.close()
	}
	if c.ports != nil {
		c.ports.release(c.plan.Ports())
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	close(c.events)
	return errors.Join(errs...)
}
