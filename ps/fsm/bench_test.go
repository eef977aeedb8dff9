//go:build unix

package fsm

import (
	"bytes"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

const (
	benchLanes = 4
	benchBatch = 4096 // keys of a lane
	benchWidth = 16
)

// benchState has rows of 16 weights under LAMB, all updated once, and keeps
// one pre-image.
func benchState(b *testing.B, rows int) (*State, []shard.Key) {
	b.Helper()
	st := configured(b, Schema{
		Run: run, Lanes: benchLanes, PreImages: 1,
		Tables: []table.Schema{{Name: "rows", Columns: []table.Column{
			{Name: "embedding", Width: benchWidth, Init: random.Init{Kind: random.Normal, Scale: .01}, Optimizer: optim.Config{Name: optim.LAMB}},
		}}},
	})
	keys := make([]shard.Key, rows)
	for i := range keys {
		keys[i] = shard.Key(random.Word(1, uint64(i)))
	}
	slices.Sort(keys)
	for lane := range benchLanes {
		for _, c := range benchPush(1, lane, keys) {
			if r := st.Apply(1, c); r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	return st, keys
}

func benchPush(step uint64, lane int, keys []shard.Key) [][]byte {
	p := wire.NewPush(wire.PushID{Factor: 1, Run: run, Step: step, Lane: uint16(lane)})
	p.Rows(0, benchWidth, keys, make([]uint32, len(keys)), noise(len(keys)*benchWidth, step+uint64(lane)))
	return p.Chunks()
}

// draw returns ascending distinct keys, about n of them.
func draw(keys []shard.Key, stream uint64, n int) []shard.Key {
	out := make([]shard.Key, n)
	for i := range out {
		out[i] = keys[random.Below(stream, uint64(i), uint64(len(keys)))]
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// cpu returns the processor time used so far: on a busy machine wall time says
// little.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLookup(b *testing.B) {
	st, keys := benchState(b, 1<<20)
	defer st.Close()
	var reqs []*wire.PullRequest
	for i := range uint64(64) {
		reqs = append(reqs, &wire.PullRequest{Run: run, Tables: []wire.TableKeys{{Keys: draw(keys, i, benchBatch)}}})
	}
	dst := make([]float32, benchBatch*benchWidth)
	n, i, start := 0, 0, cpu()
	for b.Loop() {
		r := reqs[i%len(reqs)]
		k := len(r.Tables[0].Keys)
		if err := st.Lookup(1, r, dst[:k*benchWidth]); err != nil {
			b.Fatal(err)
		}
		n += k
		i++
	}
	b.ReportMetric(float64(n)/(cpu()-start).Seconds()/1e6, "Mrows/cpu-s")
}

// BenchmarkApply applies whole steps of four lanes; rows are counted per lane,
// as they are pushed.
func BenchmarkApply(b *testing.B) {
	st, keys := benchState(b, 1<<20)
	defer st.Close()
	b.ReportAllocs()
	pushed, step, used := 0, uint64(1), time.Duration(0)
	updated := map[shard.Key]struct{}{}
	rows := 0
	for b.Loop() {
		b.StopTimer()
		step++
		var cmds [][]byte
		clear(updated)
		for lane := range benchLanes {
			k := draw(keys, step*benchLanes+uint64(lane), benchBatch)
			pushed += len(k)
			for _, k := range k {
				updated[k] = struct{}{}
			}
			cmds = append(cmds, benchPush(step, lane, k)...)
		}
		rows += len(updated)
		b.StartTimer()
		start := cpu()
		for _, c := range cmds {
			if r := st.Apply(step, c); r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		used += cpu() - start
	}
	b.ReportMetric(float64(pushed)/used.Seconds()/1e6, "Mpushed/cpu-s")
	b.ReportMetric(float64(rows)/used.Seconds()/1e6, "Mupdated/cpu-s")
}

func BenchmarkRestore(b *testing.B) {
	st, _ := benchState(b, 1<<18)
	defer st.Close()
	var snap bytes.Buffer
	v := st.View()
	if _, err := v.WriteTo(&snap); err != nil {
		b.Fatal(err)
	}
	v.Release()
	b.SetBytes(int64(snap.Len()))
	for b.Loop() {
		again := New()
		if err := again.Restore(bytes.NewReader(snap.Bytes())); err != nil {
			b.Fatal(err)
		}
		again.Close()
	}
}

func BenchmarkSnapshot(b *testing.B) {
	st, _ := benchState(b, 1<<18)
	defer st.Close()
	var n int64
	for b.Loop() {
		v := st.View()
		k, err := v.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		v.Release()
		n += k
	}
	b.SetBytes(n / int64(b.N))
}
