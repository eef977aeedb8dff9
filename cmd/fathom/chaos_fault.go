package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/plan"
)

// chaosFault is one fault of a plan.
type chaosFault struct {
	kind  faultKind
	names []string // processes; of kindLeader: none, it is found out
	lasts time.Duration
	// at is the part of the job's steps after which it happens.
	at float64
}

type faultKind string

const (
	kindKill   faultKind = "kill -9"
	kindStop   faultKind = "stop"
	kindLeader faultKind = "kill -9 the leader of shard 0"
)

// String names the fault as the table shows it.
func (f chaosFault) String() string {
	s := string(f.kind)
	switch {
	case len(f.names) > 3:
		s += fmt.Sprintf(" %d processes", len(f.names))
	default:
		for _, n := range f.names {
			s += " " + n
		}
	}
	if f.kind == kindStop {
		s += fmt.Sprintf(" for %.1fs", f.lasts.Seconds())
	}
	return s
}

// drawFaults plans n faults, spread evenly over the job. The plan is a function
// of seed, number and the job's cluster. With leaders all are of kindLeader.
func drawFaults(seed uint64, n int, leaders bool, j *job.Job) []chaosFault {
	rng := rand.New(rand.NewPCG(seed, 0xc4a05))
	byRole := map[plan.Role][]string{plan.Etcd: {"etcd"}, plan.Coordinator: {"coordinator"}}
	for i := range j.Spec.Cluster.PS {
		byRole[plan.PS] = append(byRole[plan.PS], fmt.Sprint("ps-", i))
	}
	for i := range j.Spec.Cluster.Workers {
		byRole[plan.Worker] = append(byRole[plan.Worker], fmt.Sprint("worker-", i))
	}
	var everyone []string
	for _, r := range plan.Roles() {
		everyone = append(everyone, byRole[r]...)
	}
	one := func(r plan.Role) []string { return byRole[r][rng.IntN(len(byRole[r])):][:1] }
	faults := make([]chaosFault, n)
	for i := range faults {
		f := chaosFault{kind: kindKill, lasts: time.Duration(200+rng.IntN(2300)) * time.Millisecond,
			at: (float64(i) + rng.Float64()) / float64(n+1)}
		switch draw := rng.IntN(20); {
		case leaders || draw < 5:
			f.kind = kindLeader
		case draw < 7:
			f.names = one(plan.PS)
		case draw < 10:
			f.names = one(plan.Worker)
		case draw < 12:
			f.names = one(plan.Coordinator)
		case draw < 13:
			f.names = one(plan.Etcd)
		case draw < 14:
			f.names = byRole[plan.Worker]
		case draw < 15:
			f.names = byRole[plan.PS]
		case draw < 16:
			f.names = everyone
		default:
			f.kind, f.names = kindStop, one(plan.Roles()[rng.IntN(len(plan.Roles()))])
		}
		faults[i] = f
	}
	return faults
}
