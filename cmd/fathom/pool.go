package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/placement"
	"github.com/fathom-train/fathom/deploy/manifest"
)

// poolUsage is the form of --pool.
const poolUsage = "NAME=SERVERS[,memory=GIB][,cpu=THOUSANDTHS][,storage=SIZE][,storage-class=NAME][,node=LABEL:VALUE]...[,tolerate=TAINT[:VALUE]]..."

// parsePool reads one --pool.
func parsePool(text string) (manifest.Pool, error) {
	head, rest, more := strings.Cut(text, ",")
	name, servers, _ := strings.Cut(head, "=")
	p := manifest.Pool{Name: name, Nodes: map[string]string{}}
	fault := func(what string) error {
		return inputError{fmt.Errorf("--pool %s: %s; want %s", text, what, poolUsage)}
	}
	var err error
	if p.Servers, err = strconv.Atoi(servers); err != nil {
		return p, fault(fmt.Sprintf("%q is no number of servers", servers))
	}
	if !more {
		return p, nil
	}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(part, "=")
		if value == "" {
			return p, fault(fmt.Sprintf("%q has no value", key))
		}
		first, second, paired := strings.Cut(value, ":")
		switch key {
		case "memory":
			if p.Memory, err = strconv.ParseInt(value, 10, 32); err != nil || p.Memory < 1 {
				return p, fault(fmt.Sprintf("memory %q is no number of GiB", value))
			}
			p.Memory *= gib
		case "cpu":
			if p.CPU, err = strconv.Atoi(value); err != nil || p.CPU < 1 {
				return p, fault(fmt.Sprintf("cpu %q is no number of thousandths of a processor", value))
			}
		case "storage":
			p.Storage = value
		case "storage-class":
			p.StorageClass = value
		case "node":
			if !paired || first == "" {
				return p, fault(fmt.Sprintf("node %q is no label and value", value))
			}
			p.Nodes[first] = second
		case "tolerate":
			p.Tolerates = append(p.Tolerates, manifest.Taint{Key: first, Value: second})
		default:
			return p, fault(fmt.Sprintf("it has nothing called %q", key))
		}
	}
	return p, nil
}

// planPools reads the pools and plans the memory of each, and of the servers in
// none. What is planned lets a pool take over all shards from the others; what is
// given must hold the share that it gets when the job begins.
func (f *manifestFlags) planPools(j *job.Job) error {
	f.o.Pools = nil
	for _, text := range f.pools {
		p, err := parsePool(text)
		if err != nil {
			return err
		}
		f.o.Pools = append(f.o.Pools, p)
	}
	cluster, sizes := j.Spec.Cluster, f.o.ServersByPool(j)
	shares := placement.Shares(sizes, cluster.Shards, cluster.Replicas)
	plan := func(pool string, given int64, flag string) (int64, error) {
		n := sizes[pool]
		if n < cluster.Replicas { // there are none, or rendering refuses it
			return max(given, gib), nil
		}
		shards := cluster.Shards
		if given > 0 {
			shards = max(1, shares[pool])
		}
		return serverMemory(j, shards, n, f.rows, given, flag)
	}
	var err error
	if f.o.ServerMemory, err = plan("", f.server*gib, "--server-memory"); err != nil {
		return err
	}
	for i := range f.o.Pools {
		p := &f.o.Pools[i]
		given, flag := p.Memory, "--pool "+p.Name
		if given == 0 {
			given, flag = f.server*gib, "--server-memory"
		}
		if p.Memory, err = plan(p.Name, given, flag); err != nil {
			return err
		}
	}
	return nil
}
