package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto/identity"
)

func (a *app) newHash() *cobra.Command {
	var (
		f    controlFlags
		run  string
		job  string
		step int64
	)
	cmd := &cobra.Command{
		Use:   "hash",
		Short: "Print the state hash of a model after a step",
		Long: `Print the state hash of a model after a step, of the whole and by table.

Two models with the same hash are the same to the last bit, whatever their
clusters. The servers keep the hash of every step of a job until the next job
begins; a local run leaves them in its working directory (--run DIR).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if run != "" {
				h, err := readHashHistory(run)
				if err != nil {
					return err
				}
				return a.printHash(h, step, f.output)
			}
			return a.withIdentity(&f, func(c control, self *identity.Source) error {
				h, err := collectHashes(cmd.Context(), c, self, job)
				if err != nil {
					return err
				}
				return a.printHash(h, step, f.output)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&job, "job", "", "name of the job (default the newest)")
	cmd.Flags().Int64Var(&step, "step", -1, "the step (default the last one)")
	cmd.Flags().StringVar(&run, "run", "", "working directory of a run, instead of a cluster")
	return cmd
}

// hashJSON is the hash of one step for programs.
type hashJSON struct {
	Job       string            `json:"job"`
	Step      uint64            `json:"step"`
	StateHash string            `json:"state_hash"`
	Tables    map[string]string `json:"tables"`
}

func (a *app) printHash(h *hashHistory, step int64, out output) error {
	steps := h.wholeSteps()
	if len(steps) == 0 {
		return errors.New("no step is known of all shards")
	}
	at := steps[len(steps)-1]
	if step >= 0 {
		at = uint64(step)
	}
	if !h.whole(at) {
		return inputError{fmt.Errorf("the hash of step %d is not known, only of steps between %d and %d", at, steps[0], steps[len(steps)-1])}
	}
	j := hashJSON{Job: h.job, Step: at, StateHash: h.model(at), Tables: map[string]string{}}
	for table, hash := range h.tables(at) {
		j.Tables[table] = hex.EncodeToString(hash[:])
	}
	if out == outputJSON {
		return writeJSON(a.out, j)
	}
	fmt.Fprintf(a.out, "step %d: %s\n", j.Step, j.StateHash)
	for _, t := range slices.Sorted(maps.Keys(j.Tables)) {
		fmt.Fprintf(a.out, "  %s  %s\n", j.Tables[t], t)
	}
	return nil
}

func (a *app) newDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff RUN_A RUN_B",
		Short: "Find the first step at which two runs differ",
		Long: `Find the first step at which two runs differ, and the tables and shards that do.

The runs are the working directories of two local runs. Tables are compared
whatever the number of shards; shards only where both runs cut the keys alike.`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			x, err := readHashHistory(args[0])
			if err != nil {
				return err
			}
			y, err := readHashHistory(args[1])
			if err != nil {
				return err
			}
			text, same, err := compareRuns(x, y)
			if err != nil {
				return err
			}
			if !same {
				return errors.New(text)
			}
			fmt.Fprintln(a.out, text)
			return nil
		},
	}
}

// compareRuns tells where two runs part.
func compareRuns(x, y *hashHistory) (text string, same bool, err error) {
	common := slices.DeleteFunc(x.wholeSteps(), func(s uint64) bool { return !y.whole(s) })
	if len(common) == 0 {
		return "", false, inputError{errors.New("the runs have no step in common of which all shards are known")}
	}
	for i, step := range common {
		if x.model(step) == y.model(step) {
			continue
		}
		var b strings.Builder
		fmt.Fprintf(&b, "the runs differ from step %d on: %s and %s", step, x.model(step), y.model(step))
		if i > 0 {
			fmt.Fprintf(&b, "\nthe last step at which they are equal is %d", common[i-1])
		}
		tx, ty := x.tables(step), y.tables(step)
		for _, t := range slices.Sorted(maps.Keys(tx)) {
			if tx[t] != ty[t] {
				fmt.Fprintf(&b, "\ntable %s differs%s", t, shardsOf(x, y, step, t))
			}
		}
		for _, t := range slices.Sorted(maps.Keys(ty)) {
			if _, ok := tx[t]; !ok {
				fmt.Fprintf(&b, "\ntable %s is only in the second run", t)
			}
		}
		return b.String(), false, nil
	}
	return fmt.Sprintf("equal at all %d common steps, %d to %d", len(common), common[0], common[len(common)-1]), true, nil
}

// shardsOf lists the shards in which a table differs, when they can be compared.
func shardsOf(x, y *hashHistory, step uint64, table string) string {
	if !maps.Equal(x.ranges, y.ranges) {
		return " (the runs have other shards, so they are not compared)"
	}
	var differ []string
	for _, s := range slices.Sorted(maps.Keys(x.ranges)) {
		if x.steps[step][part{s, table}] != y.steps[step][part{s, table}] {
			differ = append(differ, fmt.Sprint(s))
		}
	}
	return " in shard " + strings.Join(differ, ", ")
}
