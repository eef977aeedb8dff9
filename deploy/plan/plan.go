package plan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/coordinator/job"
)

// Role is what a process does in the cluster.
type Role string

// The roles, in the order in which they are started. They are stopped in the
// opposite order, so that nothing loses what it depends on.
const (
	Etcd        Role = "etcd"
	Coordinator Role = "coordinator"
	PS          Role = "ps"
	Worker      Role = "worker"
)

// Roles returns the roles in the order in which they are started.
func Roles() []Role { return []Role{Etcd, Coordinator, PS, Worker} }

// Port is one port that a process listens on, without a number yet.
type Port struct {
	Process string
	Name    string // client, peer, listen or metrics
}

// String returns the symbol that stands for the port's host:port in arguments.
func (p Port) String() string { return "{" + p.Process + "." + p.Name + "}" }

// DataDir stands for a process's own directory in its arguments.
const DataDir = "{data}"

// CredentialsDir stands for the directory of a process's own certificate.
const CredentialsDir = "{credentials}"

// Process is one process of the cluster.
type Process struct {
	// Name is unique in the plan and stable over restarts: etcd, coordinator,
	// ps-0, worker-0, ...
	Name string
	Role Role
	// Args are the command's arguments with symbols.
	Args []string
	// Ports are the ports the process listens on.
	Ports []Port
	// Data tells whether the process keeps data that a restart must find again.
	Data bool
	// Restart tells whether the process is started again when it ended unasked.
	Restart bool
}

// Plan is the processes of one cluster, in the order in which they are started.
type Plan struct {
	Job       string
	Processes []Process
}

// Options are what a plan needs besides the job.
type Options struct {
	// Threads of one worker's matrix products; default 1.
	Threads int
	// MemoryPercent is what one parameter server may use of the memory of the
	// machine it shares with the others; 0: its own default.
	MemoryPercent int
	// LogLevel of all processes but etcd: debug, info, warn or error; default
	// theirs.
	LogLevel string
	// ProfileDir is where the processes write profiles of themselves; empty: they
	// write none.
	ProfileDir string
	// Insecure leaves the connections between the processes in plain text.
	Insecure bool
}

// scheme of the URLs of etcd.
func (o Options) scheme() string {
	if o.Insecure {
		return "http"
	}
	return "https"
}

// ErrOptions is what every error about Options is.
var ErrOptions = errors.New("plan options")

// threadsMax bounds Options.Threads.
const threadsMax = 1024

func (o Options) validate() error {
	if o.Threads < 1 || o.Threads > threadsMax {
		return fmt.Errorf("%w: %d threads, not in [1, %d]", ErrOptions, o.Threads, threadsMax)
	}
	switch o.LogLevel {
	case "", "debug", "info", "warn", "error":
		return nil
	}
	return fmt.Errorf("%w: log level %q is none of debug, info, warn, error", ErrOptions, o.LogLevel)
}

// New returns the plan of a job whose defaults are filled in: one etcd, one
// coordinator, and the servers and workers that the job asks for.
func New(j *job.Job, o Options) (Plan, error) {
	if o.Threads == 0 {
		o.Threads = 1
	}
	if err := o.validate(); err != nil {
		return Plan{}, err
	}
	if err := j.Validate(); err != nil {
		return Plan{}, err
	}
	p := Plan{Job: j.Metadata.Name}
	p.Processes = append(p.Processes, etcd(o), coordinator(o))
	for i := range j.Spec.Cluster.PS {
		p.Processes = append(p.Processes, server(i, o))
	}
	for i := range j.Spec.Cluster.Workers {
		p.Processes = append(p.Processes, worker(i, o))
	}
	return p, nil
}

// The ports that other processes are told of.
var (
	EtcdClient        = Port{"etcd", "client"}
	CoordinatorListen = Port{"coordinator", "listen"}
)

func etcd(o Options) Process {
	peer := Port{"etcd", "peer"}
	o.LogLevel = "" // it would say a lot
	p := node("etcd", Etcd, o, []Port{EtcdClient, peer}, "--data-dir", DataDir,
		"--client-url", o.scheme()+"://"+EtcdClient.String(), "--peer-url", o.scheme()+"://"+peer.String())
	p.Data = true
	return p
}

func coordinator(o Options) Process {
	return node("coordinator", Coordinator, o, []Port{CoordinatorListen},
		"--listen", CoordinatorListen.String(), "--etcd", o.scheme()+"://"+EtcdClient.String())
}

func server(i int, o Options) Process {
	name := "ps-" + strconv.Itoa(i)
	listen := Port{name, "listen"}
	p := node(name, PS, o, []Port{listen},
		"--listen", listen.String(), "--data-dir", DataDir, "--coordinator", CoordinatorListen.String())
	if o.MemoryPercent > 0 {
		p.Args = append(p.Args, "--memory-limit", fmt.Sprintf("%d%%", o.MemoryPercent))
	}
	p.Data = true
	return p
}

func worker(i int, o Options) Process {
	return node("worker-"+strconv.Itoa(i), Worker, o, nil,
		"--coordinator", CoordinatorListen.String(), "--threads", strconv.Itoa(o.Threads))
}

// node returns a process with the flags that all roles share.
func node(name string, role Role, o Options, ports []Port, args ...string) Process {
	metrics := Port{name, "metrics"}
	p := Process{Name: name, Role: role, Restart: true, Ports: append(ports, metrics)}
	p.Args = append([]string{string(role), "--name", name}, args...)
	p.Args = append(p.Args, "--metrics", metrics.String())
	if o.Insecure {
		p.Args = append(p.Args, "--insecure")
	} else {
		p.Args = append(p.Args, "--credentials", CredentialsDir)
	}
	if o.LogLevel != "" {
		p.Args = append(p.Args, "--log-level", o.LogLevel)
	}
	if o.ProfileDir != "" {
		p.Args = append(p.Args, "--profile", o.ProfileDir)
	}
	return p
}

// Ports returns all ports of the plan.
func (p Plan) Ports() []Port {
	var all []Port
	for _, process := range p.Processes {
		all = append(all, process.Ports...)
	}
	return all
}

// Expand returns the arguments with the host:port of every port and the
// process's own directories in place of the symbols.
func (p Plan) Expand(args []string, address func(Port) string, dataDir, credentialsDir string) []string {
	symbols := []string{DataDir, dataDir, CredentialsDir, credentialsDir}
	for _, port := range p.Ports() {
		symbols = append(symbols, port.String(), address(port))
	}
	r := strings.NewReplacer(symbols...)
	expanded := make([]string, len(args))
	for i, a := range args {
		expanded[i] = r.Replace(a)
	}
	return expanded
}
