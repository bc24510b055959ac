package ingest

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	ingested, rejects, blocks, epochs, lost prometheus.Counter
	dropped, errors                         *prometheus.CounterVec
	insert                                  prometheus.Histogram
	lag                                     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "verdict", Subsystem: "audit", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	m := &metrics{
		ingested: counter("ingested_records_total", "Records that got into the table."),
		rejects:  counter("rejects_total", "Messages and records that cannot be read; they are in the table rejects."),
		blocks:   counter("blocks_total", "Blocks with batches of which every record is in the table."),
		epochs:   counter("epochs_total", "Times that a decision stream was found new."),
		lost:     counter("lost_messages_total", "Messages that a decision stream should have and lacks; their nodes send them again."),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts(opts("dropped_total",
			"Records that were not taken: known, since they came before; gap, since one before them is missing.")), []string{"cause"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts(opts("errors_total",
			"What failed and is tried again: stream, persist, purge, confirm, adjust.")), []string{"cause"}),
		insert: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "verdict", Subsystem: "audit", Name: "insert_seconds", Help: "How long a block took, all tries together.",
			Buckets: prometheus.ExponentialBuckets(0.004, 2, 14),
		}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("lag", "Messages of a decision stream behind the progress. A tick may stay.")),
			[]string{"partition"}),
	}
	reg.MustRegister(m.ingested, m.rejects, m.blocks, m.epochs, m.lost, m.dropped, m.errors, m.insert, m.lag)
	return m
}

// count counts a block that is in the table.
func (m *metrics) count(b *block, a *accepted) {
	if len(b.batches) > 0 {
		m.blocks.Inc()
	}
	m.ingested.Add(float64(len(a.rows)))
	m.rejects.Add(float64(len(a.rejects)))
	for cause, n := range a.dropped {
		m.dropped.WithLabelValues(cause).Add(float64(n))
	}
}
