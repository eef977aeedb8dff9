package replica

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fathom-train/fathom/ps/fsm"
)

// Metrics counts what the replicas of one process do. It is made once per
// process and shared by its groups.
type Metrics struct {
	Entries, Duplicates, Bytes prometheus.Counter
	ApplySeconds               prometheus.Counter
	Snapshots, Restores        prometheus.Counter
	CRCErrors                  prometheus.Counter
	LeaderChanges              prometheus.Counter
	Leaders                    prometheus.Gauge
	DiskStall                  prometheus.Gauge
	OutstandingBytes           prometheus.Gauge
}

// NewMetrics makes the metrics and registers them; a nil registry is allowed.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fathom", Subsystem: "replica", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fathom", Subsystem: "replica", Name: name, Help: help})
	}
	m := &Metrics{
		Entries:          counter("applied_entries_total", "Commands applied by the state machines."),
		Duplicates:       counter("duplicate_entries_total", "Commands recognised as copies and dropped."),
		Bytes:            counter("applied_bytes_total", "Bytes of the commands applied."),
		ApplySeconds:     counter("apply_seconds_total", "Time spent applying commands."),
		Snapshots:        counter("snapshots_total", "Snapshots written."),
		Restores:         counter("restores_total", "Snapshots restored."),
		CRCErrors:        counter("crc_errors_total", "Damaged entries and snapshots found on disk."),
		LeaderChanges:    counter("leader_changes_total", "Times a replica of this node won or lost leadership."),
		Leaders:          gauge("leaders_count", "Groups led by this node."),
		DiskStall:        gauge("disk_stall_seconds", "Age of the oldest disk operation under way."),
		OutstandingBytes: gauge("outstanding_bytes", "Bytes proposed and not yet committed."),
	}
	if reg != nil {
		reg.MustRegister(m.Entries, m.Duplicates, m.Bytes, m.ApplySeconds, m.Snapshots, m.Restores,
			m.CRCErrors, m.LeaderChanges, m.Leaders, m.DiskStall, m.OutstandingBytes)
	}
	return m
}

func (m *Metrics) applied(r fsm.Result, bytes int) {
	m.Entries.Inc()
	m.Bytes.Add(float64(bytes))
	if r.Status == fsm.Duplicate {
		m.Duplicates.Inc()
	}
}
