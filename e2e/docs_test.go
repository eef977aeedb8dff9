package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)\(`)
	faultRow  = regexp.MustCompile(`(?m)^\| ([A-Z][0-9]{2}) \|`)
	namedRow  = regexp.MustCompile(`"((?:[A-Z][0-9]{2} )+)`)
)

// The tests that docs/faults.md names exist, every row names one or says why there
// is none, and the schedules of e2e/sim that carry a row's name belong to one.
func TestFaultsPageNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	exist := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllStringSubmatch(string(b), -1) {
			exist[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		for _, m := range namedTest.FindAllStringSubmatch(line, -1) {
			if !exist[m[1]] {
				t.Errorf("docs/faults.md names %s, which does not exist", m[1])
			}
		}
		id := faultRow.FindStringSubmatch(line)
		if id == nil {
			continue
		}
		if rows[id[1]] {
			t.Errorf("docs/faults.md has %s twice", id[1])
		}
		rows[id[1]] = true
		if !namedTest.MatchString(line) && !strings.Contains(line, "No test") {
			t.Errorf("docs/faults.md: %s names no test and does not say why", id[1])
		}
	}
	named, err := os.ReadFile("sim/named_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range namedRow.FindAllStringSubmatch(string(named), -1) {
		for _, id := range strings.Fields(m[1]) {
			if !rows[id] {
				t.Errorf("e2e/sim/named_test.go names %s, which docs/faults.md does not have", id)
			}
		}
	}
	if len(rows) < 110 {
		t.Errorf("docs/faults.md has %d rows", len(rows))
	}
}
