package search

import (
	"encoding/json"
	"testing"
)

// FuzzCandidate reads any bytes as a candidate, as it stands in the store and in
// the orders of workers: what is accepted is written as it was read.
func FuzzCandidate(f *testing.F) {
	f.Add([]byte(`[1,2,65535,0]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[-1]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Candidate
		if json.Unmarshal(b, &c) != nil {
			return
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var again Candidate
		if err := json.Unmarshal(text, &again); err != nil || again != c {
			t.Fatalf("%s is written as %s and read as %v, %v", b, text, again, err)
		}
		if c.Fields() != len(c.Widths()) {
			t.Fatalf("%d fields and the widths %v", c.Fields(), c.Widths())
		}
	})
}
