package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/launch"
)

// changeable are the fields of a job that another launch may change: how many
// processes there are, on which the model does not depend.
var changeable = []string{"spec.cluster.workers", "spec.cluster.ps"}

// checkChange refuses to launch a job over one of its name that is another, and
// to take servers away that hold shards. left is how many servers each pool will
// have.
func (a *app) checkChange(ctx context.Context, c *launch.Cluster, j *job.Job, left map[string]int) error {
	spec, servers, err := c.Launched(ctx, j.Metadata.Name)
	if err != nil || spec == nil {
		return err
	}
	if err := otherJob(spec, j); err != nil {
		return err
	}
	fewer := false
	for pool, n := range servers {
		fewer = fewer || n > left[pool]
	}
	if !fewer {
		return nil
	}
	return a.reach(ctx, c, j.Metadata.Name, func(control control) error {
		return mayGo(ctx, control, j.Metadata.Name, left)
	})
}

// otherJob is an error when a job cannot become of the one that was launched
// under its name, in JSON. It names every field.
func otherJob(launched []byte, j *job.Job) error {
	name := j.Metadata.Name
	const remedy = "give the new one another name (--set metadata.name=NAME), or delete the old one with all it has trained first (fathom delete --purge %s)"
	before, err := job.FromJSON(launched)
	if err != nil {
		return inputError{fmt.Errorf("job %s was launched as something this version of fathom does not read: %w\n"+remedy, name, err, name)}
	}
	changed := slices.DeleteFunc(job.Differences(before, j), func(d job.Difference) bool { return slices.Contains(changeable, d.Path) })
	if len(changed) == 0 {
		return nil
	}
	text := fmt.Sprintf("job %s was launched as another job, and what a job trains cannot change:", name)
	for _, d := range changed {
		text += "\n" + d.String()
	}
	return inputError{fmt.Errorf("%s\n"+remedy+"; only %s can change", text, name, strings.Join(changeable, " and "))}
}

// mayGo is an error while servers of a job hold shards that are not among those
// that each pool is left with.
func mayGo(ctx context.Context, c control, job string, left map[string]int) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, n := range nodes {
		set := job + "-ps"
		if n.GetPool() != "" {
			set += "-" + n.GetPool()
		}
		number, err := strconv.Atoi(strings.TrimPrefix(n.GetNode(), set+"-"))
		if n.GetRole() != "ps" || err != nil || number < left[n.GetPool()] || n.GetReplicas() == 0 {
			continue
		}
		faults = append(faults, fmt.Errorf("server %s still holds %d shards: fathom node drain %s, and launch again when fathom nodes shows none", n.GetNode(), n.GetReplicas(), n.GetNode()))
	}
	if len(faults) > 0 {
		return inputError{errors.Join(faults...)}
	}
	return nil
}
