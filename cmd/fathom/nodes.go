package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto"
)

func (a *app) newNodes() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the members of the cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withControl(&f, func(c control) error {
				nodes, err := c.Nodes(cmd.Context())
				if err != nil {
					return err
				}
				if f.output == outputJSON {
					all := []nodeJSON{}
					for _, n := range nodes {
						all = append(all, toNodeJSON(n))
					}
					return writeJSON(a.out, all)
				}
				rows := [][]string{{"node", "role", "pool", "alive", "replicas", "leads", "memory", "address", "metrics", "cpu"}}
				for _, n := range nodes {
					rows = append(rows, []string{n.GetNode(), n.GetRole(), dash(n.GetPool()), aliveOf(n), replicasOf(n, n.GetReplicas()), replicasOf(n, n.GetLeaders()), memoryOf(n), dash(n.GetAddress()), dash(n.GetMetricsAddress()), seconds(n.GetCpuSeconds())})
				}
				for _, l := range columns("llllrrrllr", rows) {
					fmt.Fprintln(a.out, l)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}

// nodeJSON is one node for programs.
type nodeJSON struct {
	Node           string  `json:"node"`
	Role           string  `json:"role"`
	Address        string  `json:"address,omitempty"`
	MetricsAddress string  `json:"metrics_address,omitempty"`
	Alive          bool    `json:"alive"`
	CPUSeconds     float64 `json:"cpu_seconds"`
	// What follows is of parameter servers.
	Pool        string `json:"pool,omitempty"`
	Draining    bool   `json:"draining,omitempty"`
	Replicas    uint32 `json:"replicas,omitempty"`
	Leaders     uint32 `json:"leaders,omitempty"`
	MemoryBytes uint64 `json:"memory_bytes,omitempty"`
	MemoryLimit uint64 `json:"memory_limit,omitempty"`
}

func toNodeJSON(n *proto.NodeStatus) nodeJSON {
	return nodeJSON{n.GetNode(), n.GetRole(), n.GetAddress(), n.GetMetricsAddress(), n.GetAlive(), finite(n.GetCpuSeconds()),
		n.GetPool(), n.GetDraining(), n.GetReplicas(), n.GetLeaders(), n.GetMemoryBytes(), n.GetMemoryLimit()}
}

func aliveOf(n *proto.NodeStatus) string {
	if n.GetDraining() && n.GetReplicas() == 0 {
		return yesNo(n.GetAlive()) + ", drained"
	}
	if n.GetDraining() {
		return yesNo(n.GetAlive()) + ", draining"
	}
	return yesNo(n.GetAlive())
}

// replicasOf shows a count of a parameter server; others have none.
func replicasOf(n *proto.NodeStatus, count uint32) string {
	if n.GetRole() != "ps" {
		return "-"
	}
	return strconv.FormatUint(uint64(count), 10)
}

func memoryOf(n *proto.NodeStatus) string {
	switch {
	case n.GetRole() != "ps":
		return "-"
	case n.GetMemoryLimit() == 0:
		return byteSize(n.GetMemoryBytes())
	}
	return byteSize(n.GetMemoryBytes()) + " of " + byteSize(n.GetMemoryLimit())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
