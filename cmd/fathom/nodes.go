package main

import (
	"fmt"

	"github.com/spf13/cobra"
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
						all = append(all, nodeJSON{n.GetNode(), n.GetRole(), n.GetAddress(), n.GetMetricsAddress(), n.GetAlive(), finite(n.GetCpuSeconds())})
					}
					return writeJSON(a.out, all)
				}
				rows := [][]string{{"node", "role", "alive", "address", "metrics", "cpu"}}
				for _, n := range nodes {
					rows = append(rows, []string{n.GetNode(), n.GetRole(), yesNo(n.GetAlive()), dash(n.GetAddress()), dash(n.GetMetricsAddress()), seconds(n.GetCpuSeconds())})
				}
				for _, l := range columns("lllllr", rows) {
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
