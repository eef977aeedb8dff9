package main

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/local"
	"github.com/fathom-train/fathom/deploy/plan"
	"github.com/fathom-train/fathom/proto/identity"
)

// dataDir is where a local cluster keeps etcd's and the servers' data, within
// the working directory.
const dataDir = "data"

// serversPercent is what all parameter servers of a local cluster together may
// use of the machine's memory.
const serversPercent = 70

// localCluster is a local cluster as a run needs it.
type localCluster struct {
	*local.Cluster
	admin     *identity.Source // nil: plain text
	processes []string         // names
	counted   chan struct{}    // closed when all events have been counted

	// mu guards restarted.
	mu        sync.Mutex
	restarted map[string]int
}

// clusterOptions are what its processes are started with.
type clusterOptions struct {
	log        logLevel
	profileDir string // empty: no profiles
	insecure   bool
	// restartsMax is how often a process may die before the run is given up; 0:
	// the usual number.
	restartsMax int
}

// startLocal starts a job's processes on this machine.
func startLocal(ctx context.Context, j *job.Job, dir string, o clusterOptions, restarted func(process string, times int)) (cluster, error) {
	p, err := plan.New(j, plan.Options{LogLevel: o.log.String(), ProfileDir: o.profileDir, Insecure: o.insecure,
		MemoryPercent: max(1, serversPercent/j.Spec.Cluster.PS), Threads: max(1, runtime.NumCPU()/j.Spec.Cluster.Workers)})
	if err != nil {
		return nil, err
	}
	c, err := local.Start(ctx, p, local.Options{WorkDir: dir, RestartsMax: o.restartsMax})
	if err != nil {
		return nil, err
	}
	l := &localCluster{Cluster: c, counted: make(chan struct{}), restarted: map[string]int{}}
	if !o.insecure {
		if l.admin, err = identity.Load(local.CredentialsDir(dir, local.AdminName), nil); err != nil {
			l.kill()
			return nil, err
		}
	}
	for _, process := range p.Processes {
		l.processes = append(l.processes, process.Name)
	}
	go l.count(restarted)
	return l, nil
}

// count counts restarts until the cluster has been stopped.
func (l *localCluster) count(tell func(process string, times int)) {
	defer close(l.counted)
	for e := range l.Events() {
		if e.Kind != local.Restarted {
			continue
		}
		l.mu.Lock()
		l.restarted[e.Process]++
		times := l.restarted[e.Process]
		l.mu.Unlock()
		tell(e.Process, times)
	}
}

func (l *localCluster) identity() *identity.Source { return l.admin }

func (l *localCluster) coordinators() []string { return []string{l.CoordinatorAddress()} }

// metricsAddresses makes the cluster observed.
func (l *localCluster) metricsAddresses() map[string]string {
	addresses := map[string]string{}
	for _, name := range l.processes {
		if a, ok := l.Address(plan.Port{Process: name, Name: "metrics"}); ok {
			addresses[name] = a
		}
	}
	return addresses
}

// servers makes the cluster a victim.
func (l *localCluster) servers() map[string]string {
	addresses := map[string]string{}
	for _, name := range l.processes {
		if a, ok := l.Address(plan.Port{Process: name, Name: "listen"}); ok && strings.HasPrefix(name, string(plan.PS)+"-") {
			addresses[name] = a
		}
	}
	return addresses
}

func (l *localCluster) failed() <-chan error { return l.Err() }

func (l *localCluster) restarts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.restarted)
}

func (l *localCluster) stop() (cpu map[string]float64, err error) {
	if err := l.Stop(context.Background()); err != nil {
		return nil, fmt.Errorf("stop the cluster: %w", err)
	}
	<-l.counted
	cpu = map[string]float64{}
	for role, u := range l.Usage() {
		cpu[string(role)] = (u.User + u.System).Seconds()
	}
	return cpu, nil
}

func (l *localCluster) kill() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.Stop(now) // it reports what had to be killed, which is all
}
