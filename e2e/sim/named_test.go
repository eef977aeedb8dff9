package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/fathom-train/fathom/coordinator/job"
)

// TestNamedFaults runs the schedules of docs/faults.md that have a name there; the
// random ones of TestSimulation meet them by chance only. All of them begin once
// the job trains.
func TestNamedFaults(t *testing.T) {
	const ms = time.Millisecond
	// Longer than the usual job, so that faults one after the other find it training.
	longer := func(c *cluster) { c.change = func(j *job.Job) { j.Spec.Train.Epochs = 4 } }
	known := newTruth()
	if known.model = simulate(t, "named-", 0, schedule{}, known, longer).status.GetModelHash(); known.model == "" {
		t.Fatal("the undisturbed run has no model")
	}
	all := func(kind string, lasts time.Duration, nodes ...string) (f []fault) {
		for _, n := range nodes {
			f = append(f, fault{kind: kind, lasts: lasts, nodes: []string{n}, draw: 1})
		}
		return f
	}
	cut := func(kind string, lasts time.Duration, from string, to ...string) fault {
		return fault{kind: kind, lasts: lasts, nodes: append([]string{from}, to...), draw: 1}
	}
	apart := func(after time.Duration, faults ...fault) []fault {
		for i := range faults {
			faults[i].after = after
		}
		return faults
	}
	rest := append(append([]string{"ps-1", "ps-2"}, workers...), coordinators...)
	for name, s := range map[string]schedule{
		"N01 every server is alone for two seconds, one after the other": {faults: apart(2500*ms, all("freeze", 2000*ms, servers...)...)},
		"N04 a server hears and cannot send":                             {faults: []fault{cut("cut", 3000*ms, "ps-0", rest...)}},
		"N05 a server sends and cannot hear": {faults: []fault{
			cut("cut", 3000*ms, "ps-1", "ps-0"), cut("cut", 3000*ms, "ps-2", "ps-0"),
			cut("cut", 3000*ms, "worker-0", "ps-0"), cut("cut", 3000*ms, "worker-1", "ps-0")}},
		"N06 two servers hear each other only through the third": {faults: []fault{cut("cut both", 3000*ms, "ps-0", "ps-2")}},
		"N07 a worker reaches no server":                         {faults: []fault{cut("cut both", 3000*ms, "worker-0", servers...)}},
		"N10 a worker reaches no coordinator":                    {faults: []fault{cut("cut both", 3000*ms, "worker-0", coordinators...)}},
		"N11 a server's link comes and goes every 200 ms": {
			faults: apart(400*ms, slices.Repeat([]fault{cut("cut both", 200*ms, "ps-0", rest...)}, 25)...)},
		"N13 nodes are cut off one by one and come back in another order": {faults: apart(100*ms,
			fault{kind: "freeze", lasts: 2500 * ms, nodes: []string{"ps-1"}, draw: 1},
			fault{kind: "freeze", lasts: 600 * ms, nodes: []string{"worker-0"}, draw: 1},
			fault{kind: "freeze", lasts: 1600 * ms, nodes: []string{"c-0"}, draw: 1},
			fault{kind: "freeze", lasts: 300 * ms, nodes: []string{"ps-2"}, draw: 1},
			fault{kind: "freeze", lasts: 900 * ms, nodes: []string{"worker-1"}, draw: 1})},
		"N14 a network that loses a tenth, which TCP turns into delays and broken connections": {lost: 0.1, late: 0.1,
			faults: slices.Concat(
				[]fault{cut("slow", 20000*ms, "ps-0", "ps-1"), cut("slow", 20000*ms, "ps-1", "ps-2"), cut("slow", 20000*ms, "worker-0", "ps-2"), cut("slow", 20000*ms, "ps-2", "worker-1")},
				apart(500*ms, slices.Repeat(all("reset", 10*ms, servers...), 4)...))},
		"M01 every push is sent twice":            {twice: 1},
		"M02 pushes come again behind newer":      {late: 0.5},
		"M05 answers get lost":                    {lost: 0.2},
		"D06 D08 R08 all disks are slow":          {faults: all("disk slow", 8000*ms, servers...)},
		"K15 a worker dies twenty times":          {faults: apart(150*ms, slices.Repeat(all("kill", 50*ms, "worker-0"), 20)...)},
		"K18 all servers die":                     {faults: all("kill", 500*ms, servers...)},
		"K19 all servers lose their power":        {faults: []fault{{kind: "power all", lasts: 500 * ms, nodes: servers, draw: 1}}},
		"Z06 all servers stand still":             {faults: all("freeze", 3000*ms, servers...)},
		"Z07 a worker and the coordinator":        {faults: all("freeze", 3000*ms, "worker-0", "c-0")},
		"D07 the disk of every server hangs":      {faults: apart(3500*ms, all("disk hang", 3000*ms, servers...)...)},
		"D02 D03 the disks are full, all at last": {faults: append(apart(800*ms, all("disk full", 500*ms, servers...)...), all("disk full", 1500*ms, servers...)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := simulate(t, "named-", 1, s, known, longer)
			if got := o.status.GetModelHash(); got != known.model {
				t.Errorf("model hash %q, want that of the undisturbed run, %q", got, known.model)
			}
		})
	}
	// The coordinator's machine falls silent, and nobody's connection to it ends: its
	// servers, workers and the operator, who wait for it to speak, go to the next.
	t.Run("N12 connections to a machine that went silent", func(t *testing.T) {
		t.Parallel()
		const silent = 40 * time.Second
		o := simulate(t, "named-", 1, schedule{faults: []fault{
			{kind: "freeze", lasts: silent, nodes: []string{"c-0"}, draw: 1}, {kind: "expire", nodes: []string{"c-0"}, draw: 1},
		}}, known, longer)
		took := time.Duration(o.status.GetEndedUnixNano() - o.status.GetCreatedUnixNano())
		if o.status.GetModelHash() != known.model || took > silent/2 {
			t.Errorf("model hash %q after %v, want %q within %v", o.status.GetModelHash(), took, known.model, silent/2)
		}
	})
}
