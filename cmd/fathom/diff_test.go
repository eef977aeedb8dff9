package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// history makes up two shards with two tables; change alters a hash from a step on.
func history(shards map[uint32]string, last uint64, change func(step uint64, p part) byte) *hashHistory {
	h := &hashHistory{job: "ctr", ranges: shards, steps: map[uint64]map[part][16]byte{}}
	for step := range last + 1 {
		h.steps[step] = map[part][16]byte{}
		for s := range shards {
			for i, table := range []string{"rows", "dense"} {
				p := part{s, table}
				hash := [16]byte{byte(step), byte(s), byte(i)}
				if change != nil {
					hash[3] = change(step, p)
				}
				h.steps[step][p] = hash
			}
		}
	}
	return h
}

func TestRunsAreCompared(t *testing.T) {
	two := map[uint32]string{0: "0-7", 1: "8-f"}
	plain := history(two, 9, nil)
	late := func(step uint64, p part) byte {
		if step >= 6 && p == (part{1, "rows"}) {
			return 1
		}
		return 0
	}
	other := map[uint32]string{0: "0-3", 1: "4-f"}
	for name, c := range map[string]struct {
		y    *hashHistory
		same bool
		want []string
	}{
		"equal":        {history(two, 7, nil), true, []string{"equal at all 8 common steps, 0 to 7"}},
		"one table":    {history(two, 9, late), false, []string{"from step 6 on", "equal is 5", "table rows differs in shard 1"}},
		"other shards": {history(other, 9, late), false, []string{"from step 6 on", "table rows differs (the runs have other shards"}},
	} {
		text, same, err := compareRuns(plain, c.y)
		if err != nil || same != c.same {
			t.Errorf("%s: same %t, error %v", name, same, err)
		}
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q does not say %q", name, text, w)
			}
		}
	}
	if _, _, err := compareRuns(plain, history(two, 0, nil)); err != nil {
		t.Error(err)
	}
}

func TestHashHistoryIsWrittenAndRead(t *testing.T) {
	dir := t.TempDir()
	h := history(map[uint32]string{0: "0-7", 1: "8-f"}, 5, nil)
	if err := h.write(filepath.Join(dir, hashesFile)); err != nil {
		t.Fatal(err)
	}
	again, err := readHashHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if text, same, err := compareRuns(h, again); err != nil || !same || again.job != "ctr" {
		t.Errorf("%q, same %t, error %v", text, same, err)
	}
	if _, line, err := parseHashHistory(strings.NewReader("job\tx\n1\t0\trows\tzz\n")); err == nil || line != 2 {
		t.Errorf("a damaged line: line %d, error %v", line, err)
	}
}
