package ps

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fathom-train/fathom/ps/wire"
)

// metrics counts what one server does.
type metrics struct {
	pulls, pullRows, pullBytes       prometheus.Counter
	pushes, pushBytes, duplicates    prometheus.Counter
	pullSeconds, pushSeconds         prometheus.Histogram
	refusals                         *prometheus.CounterVec
	groups, rows, stateBytes, cpuUse prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "fathom", Subsystem: "ps", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), f)
	}
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "fathom", Subsystem: "ps", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		})
	}
	m := &metrics{
		pulls:       counter("pulls_total", "Pulls answered."),
		pullRows:    counter("pull_rows_total", "Rows read by pulls."),
		pullBytes:   counter("pull_bytes_total", "Bytes of the answers to pulls."),
		pushes:      counter("pushes_total", "Pushes acknowledged."),
		pushBytes:   counter("push_bytes_total", "Bytes of the pushes acknowledged."),
		duplicates:  counter("push_duplicates_total", "Pushes that had been applied before."),
		pullSeconds: seconds("pull_seconds", "Time to answer a pull, waiting for its version included."),
		pushSeconds: seconds("push_seconds", "Time to commit and apply a push."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts(
			opts("refusals_total", "Requests refused, by reason.")), []string{"reason"}),
		groups: gauge("groups_count", "Groups hosted.", func() float64 { _, _, n := s.sizes(); return float64(n) }),
		rows:   gauge("rows_count", "Rows held by all groups.", func() float64 { n, _, _ := s.sizes(); return float64(n) }),
		stateBytes: gauge("state_bytes", "Memory of rows, indexes and dense tensors.",
			func() float64 { _, n, _ := s.sizes(); return float64(n) }),
		cpuUse: prometheus.NewCounterFunc(prometheus.CounterOpts(opts("cpu_seconds_total", "Processor time used.")), cpuSeconds),
	}
	if reg != nil {
		reg.MustRegister(m.pulls, m.pullRows, m.pullBytes, m.pushes, m.pushBytes, m.duplicates,
			m.pullSeconds, m.pushSeconds, m.refusals, m.groups, m.rows, m.stateBytes, m.cpuUse)
	}
	return m
}

func (m *metrics) pulled(req *wire.PullRequest, bytes int, took time.Duration) {
	rows := 0
	for _, t := range req.Tables {
		rows += len(t.Keys)
	}
	m.pulls.Inc()
	m.pullRows.Add(float64(rows))
	m.pullBytes.Add(float64(bytes))
	m.pullSeconds.Observe(took.Seconds())
}

func (m *metrics) pushed(bytes int, duplicate bool, took time.Duration) {
	m.pushes.Inc()
	m.pushBytes.Add(float64(bytes))
	if duplicate {
		m.duplicates.Inc()
	}
	m.pushSeconds.Observe(took.Seconds())
}
