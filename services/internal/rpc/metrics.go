package rpc

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of an Edge. Labels come from fixed sets: procedures that have a handler, and codes.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	panics   *prometheus.CounterVec
	inFlight prometheus.Gauge
}

// noProcedure is the label of requests that reached no handler.
const noProcedure = "none"

func procedureLabel(c *call) string {
	if c.procedure == "" {
		return noProcedure
	}
	return c.procedure
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_rpc_requests_total", Help: "Requests answered, by procedure and code.",
		}, []string{"procedure", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "verdict_rpc_duration_seconds",
			Help: "Time from the header of a unary request to the end of its answer.",
			Buckets: []float64{
				0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
			},
		}, []string{"procedure"}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_rpc_panics_total", Help: "Handlers that panicked, by procedure.",
		}, []string{"procedure"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "verdict_rpc_in_flight", Help: "Requests being answered, streams included.",
		}),
	}
	if registry != nil {
		registry.MustRegister(m.requests, m.seconds, m.panics, m.inFlight)
	}
	return m
}

func (m *metrics) observe(c *call, code string, took time.Duration) {
	procedure := procedureLabel(c)
	m.requests.WithLabelValues(procedure, code).Inc()
	if !c.stream {
		m.seconds.WithLabelValues(procedure).Observe(took.Seconds())
	}
}
