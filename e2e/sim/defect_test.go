package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var defectSeeds = flag.Int("sim.defects", 0, "build the system with deliberate defects and want each to be found within so many schedules")

// defect is a piece of the system's code, and what stands there if it has the
// defect. The system is built with all of them, by an overlay of the changed
// files; the environment names the one that acts.
type defect struct {
	name, file, code, instead string
}

// defectVariable names the defect that acts.
const defectVariable = "FATHOM_SIM_DEFECT"

var defects = []defect{
	{"a copy of a push is applied once more", "ps/fsm/apply.go",
		"\tif status != Accepted {\n\t\ts.recycle(c)\n",
		`	if status == Duplicate && c.push.ID.Step == s.model.version && defect("a copy of a push is applied once more") {
		for _, r := range c.push.Rows {
			s.model.tables[s.model.tableIndex(r.Table)].table.UpdateRows(nil, r.Keys, r.Counts, r.Grads, s.model.open())
		}
	}
	if status != Accepted {
		s.recycle(c)
`},
	{"a copy of a lane of mode async is applied once more", "ps/fsm/apply.go",
		"\tif status != Accepted {\n\t\ts.recycle(c)\n",
		`	if status == Duplicate && s.model.schema.Async && defect("a copy of a lane of mode async is applied once more") {
		for _, r := range c.push.Rows {
			s.model.tables[s.model.tableIndex(r.Table)].table.UpdateRows(nil, r.Keys, r.Counts, r.Grads, s.model.open())
		}
	}
	if status != Accepted {
		s.recycle(c)
`},
	{"lanes of mode async get further ahead than they may", "coordinator/job/steps.go",
		"\t\treturn *j.Spec.Train.Staleness\n",
		`		if defect("lanes of mode async get further ahead than they may") {
			return *j.Spec.Train.Staleness + 3
		}
		return *j.Spec.Train.Staleness
`},
	{"a snapshot lacks the pushes that wait", "ps/fsm/view.go",
		"\tm.pending.eachChunk(func(c *chunk) { v.chunks = append(v.chunks, c.cmd) })\n",
		`	if !defect("a snapshot lacks the pushes that wait") {
		m.pending.eachChunk(func(c *chunk) { v.chunks = append(v.chunks, c.cmd) })
	}
`},
	{"a pull is answered from the newest state", "ps/fsm/lookup.go",
		"\tm.lookup(version, m.images[len(m.images)-int(behind):], req, dst)\n",
		`	if defect("a pull is answered from the newest state") {
		behind = 0
	}
	m.lookup(version, m.images[len(m.images)-int(behind):], req, dst)
`},
	{"a push without an answer is taken for done", "ps/client/remote.go",
		"\t\treturn r.invoke(ctx, route, i, place, method, req, reply)\n",
		`		if method == proto.ParameterServer_Push_FullMethodName && defect("a push without an answer is taken for done") {
			_ = r.invoke(ctx, route, i, place, method, req, reply)
			return nil
		}
		return r.invoke(ctx, route, i, place, method, req, reply)
`},
	{"a push is acknowledged before a majority has it", "ps/replica/propose.go",
		"\tsubmitted, submitErr := g.submit(ctx, cmds, queue)\n\tclose(queue)\n",
		`	submitted, submitErr := g.submit(ctx, cmds, queue)
	close(queue)
	if submitErr == nil && defect("a push is acknowledged before a majority has it") {
		return make([]fsm.Result, len(cmds)), nil
	}
`},
	{"a replica misses an entry", "ps/replica/adapter.go",
		"\tresult := a.state.Apply(l.Index, l.Data)\n",
		`	if l.Index%41 == 0 && !a.leads() && defect("a replica misses an entry") {
		return fsm.Result{}
	}
	result := a.state.Apply(l.Index, l.Data)
`},
	{"flipped bits in the log are not seen", "ps/replica/entry.go",
		"\tif checksum(l) != want {\n",
		"\tif checksum(l) != want && !defect(\"flipped bits in the log are not seen\") {\n"},
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// overlay writes the files with the defects and what tells go about them.
func overlay(t *testing.T, dir string) string {
	replace := map[string]string{}
	code := map[string]string{}
	for _, d := range defects {
		path := filepath.Join(root(t), d.file)
		if code[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			code[path] = string(b)
		}
		if n := strings.Count(code[path], d.code); n != 1 {
			t.Fatalf("%s: %q stands there %d times, want once", d.file, d.code, n)
		}
		code[path] = strings.Replace(code[path], d.code, d.instead, 1)
		folder := filepath.Dir(path)
		code[filepath.Join(folder, "defect_overlay.go")] = fmt.Sprintf(
			"package %s\n\nimport \"os\"\n\nfunc defect(name string) bool { return os.Getenv(%q) == name }\n", filepath.Base(folder), defectVariable)
	}
	for path, text := range code {
		to := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(path, root(t)), "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestDefectsHaveTheirPlace fails when code has changed under a defect.
func TestDefectsHaveTheirPlace(t *testing.T) { overlay(t, t.TempDir()) }

// TestDefectsAreFound shows that the simulation would find what it looks for:
// with each defect a schedule fails, without any none does.
func TestDefectsAreFound(t *testing.T) {
	if *defectSeeds == 0 {
		t.Skip("builds the system anew and takes minutes: make defects")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "sim.test")
	build := exec.Command("go", "test", "-c", "-o", binary, "-overlay", overlay(t, dir), "./e2e/sim")
	build.Dir = root(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	// batch is how many schedules are run before it is looked whether one failed.
	const batch = 10
	run := func(name string, from int) (failed bool, out string) {
		c := exec.Command(binary, "-test.run", "TestSimulation$|TestAsyncSimulation$", "-test.timeout", "20m", fmt.Sprint("-sim.first=", from), fmt.Sprint("-sim.seeds=", batch))
		c.Env = append(os.Environ(), defectVariable+"="+name)
		b, err := c.CombinedOutput()
		return err != nil, string(b)
	}
	if failed, out := run("", 1); failed {
		t.Fatalf("without a defect:\n%s", out)
	}
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			for from := 1; from <= *defectSeeds; from += batch {
				if failed, out := run(d.name, from); failed {
					t.Logf("found within %d schedules: %s", from+batch-1, firstFailure(out))
					return
				}
			}
			t.Errorf("not found in %d schedules", *defectSeeds)
		})
	}
}

// firstFailure is the line that says what is wrong.
func firstFailure(out string) string {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		context := strings.Contains(line, "duplicates ") || strings.Contains(line, "undisturbed: model")
		if strings.Contains(line, "_test.go:") && !context || strings.HasPrefix(line, "panic:") {
			return fmt.Sprintf("%.200s", line)
		}
	}
	return "?"
}
