package coordinator

import (
	"testing"

	"github.com/fathom-train/fathom/coordinator/store"
)

// FuzzRecords reads any bytes as the records of a job: an error or a job, and
// what was read as a plan can be written and read again.
func FuzzRecords(f *testing.F) {
	f.Add("spec", []byte(`{"run":7,"spec":{}}`))
	f.Add("plan", []byte(`{"status":{"job":"a","phase":"PHASE_TRAINING"}}`))
	f.Add("search", []byte("\x1f\x8b"))
	f.Add("place", []byte(`{"shards":[]}`))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		k := keys{"fathom"}
		if _, err := k.decodeEntries([]store.Entry{{Key: k.jobs() + "0000000000000001/" + kind, Value: b}}); err == nil {
			t.Fatal("one record is a whole job")
		}
		p, err := decodePlan(b)
		if err != nil {
			return
		}
		again, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodePlan(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
