package local

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/fathom-train/fathom/deploy/plan"
)

// exitInput is the exit code of a process whose input is wrong: starting it
// again cannot help.
const exitInput = 64

// pipeDelay is how long a dead process's pipes are read when something else
// holds them open.
const pipeDelay = 2 * time.Second

// member is one process of the plan over all of its restarts.
type member struct {
	cluster *Cluster
	process plan.Process
	log     *logFile
	// ready is closed when the process serves for the first time, ended when it
	// is not kept running any more.
	ready, ended chan struct{}
	once         sync.Once // closes ready

	mu     sync.Mutex // guards all below
	cmd    *exec.Cmd  // running, or nil
	starts int
}

// supervise keeps the process running until the cluster stops or gives it up.
func (m *member) supervise() {
	defer close(m.ended)
	o := m.cluster.options
	var deaths []time.Time // within the window
	delay := o.BackoffMin
	for {
		begun := time.Now()
		detail, final := m.runOnce()
		if m.cluster.isStopping() {
			return
		}
		now := time.Now()
		deaths = append(deaths, now)
		for now.Sub(deaths[0]) > o.RestartWindow {
			deaths = deaths[1:]
		}
		if final || !m.process.Restart || len(deaths) > o.RestartsMax {
			m.giveUp(detail, len(deaths))
			return
		}
		if now.Sub(begun) > o.BackoffMax {
			delay = o.BackoffMin // it was well in between
		}
		m.cluster.emit(Event{Process: m.process.Name, Kind: Died, Detail: detail})
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-m.cluster.stopping:
			timer.Stop()
			return
		}
		delay = min(2*delay, o.BackoffMax)
	}
}

func (m *member) giveUp(detail string, deaths int) {
	if deaths > 1 {
		detail = fmt.Sprintf("%s, for the %d. time within %v", detail, deaths, m.cluster.options.RestartWindow)
	}
	m.cluster.emit(Event{Process: m.process.Name, Kind: Failed, Detail: detail})
	m.cluster.fail(fmt.Errorf("%s: %s; the end of %s:\n%s", m.process.Name, detail, m.log.path, m.log.end()))
}

// runOnce starts the process and waits for its end. It says how it ended, and
// whether starting it again is pointless.
func (m *member) runOnce() (detail string, final bool) {
	cmd, err := m.start()
	if err != nil {
		if errors.Is(err, ErrStopped) {
			return "", true
		}
		return fmt.Sprintf("cannot be started: %v", err), false
	}
	err = cmd.Wait()
	m.mu.Lock()
	m.cmd = nil
	m.mu.Unlock()
	m.cluster.account(m.process.Role, cmd)
	if err == nil {
		return "ended unasked with status 0", false
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return fmt.Sprintf("ended with status %d", code), code == exitInput
	}
	return "ended by " + cmd.ProcessState.String(), false
}

// start starts the process unless the cluster is being stopped. The check and
// the start are one step under mu, so that a stop sees every process.
func (m *member) start() (*exec.Cmd, error) {
	c := m.cluster
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.isStopping() {
		return nil, ErrStopped
	}
	args := c.plan.Expand(m.process.Args, c.ports.address, DataDir(c.options.WorkDir, m.process.Name), CredentialsDir(c.options.WorkDir, m.process.Name))
	cmd := exec.Command(c.options.Binary, args...)
	cmd.Env = append(cmd.Environ(), c.options.Env...)
	cmd.Stderr = m.log
	cmd.WaitDelay = pipeDelay
	m.starts++
	again := m.starts > 1
	// The pid is set before the process can say that it is ready.
	pid := make(chan int, 1)
	cmd.Stdout = &readyWatcher{next: m.log, ready: func() { m.isReady(<-pid, again) }}
	if err := c.launch(cmd, m.process.Ports); err != nil {
		return nil, err
	}
	fmt.Fprintf(m.log, "# process %d, start %d\n", cmd.Process.Pid, m.starts)
	pid <- cmd.Process.Pid
	m.cmd = cmd
	return cmd, nil
}

func (m *member) isReady(pid int, again bool) {
	kind := Ready
	if again {
		kind = Restarted
	}
	m.cluster.emit(Event{Process: m.process.Name, Kind: kind, PID: pid})
	m.once.Do(func() { close(m.ready) })
}

// signal sends a signal to the running process.
func (m *member) signal(s syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return fmt.Errorf("%s: %w", m.process.Name, ErrNotRunning)
	}
	if err := m.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", m.process.Name, err)
	}
	return nil
}

func (m *member) pid() (int, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return 0, false
	}
	return m.cmd.Process.Pid, true
}
