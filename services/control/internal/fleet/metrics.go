package fleet

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an operator watches of the nodes.
type metrics struct {
	applied prometheus.Histogram
	refused *prometheus.CounterVec
}

// newMetrics registers the metrics of f; reg may be nil.
func newMetrics(f *Fleet, reg prometheus.Registerer) metrics {
	m := metrics{
		applied: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "verdict", Subsystem: "fleet", Name: "applied_seconds",
			Help:    "Time from the commit of a revision, by control's clock, to the report that a node decides with it or a later one; one for each revision and node.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "verdict", Subsystem: "fleet", Name: "refused_total",
			Help: "Reports that were not taken, by cause: junk, name when it speaks for another node, full when too many nodes are known.",
		}, []string{"cause"}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.applied, m.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "verdict", Subsystem: "fleet", Name: "nodes", Help: "Decision nodes that are known to this replica.",
	}, func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return float64(len(f.nodes))
	}))
	return m
}
