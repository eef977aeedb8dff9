package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fathom-train/fathom/compute/gemm"
)

// measurement is one line of a benchmark's output.
type measurement struct {
	Bench   string `json:"bench"`
	Case    string `json:"case"`
	Threads int    `json:"threads"`
	Unit    string `json:"unit"`
	// Min, Median and Max are over the N repeats, by wall time.
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
	// CPUSeconds and WallSeconds are of all repeats together.
	CPUSeconds  float64 `json:"cpu_seconds"`
	WallSeconds float64 `json:"wall_seconds"`
	// PerCPU is the median with CPU time in the place of wall time: the rate for
	// each CPU second, or, of a unit that is a time, the CPU time.
	PerCPU float64 `json:"per_cpu"`
	// Others is how many cores other processes used meanwhile (median over the
	// repeats); absent where the system does not tell.
	Others *float64 `json:"others,omitempty"`
	Fathom string   `json:"fathom"`
	CPU    string   `json:"cpu"` // code path of the kernels
	// Extra holds what belongs to some benchmarks only.
	Extra map[string]float64 `json:"extra,omitempty"`
}

// bencher measures and reports.
type bencher struct {
	app      *app
	flags    *benchFlags
	kind     string
	versions versions
	table    []measurement // not shown yet
}

func newBencher(a *app, f *benchFlags) *bencher {
	return &bencher{app: a, flags: f, versions: readVersions()}
}

// benchCase says what is measured and how a repeat becomes a number.
type benchCase struct {
	name    string
	threads int
	unit    string
	// work is how many units (of a rate: GB, rows, samples) one round does.
	work float64
	// perItem makes the number a time: nanoseconds for each unit of work.
	perItem bool
	extra   map[string]float64
}

// repeat is one timed stretch of a measurement.
type repeat struct{ work, wall, cpu, others float64 }

// othersResolution is the least time over which the system's count of busy
// processors, in hundredths of a second, tells anything.
const othersResolution = 0.1

// worked is the wall time that the repeat would have taken on processors of its
// own: on a busy machine the wall time says little about the next repeat's.
func (r repeat) worked(threads int) float64 {
	if r.cpu <= 0 { // too short, or not known on this system
		return r.wall
	}
	return math.Min(r.wall, r.cpu/float64(threads))
}

// clock is a moment of a measurement.
type clock struct {
	wall time.Time
	cpu  float64 // seconds this process has used
	busy float64 // seconds all processors have worked, NaN when unknown
}

// readClock reads the wall time last, so that reading the others is not timed.
func readClock() (c clock) {
	c.busy = machineBusySeconds()
	c.cpu = processCPUSeconds()
	c.wall = time.Now()
	return c
}

// since returns the repeat from an earlier moment to now.
func (c clock) since(work float64) repeat {
	wall := time.Since(c.wall).Seconds()
	r := repeat{work: work, wall: wall, cpu: processCPUSeconds() - c.cpu}
	r.others = othersUsed(machineBusySeconds()-c.busy, r)
	return r
}

// othersUsed is how many cores others used while all processors worked busy
// seconds; NaN when that is not known well enough.
func othersUsed(busy float64, r repeat) float64 {
	if r.wall < othersResolution {
		return math.NaN()
	}
	return math.Max(0, (busy-r.cpu)/r.wall)
}

// measure runs rounds of f: some to warm up and to see how many fill a repeat,
// then the repeats. prepare, which may be nil, is called before every repeat
// and outside the clock. Only as many processors are used as the case says.
func (b *bencher) measure(ctx context.Context, c benchCase, prepare func(rounds int) error, f func(rounds int) error) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.threads))
	gemm.SetThreads(c.threads)
	defer gemm.SetThreads(1)
	one := func(rounds int) (repeat, error) {
		if err := ctx.Err(); err != nil {
			return repeat{}, err
		}
		if prepare != nil {
			if err := prepare(rounds); err != nil {
				return repeat{}, err
			}
		}
		start := readClock()
		err := f(rounds)
		return start.since(c.work * float64(rounds)), err
	}
	rounds := 1
	for tries := 0; ; tries++ {
		r, err := one(rounds)
		if err != nil {
			return err
		}
		worked := r.worked(c.threads)
		if tries > 0 && worked >= b.flags.repTime.Seconds()/2 || b.flags.quick {
			break
		}
		rounds = roundsFor(b.flags.repTime, worked, rounds)
	}
	var all []repeat
	for range b.flags.reps {
		r, err := one(rounds)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	return b.report(c, all)
}

// roundsFor returns how many rounds fill a repeat, when so many took some
// seconds. It grows tenfold at most, as short times are not known well.
func roundsFor(repTime time.Duration, took float64, rounds int) int {
	n := repTime.Seconds() / math.Max(took, 1e-9) * float64(rounds)
	return int(math.Ceil(math.Min(math.Max(n, 1), 10*float64(rounds))))
}

// report turns repeats into a measurement and shows it.
func (b *bencher) report(c benchCase, all []repeat) error {
	m := measurement{Bench: b.kind, Case: c.name, Threads: c.threads, Unit: c.unit, N: len(all),
		Fathom: b.versions.describe(), CPU: b.versions.CPU, Extra: c.extra}
	var values, perCPU, others []float64
	number := func(work, seconds float64) float64 {
		if c.perItem {
			return finite(1e9 * seconds / work)
		}
		return finite(work / seconds)
	}
	for _, r := range all {
		values = append(values, number(r.work, r.wall))
		perCPU = append(perCPU, number(r.work, r.cpu))
		if !math.IsNaN(r.others) {
			others = append(others, r.others)
		}
		m.CPUSeconds += r.cpu
		m.WallSeconds += r.wall
	}
	m.Min, m.Max = slices.Min(values), slices.Max(values)
	m.Median, m.PerCPU = median(values), median(perCPU)
	if o := median(others); !math.IsNaN(o) {
		m.Others = &o
	}
	return b.emit(m)
}

// emit prints the measurement, or keeps it for the table at the end.
func (b *bencher) emit(m measurement) error {
	if b.flags.output == outputText {
		b.table = append(b.table, m)
		return nil
	}
	for _, v := range []*float64{&m.Min, &m.Median, &m.Max, &m.CPUSeconds, &m.WallSeconds, &m.PerCPU, m.Others} {
		if v != nil {
			*v = significant(*v)
		}
	}
	for k, v := range m.Extra {
		m.Extra[k] = significant(v)
	}
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write a measurement: %w", err)
	}
	_, err = fmt.Fprintln(b.app.out, string(line))
	return err
}

// endTable shows the measurements of one kind to people.
func (b *bencher) endTable() error {
	if len(b.table) == 0 {
		return nil
	}
	rows := [][]string{{b.kind, "threads", "unit", "median", "min", "max", "per cpu s", "others", ""}}
	for _, m := range b.table {
		others := "-"
		if m.Others != nil {
			others = fmt.Sprintf("%.2f", *m.Others)
		}
		var extra []string
		for _, k := range slices.Sorted(maps.Keys(m.Extra)) {
			extra = append(extra, k+" "+short(m.Extra[k]))
		}
		rows = append(rows, []string{m.Case, strconv.Itoa(m.Threads), m.Unit, short(m.Median), short(m.Min), short(m.Max),
			short(m.PerCPU), others, strings.Join(extra, ", ")})
	}
	b.table = nil
	for _, l := range columns("lrlrrrrrl", rows) {
		if _, err := fmt.Fprintln(b.app.out, l); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(b.app.out)
	return err
}

// describe names the build in one word.
func (v versions) describe() string {
	if v.Revision != "" {
		return v.Fathom + " " + v.Revision
	}
	return v.Fathom
}

// median returns the middle one of the values, NaN if one is.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 || math.IsNaN(s[0]) { // NaN sorts first
		return math.NaN()
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// significant rounds to six digits, more than any of this is good for.
func significant(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(finite(v), 'g', 6, 64), 64)
	if err != nil {
		panic(fmt.Sprintf("cmd/fathom: BUG: %v", err))
	}
	return r
}

// short writes a number for a table: three digits, thousands in groups.
func short(v float64) string {
	switch {
	case math.Abs(v) >= 1000:
		return grouped(int64(math.Round(v)))
	case math.Abs(v) >= 100, v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// parallel runs f(0) to f(n-1) at the same time.
func parallel(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() { f(i) })
	}
	g.Wait()
}

// machineBusySeconds returns how long all processors together have worked since
// the start of the system, NaN where it does not tell.
func machineBusySeconds() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return math.NaN()
	}
	line, _, _ := strings.Cut(string(b), "\n")
	words := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	if len(words) < 8 || words[0] != "cpu" {
		return math.NaN()
	}
	ticks := 0.0
	for i, w := range words[1:min(len(words), 9)] {
		v, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return math.NaN()
		}
		if i != 3 && i != 4 {
			ticks += v
		}
	}
	return ticks / 100 // of USER_HZ, which Linux fixes at 100 for programs
}
