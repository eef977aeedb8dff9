package dataset

import "github.com/prometheus/client_golang/prometheus"

// metrics are the counters of one set. They are read when they are collected,
// so reading data costs nothing for them.
type metrics struct {
	cacheBytes, hits, misses, evictions, rows, badRecords *prometheus.Desc
}

// newMetrics registers the metrics of a set.
func newMetrics(s *Set) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fathom_dataset_"+name, help, labels, nil)
	}
	return &collector{set: s, metrics: metrics{
		cacheBytes: desc("cache_bytes", "Memory of the decoded blocks in the cache."),
		hits:       desc("cache_hits_total", "Blocks that were read from the cache."),
		misses:     desc("cache_misses_total", "Blocks that had to be decoded."),
		evictions:  desc("cache_evictions_total", "Blocks dropped from the cache for others."),
		rows:       desc("rows", "Rows of a split, without bad records.", "split"),
		badRecords: desc("bad_records", "Bad records that are left out."),
	}}
}

// Register exports the set's metrics until unregister is called; one registry
// takes one set at a time.
func (s *Set) Register(reg prometheus.Registerer) (unregister func(), err error) {
	c := newMetrics(s)
	if err := reg.Register(c); err != nil {
		return nil, err
	}
	return func() { reg.Unregister(c) }, nil
}

// collector implements prometheus.Collector.
type collector struct {
	metrics
	set *Set
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.cacheBytes, c.hits, c.misses, c.evictions, c.rows, c.badRecords} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	cache := c.set.cache
	cache.mu.Lock()
	used := cache.used
	cache.mu.Unlock()
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	ch <- prometheus.MustNewConstMetric(c.cacheBytes, gauge, float64(used))
	ch <- prometheus.MustNewConstMetric(c.hits, counter, float64(cache.hits.Load()))
	ch <- prometheus.MustNewConstMetric(c.misses, counter, float64(cache.misses.Load()))
	ch <- prometheus.MustNewConstMetric(c.evictions, counter, float64(cache.evictions.Load()))
	ch <- prometheus.MustNewConstMetric(c.badRecords, gauge, float64(c.set.badRecords))
	for _, name := range splitNames {
		if p := c.set.splits[name]; p != nil {
			ch <- prometheus.MustNewConstMetric(c.rows, gauge, float64(p.Rows()), name)
		}
	}
}
