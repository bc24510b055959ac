package follow

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator watches of a follower.
type metrics struct {
	events     *prometheus.CounterVec
	refused    *prometheus.CounterVec
	reads      *prometheus.CounterVec
	heads      *prometheus.CounterVec
	fileErrors prometheus.Counter
}

// newMetrics registers the metrics of f; reg may be nil.
func newMetrics(f *Follower, reg prometheus.Registerer) metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "verdict", Subsystem: "follow", Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "verdict", Subsystem: "follow", Name: name, Help: help}, value)
	}
	m := metrics{
		events:  counter("events_total", "Events that were applied, by source: live, control, file.", "source"),
		refused: counter("refused_total", "Messages that were not applied, by cause: junk, signature, log, history, early, duplicate.", "cause"),
		reads:   counter("reads_total", "Reads from control, by result: ok, failed, fruitless.", "result"),
		heads:   counter("heads_total", "Questions for the head, by result: ok, failed, refused.", "result"),
		fileErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "verdict", Subsystem: "follow", Name: "file_errors_total", Help: "Times that the state file could not be written.",
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.events, m.refused, m.reads, m.heads, m.fileErrors,
		gauge("position", "Position of the state.", func() float64 { return float64(position(f.State())) }),
		gauge("staleness_seconds", "Time since the newest question that proves the state fresh was sent; infinite without one.", f.staleness),
		gauge("stopped", "1 while an event cannot be applied by this version, so that following has stopped.", f.stopped))
	return m
}

func (f *Follower) staleness() float64 {
	d, proven := f.Staleness()
	if !proven {
		return math.Inf(1)
	}
	return d.Seconds()
}

func (f *Follower) stopped() float64 {
	if f.halted() {
		return 1
	}
	return 0
}
