package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fathom-train/fathom/deploy/certs"
	"github.com/fathom-train/fathom/deploy/plan"
	"github.com/fathom-train/fathom/proto/identity"
)

// Cluster is a plan that runs.
type Cluster struct {
	plan     plan.Plan
	options  Options
	lock     *os.File
	ports    *ports
	launcher *launcher
	// members are in the plan's order and never change.
	members []*member
	// started are the members that are supervised; Start alone adds to it.
	started []*member
	events  chan Event
	failed  chan error
	// stopping is closed by the first Stop, hurry by the second, done when all
	// processes have ended.
	stopping, hurry, done chan struct{}

	launching sync.Mutex // one start at a time
	mu        sync.Mutex // guards all below
	usage     map[plan.Role]*Usage
	stops     int
	ended     bool
	stopErr   error
}

// Start runs the plan and returns when every process serves. It starts the
// roles one after the other, as later ones need earlier ones. When a process
// does not come up, or ctx ends, everything is stopped again.
func Start(ctx context.Context, p plan.Plan, o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		plan: p, options: o, usage: map[plan.Role]*Usage{},
		events: make(chan Event, eventsMax), failed: make(chan error, 1),
		stopping: make(chan struct{}), hurry: make(chan struct{}), done: make(chan struct{}),
	}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, c.cleanUp())
	}
	for _, role := range plan.Roles() {
		if err := c.startRole(ctx, role); err != nil {
			c.stopNow()
			return nil, err
		}
	}
	return c, nil
}

// prepare takes the directory and the ports.
func (c *Cluster) prepare() (err error) {
	dir := c.options.WorkDir
	for _, d := range []string{dir, filepath.Join(dir, "logs"), filepath.Join(dir, "data")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("create working directory: %w", err)
		}
	}
	if c.lock, err = lockDir(dir); err != nil {
		return err
	}
	if c.ports, err = allocate(c.plan.Ports(), portsFile(dir)); err != nil {
		return err
	}
	if err := c.issue(); err != nil {
		return err
	}
	c.launcher = newLauncher()
	for _, process := range c.plan.Processes {
		log, err := openLog(LogFile(dir, process.Name), c.options.LogBytesMax)
		if err != nil {
			return err
		}
		c.members = append(c.members, &member{cluster: c, process: process, log: log,
			ready: make(chan struct{}), ended: make(chan struct{})})
		if process.Data {
			if err := os.MkdirAll(DataDir(dir, process.Name), 0o755); err != nil {
				return fmt.Errorf("create data directory: %w", err)
			}
		}
	}
	return nil
}

// issue makes certificates for the processes, and one for commands. They are
// made anew at every start; the authority stays.
func (c *Cluster) issue() error {
	dir := c.options.WorkDir
	ca, err := certs.OpenOrCreate(CredentialsDir(dir, "ca"), "local")
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	for _, p := range c.plan.Processes {
		r := certs.Request{Role: identity.Role(p.Role), Name: p.Name, Hosts: []string{host, "localhost", "::1"}}
		if err := ca.Issue(CredentialsDir(dir, p.Name), r); err != nil {
			return err
		}
	}
	return ca.Issue(CredentialsDir(dir, AdminName), certs.Request{Role: identity.Admin, Name: AdminName})
}

// startRole starts all processes of a role and waits until they serve.
func (c *Cluster) startRole(ctx context.Context, role plan.Role) error {
	var members []*member
	for _, m := range c.members {
		if m.process.Role == role {
			members = append(members, m)
			go m.supervise()
		}
	}
	c.started = append(c.started, members...)
	timeout := time.NewTimer(c.options.ReadyTimeout)
	defer timeout.Stop()
	for _, m := range members {
		select {
		case <-m.ready:
		case err := <-c.failed:
			return fmt.Errorf("start cluster: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("start cluster: %s is not ready yet: %w", m.process.Name, context.Cause(ctx))
		case <-timeout.C:
			return fmt.Errorf("start cluster: %s is not ready after %v; the end of %s:\n%s",
				m.process.Name, c.options.ReadyTimeout, m.log.path, m.log.end())
		}
	}
	return nil
}

// launch starts a command once its ports are free for it.
func (c *Cluster) launch(cmd *exec.Cmd, ports []plan.Port) error {
	c.launching.Lock()
	defer c.launching.Unlock()
	c.ports.release(ports)
	return c.launcher.start(cmd)
}

// fail reports that the cluster cannot go on; the first report counts.
func (c *Cluster) fail(err error) {
	select {
	case c.failed <- err:
	default:
	}
}

// account adds what an ended process has used.
func (c *Cluster) account(role plan.Role, cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.usage[role] == nil {
		c.usage[role] = &Usage{}
	}
	c.usage[role].add(cmd.ProcessState)
}

// Err delivers the reason when a process cannot be kept running. The others run
// on until Stop.
func (c *Cluster) Err() <-chan error { return c.failed }

// CoordinatorAddress returns host:port of the coordinator's gRPC services.
func (c *Cluster) CoordinatorAddress() string { return c.ports.address(plan.CoordinatorListen) }

// Address returns host:port of a port of the plan, and false if it has none.
func (c *Cluster) Address(p plan.Port) (string, bool) {
	_, ok := c.ports.number[p]
	return c.ports.address(p), ok
}

// Process returns the process id of a process, and false when it does not run
// at the moment.
func (c *Cluster) Process(name string) (pid int, running bool) {
	m, err := c.member(name)
	if err != nil {
		return 0, false
	}
	return m.pid()
}

// Kill ends a process at once, as a crash would; it is started again.
func (c *Cluster) Kill(name string) error { return c.Signal(name, syscall.SIGKILL) }

// Signal sends a signal to a process.
func (c *Cluster) Signal(name string, s syscall.Signal) error {
	m, err := c.member(name)
	if err != nil {
		return err
	}
	return m.signal(s)
}

func (c *Cluster) member(name string) (*member, error) {
	for _, m := range c.members {
		if m.process.Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknownProcess, name)
}
