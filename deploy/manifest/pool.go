package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/fathom-train/fathom/coordinator/job"
)

// Pool is servers apart from the others: on other nodes, with other storage, or
// of another size. All replicas of a shard are in one pool, so that each pool may
// be rolled and disturbed as if it were alone.
type Pool struct {
	// Name is a DNS label that begins with a letter.
	Name string
	// Servers is how many there are: at least as many as a shard has replicas.
	Servers int
	// Memory is requested and the limit, in bytes; CPU is requested, in
	// thousandths; 0: as for the other servers.
	Memory int64
	CPU    int
	// Storage and StorageClass of the volumes; empty: as for the other servers.
	Storage, StorageClass string
	// Nodes are labels of the nodes that the servers may be on; none: any.
	Nodes map[string]string
	// Tolerates are the taints of nodes that are no obstacle.
	Tolerates []Taint
}

// Taint is one of a node, with any effect. Empty values are any value.
type Taint struct{ Key, Value string }

// PoolLabel is on what belongs to a pool; what has none belongs to no pool.
const PoolLabel = "fathom.dev/pool"

// poolName is what pods' names can have in them, and not like the number of one.
var poolName = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)

// poolsMax bounds the pools of a job.
const poolsMax = 16

// Unpooled is how many servers are in no pool.
func (o Options) Unpooled(servers int) int {
	for _, p := range o.Pools {
		servers -= p.Servers
	}
	return servers
}

// ServersByPool is how many servers of a job each pool has; those in none are
// under the empty name.
func (o Options) ServersByPool(j *job.Job) map[string]int {
	all := map[string]int{"": o.Unpooled(j.Spec.Cluster.PS)}
	for _, p := range o.Pools {
		all[p.Name] = p.Servers
	}
	return all
}

func (r render) checkPools() error {
	cluster := r.job.Spec.Cluster
	if len(r.o.Pools) > poolsMax {
		return fmt.Errorf("%w: %d pools, at most %d are possible", ErrOptions, len(r.o.Pools), poolsMax)
	}
	seen := map[string]bool{}
	for _, p := range r.o.Pools {
		switch {
		case !poolName.MatchString(p.Name):
			return fmt.Errorf("%w: pool %q: want a letter, then letters, digits and '-', all lower case", ErrOptions, p.Name)
		case seen[p.Name]:
			return fmt.Errorf("%w: pool %s is named twice", ErrOptions, p.Name)
		case p.Servers < cluster.Replicas:
			return fmt.Errorf("%w: pool %s has %d servers, the %d replicas of a shard need as many in one pool (spec.cluster.replicas)", ErrOptions, p.Name, p.Servers, cluster.Replicas)
		case p.Memory <= 0 || p.CPU <= 0:
			return fmt.Errorf("%w: pool %s: want more than no memory and no processors", ErrOptions, p.Name)
		}
		seen[p.Name] = true
	}
	if left := r.o.Unpooled(cluster.PS); left < 0 || left > 0 && left < cluster.Replicas {
		return fmt.Errorf("%w: spec.cluster.ps is %d, the pools have %d: the %d that are left must be none, or at least as many as a shard has replicas (%d)",
			ErrOptions, cluster.PS, cluster.PS-left, left, cluster.Replicas)
	}
	return nil
}

// poolSets are the names of the pools' StatefulSets.
func (r render) poolSets() []string {
	var all []string
	for _, p := range r.o.Pools {
		all = append(all, r.poolName(p.Name))
	}
	return all
}

// poolName is the name of the objects of a pool; the one of the servers in no
// pool is empty.
func (r render) poolName(pool string) string {
	if pool == "" {
		return r.name(compPS)
	}
	return r.name(compPS) + "-" + pool
}

// pools are all pools, of which the first may be that of the servers in none.
func (r render) pools() []Pool {
	var all []Pool
	if n := r.o.Unpooled(r.job.Spec.Cluster.PS); n > 0 {
		all = append(all, Pool{Servers: n, Memory: r.o.ServerMemory, CPU: r.o.ServerCPU, Storage: r.o.ServerStorage, StorageClass: r.o.StorageClass})
	}
	return append(all, r.o.Pools...)
}

// poolLabels select a pool's pods.
func (r render) poolLabels(pool string) Object {
	labels := r.labels(compPS)
	if pool != "" {
		labels[PoolLabel] = pool
	}
	return labels
}

// poolSelector selects the pods of one pool alone; those in no pool are told
// from others by what they lack.
func (r render) poolSelector(pool string) Object {
	selector := Object{"matchLabels": r.poolLabels(pool)}
	if pool == "" && len(r.o.Pools) > 0 {
		selector["matchExpressions"] = []any{Object{"key": PoolLabel, "operator": "DoesNotExist"}}
	}
	return selector
}

// poolMeta is the metadata of an object of a pool.
func (r render) poolMeta(pool string) Object {
	meta := r.meta(r.poolName(pool), compPS)
	if pool != "" {
		meta["labels"].(Object)[PoolLabel] = pool
	}
	return meta
}

// place says on which nodes a pool's pods may be.
func (p Pool) place(spec Object) {
	if len(p.Nodes) > 0 {
		selector := Object{}
		for _, key := range slices.Sorted(maps.Keys(p.Nodes)) {
			selector[key] = p.Nodes[key]
		}
		spec["nodeSelector"] = selector
	}
	var all []any
	for _, t := range p.Tolerates {
		toleration := Object{"key": t.Key, "operator": "Exists"}
		if t.Value != "" {
			toleration = Object{"key": t.Key, "operator": "Equal", "value": t.Value}
		}
		all = append(all, toleration)
	}
	if len(all) > 0 {
		spec["tolerations"] = all
	}
}
