package trainer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The stages of a lane's way through the pipeline.
const (
	stageLoad    = "load"
	stagePull    = "pull"
	stageCompute = "compute"
	stagePush    = "push"
)

// Metrics are the trainer's Prometheus metrics. A nil *Metrics records nothing.
type Metrics struct {
	stage *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{stage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "fathom_trainer_stage_seconds",
		Help:    "Time one lane of one step spent in a stage, waiting included.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	}, []string{"stage"})}
	reg.MustRegister(m.stage)
	return m
}

func (m *Metrics) observe(stage string, start time.Time) {
	if m != nil {
		m.stage.WithLabelValues(stage).Observe(time.Since(start).Seconds())
	}
}
