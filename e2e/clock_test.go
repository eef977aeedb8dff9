package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wallClock are the files that may use the time of day, and what for. Everything
// else lives on durations, which the clock's being set does not change: Go's times
// carry a monotonic reading that is lost only on the way through a number. A file
// that ends in a slash stands for a folder.
var wallClock = map[string]string{
	"cmd/fathom/": "shown to people",

	"coordinator/checkpoint.go":        "the age of the last checkpoint, when one is made every few minutes; a time to come does not count",
	"coordinator/checkpoint_commit.go": "when a checkpoint was made",
	"coordinator/control.go":           "created and ended, shown; which ended job is forgotten first",
	"coordinator/decide.go":            "started and ended, shown",
	"coordinator/demand.go":            "when the job ended, for how long its workers' pods are kept",
	"coordinator/leader.go":            "when the phase began, shown",
	"coordinator/order.go":             "which job ended last, shown; whether the phase began under another leader, who waits a moment for its workers then",
	"coordinator/position.go":          "when the phase began, shown",
	"coordinator/run.go":               "when the phase began under another leader: since when a worker that is to be replaced stands still",
	"coordinator/status.go":            "seconds of the phase, shown",

	"ps/replica/entry.go":      "raft's note of when an entry was appended, for metrics; unchanged in the log",
	"ps/server.go":             "a number that tells processes of a server apart; a smaller one waits until the other has fallen silent",
	"worker/agent.go":          "likewise, of a worker",
	"worker/dataset/source.go": "when a file was changed: compared with itself",
	"deploy/image/image.go":    "1970, in place of the time",
}

// The clock may be set while a job trains: nothing that decides reads the time of
// day. It cannot be set for one process of a test, so this holds it.
func TestTheTimeOfDayDecidesNothing(t *testing.T) {
	numbers := []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano"}
	used := map[string]bool{}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range listPackages(t) {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			file, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			file = filepath.ToSlash(file)
			if strings.HasSuffix(file, ".pb.go") {
				continue
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok || !slices.Contains(numbers, s.Sel.Name) {
					return true
				}
				for _, entry := range []string{file, filepath.ToSlash(filepath.Dir(file)) + "/"} {
					if wallClock[entry] != "" {
						used[entry] = true
						return true
					}
				}
				t.Errorf("%s: %s is the time of day, which may be set at any moment; decide by durations, or say in wallClock why it does no harm", fset.Position(s.Pos()), s.Sel.Name)
				return true
			})
		}
	}
	for entry := range wallClock {
		if !used[entry] {
			t.Errorf("%s does not use the time of day any more", entry)
		}
	}
}
