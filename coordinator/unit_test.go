package coordinator

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

func TestRecordsAreReadBack(t *testing.T) {
	k := keys{"fathom"}
	p := &plan{status: &proto.JobStatus{Job: "j", Phase: proto.Phase_PHASE_EVALUATING, Loss: 0.25, Step: 1 << 60,
		Scores: []*proto.Score{{Split: "valid", Auc: 0.75}}}, split: "valid", lastStep: 10, factor: 0.1, digest: "d", enteredNano: 5}
	b, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	stored := []store.Entry{
		{Key: k.plan(12), Value: b},
		{Key: k.spec(12), Value: []byte(`{"run":18446744073709551615,"spec":{"kind":"x"}}`)},
		{Key: k.place(12), Value: []byte(`{"map_version":1,"formed":true,"dense":[1],"shards":[{"id":1,"key_lo":"0","key_hi":"18446744073709551615","members":[{"node":"n","address":"a"}]}]}`)},
		{Key: k.plan(3), Value: b},
		{Key: k.spec(3), Value: []byte(`{"run":1,"spec":{}}`)},
	}
	entries, err := k.decodeEntries(stored)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || entries[0].number != 3 || entries[1].number != 12 {
		t.Fatalf("entries %v, want those of jobs 3 and 12", entries)
	}
	e := entries[1]
	if e.id() != "j-ffffffffffffffff" || string(e.spec) != `{"kind":"x"}` || e.place.Shards[0].Hi != 1<<64-1 || !e.place.Formed {
		t.Errorf("entry %+v, place %+v", e, e.place)
	}
	if d := cmp.Diff(p, e.plan, cmp.AllowUnexported(plan{}), protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestDamagedRecordsAreNamed(t *testing.T) {
	k := keys{"fathom"}
	for _, f := range []struct{ key, value, want string }{
		{k.plan(1), "{", "fathom/jobs/0000000000000001/plan"},
		{k.plan(1), `{"status":{"phase":"NONSENSE"}}`, "fathom/jobs/0000000000000001/plan"},
		{k.spec(1), "", "fathom/jobs/0000000000000001/spec"},
		{k.place(1), "[]", "fathom/jobs/0000000000000001/place"},
		{k.jobs() + "x/plan", "{}", "its key is not a job's"},
		{k.jobs() + "7/else", "{}", `unknown kind "else"`},
		{k.spec(7), `{"spec":{}}`, "job 7: its spec or plan is missing"},
	} {
		_, err := k.decodeEntries([]store.Entry{{Key: f.key, Value: []byte(f.value)}})
		if err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: error %v does not say %q", f.key, err, f.want)
		}
	}
}

func TestHashesAddAs128BitNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.SliceOfN(rapid.Byte(), hashBytes, hashBytes)
		a, b := [hashBytes]byte(draw.Draw(t, "a")), [hashBytes]byte(draw.Draw(t, "b"))
		number := func(h [hashBytes]byte) *big.Int {
			slices.Reverse(h[:])
			return new(big.Int).SetBytes(h[:])
		}
		want := new(big.Int).Add(number(a), number(b))
		want.Mod(want, new(big.Int).Lsh(big.NewInt(1), 128))
		if got := number(addHash(a, b)); got.Cmp(want) != 0 {
			t.Fatalf("%x + %x = %x, want %x", a, b, got, want)
		}
	})
	f := hex.EncodeToString(slices.Repeat([]byte{0xff}, hashBytes))
	one := &proto.GroupReport{Hash: append([]byte{1}, make([]byte, hashBytes-1)...)}
	all, _ := hex.DecodeString(f)
	if got := modelHash([]*proto.GroupReport{{Hash: all}, one}); got != strings.Repeat("0", 32) {
		t.Errorf("the sum does not wrap: %s", got)
	}
}

func TestSpeedFollowsTheWindowAndStalls(t *testing.T) {
	var p progress
	now := time.Unix(1000, 0)
	p.restart(now, 0)
	if p.rate(now) != 0 {
		t.Error("a speed without a step")
	}
	for i := range 40 { // 100 samples a second for 20 s, then 200
		now = now.Add(time.Second)
		p.noteSamples(now, uint64(100*(i+1)+100*max(0, i-19)))
	}
	if got := p.rate(now); got != 200 {
		t.Errorf("speed %g, want that of the last seconds, 200", got)
	}
	fast := p.rate(now)
	now = now.Add(time.Minute)
	p.noteSamples(now, p.done[len(p.done)-1].samples)
	if got := p.rate(now); got >= fast/5 {
		t.Errorf("speed %g after a minute without a step", got)
	}
	for i := range 3 * pointsMax {
		p.noteSamples(now, uint64(1e6+i))
	}
	if len(p.done) > pointsMax {
		t.Errorf("%d points are kept", len(p.done))
	}
}

func TestLossIsTheMeanOfWhatWasReportedLately(t *testing.T) {
	var p progress
	now := time.Unix(1000, 0)
	report := func(known bool, sum float64, samples uint64) {
		p.noteLanes(now, "w", &proto.WorkerReport{Lanes: []*proto.LaneReport{
			{Lane: 0, LossSum: sum, Samples: samples}, {Lane: 9, LossSum: 1e9, Samples: 1}}}, known, 2)
	}
	check := func(want float64) {
		t.Helper()
		if p.last != want {
			t.Errorf("loss %g, want %g", p.last, want)
		}
	}
	report(false, 700, 100) // made before this leader: not known when
	check(0)
	report(true, 710, 110)
	check(1)
	report(true, 710, 110)
	check(1)
	report(true, 740, 120)
	check(2)
	now = now.Add(lossWindow + time.Second)
	report(true, 745, 130)
	check(0.5)
	report(false, 3, 1) // the worker was restarted
	check(0.5)
	report(true, 7, 2)
	check((5 + 4) / 11.0)
	for i := range 2 * pointsMax {
		report(true, float64(10+i), uint64(10+i))
	}
	if len(p.loss) > pointsMax {
		t.Errorf("%d points are kept", len(p.loss))
	}
}

func TestOldestFinishedJobsAreRemoved(t *testing.T) {
	ended := func(number uint64, phase proto.Phase, size int) *entry {
		return &entry{number: number, spec: make([]byte, size), plan: &plan{status: &proto.JobStatus{Phase: phase}}}
	}
	numbers := func(l *leader) string {
		removed, ops := l.removeOldest()
		var all []string
		for _, e := range l.entries {
			if removed[e] {
				all = append(all, fmt.Sprint(e.number))
			}
		}
		if len(ops) != 4*len(all) || len(ops) > store.OpsMax-2 {
			t.Errorf("%d operations to remove %d jobs", len(ops), len(all))
		}
		return strings.Join(all, " ")
	}
	l := &leader{keys: keys{"c"}}
	for n := range uint64(finishedMax + 1) {
		l.entries = append(l.entries, ended(n, proto.Phase_PHASE_DONE, 10))
	}
	l.entries[0].plan.status.Phase = proto.Phase_PHASE_PENDING
	l.run = &run{entry: l.entries[1]} // its groups are still hosted
	if got := numbers(l); got != "2" {
		t.Errorf("removed %s, want 2", got)
	}
	l = &leader{entries: []*entry{ended(1, proto.Phase_PHASE_FAILED, finishedBytesMax), ended(2, proto.Phase_PHASE_DONE, 10)}}
	if got := numbers(l); got != "1" {
		t.Errorf("removed %s, want 1", got)
	}
	l.entries = nil
	for n := range uint64(2 * finishedMax) {
		l.entries = append(l.entries, ended(n, proto.Phase_PHASE_DONE, 10))
	}
	numbers(l) // does not exceed one write
}

func TestConfigurationFaultsAreAllNamed(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{"node:", "listen:", "etcd:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	if _, err := New(Config{Node: "c", Listen: "no address", Etcd: []string{"http://127.0.0.1:1"}}); err == nil {
		t.Error("listens on no address")
	}
}

// The clock was an hour ahead when the last checkpoint was made, or the job began:
// nobody waits for that hour to pass.
func TestAClockThatWasSetBackDelaysNoCheckpoint(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	elected, ahead, before := now.Add(-10*time.Minute), now.Add(time.Hour), now.Add(-time.Minute)
	for name, c := range map[string]struct {
		made, started, want time.Time
	}{
		"made":                             {before, before, before},
		"none yet":                         {time.Time{}, before, before},
		"made by a clock that was ahead":   {ahead, elected.Add(-time.Hour), elected},
		"begun by a clock that was ahead":  {time.Time{}, ahead, elected},
		"begun under the leader before it": {time.Time{}, elected.Add(-time.Hour), elected},
	} {
		r := &run{entry: &entry{plan: &plan{status: &proto.JobStatus{StartedUnixNano: c.started.UnixNano()}}}}
		if !c.made.IsZero() {
			r.plan.status.Checkpoints = []*proto.CheckpointInfo{{CreatedUnixNano: c.made.UnixNano()}}
		}
		if got := r.lastCheckpoint(elected, now); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
