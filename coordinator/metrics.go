package coordinator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one coordinator; those of jobs and nodes are zero while another
// one leads.
type metrics struct {
	leads            prometheus.Gauge
	nodes            *prometheus.GaugeVec
	reports          *prometheus.CounterVec
	orders           prometheus.Counter
	reassignments    prometheus.Counter
	overtaken        prometheus.Counter
	phaseChanges     *prometheus.CounterVec
	writeSeconds     prometheus.Histogram
	step             prometheus.Gauge
	samplesPerSecond prometheus.Gauge

	checkpoints       *prometheus.CounterVec
	checkpointSeconds prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "fathom_coordinator_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fathom_coordinator_" + name, Help: help})
	}
	m := &metrics{
		leads:         gauge("leader", "1 while this coordinator leads."),
		nodes:         prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fathom_coordinator_nodes", Help: "Living members."}, []string{"role"}),
		reports:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fathom_coordinator_reports_total", Help: "Reports of members."}, []string{"role"}),
		orders:        counter("orders_total", "Orders whose content was new."),
		reassignments: counter("reassignments_total", "Times lanes or blocks moved between workers."),
		overtaken:     counter("lanes_overtaken_total", "Lanes given to a second worker because the first fell behind."),
		phaseChanges:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fathom_coordinator_phase_changes_total", Help: "Phases entered by jobs."}, []string{"phase"}),
		writeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fathom_coordinator_store_write_seconds",
			Help: "Duration of writes to the store.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		step:             gauge("job_step", "Last global step applied by every shard of the active job."),
		samplesPerSecond: gauge("job_samples_per_second", "Training speed of the active job."),
		checkpoints:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fathom_coordinator_checkpoints_total", Help: "Checkpoints by outcome."}, []string{"outcome"}),
		checkpointSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fathom_coordinator_checkpoint_seconds",
			Help: "Time from the order to the manifest.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 15)}),
	}
	if reg != nil {
		reg.MustRegister(m.leads, m.nodes, m.reports, m.orders, m.reassignments, m.overtaken, m.phaseChanges, m.writeSeconds, m.step, m.samplesPerSecond, m.checkpoints, m.checkpointSeconds)
	}
	return m
}

// observe brings the gauges and the run's progress up to date.
func (l *leader) observe(now time.Time) {
	for _, role := range []string{rolePS, roleWorker} {
		l.metrics.nodes.WithLabelValues(role).Set(float64(len(l.live(role, now))))
	}
	r := l.active()
	if r == nil {
		l.metrics.step.Set(0)
		l.metrics.samplesPerSecond.Set(0)
		return
	}
	r.progress.noteSamples(now, r.samples(r.step()))
	l.metrics.step.Set(float64(r.step()))
	l.metrics.samplesPerSecond.Set(r.progress.rate(now))
}
