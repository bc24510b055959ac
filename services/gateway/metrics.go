package gateway

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what /metrics says of the gateways. No label is a name that callers or accounts choose.
type metrics struct {
	registry prometheus.Registerer

	requests  *prometheus.CounterVec
	took      prometheus.Histogram
	calls     *prometheus.CounterVec
	decisions *prometheus.HistogramVec
	targets   prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) *metrics {
	seconds := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	m := &metrics{
		registry: registry,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_gateway_requests_total", Help: "HTTP requests, by the status of the answer.",
		}, []string{"status"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_gateway_request_seconds", Help: "From a request to its answer, the target's time included.", Buckets: seconds,
		}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_gateway_calls_total", Help: "Tool calls: called, denied, invalid (tool or arguments), no_decision (and so denied), failed (the target).",
		}, []string{"outcome"}),
		decisions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "verdict_gateway_decision_seconds", Help: "From a question to the decision, of a call or a list.", Buckets: seconds,
		}, []string{"of"}),
		targets: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_gateway_target_seconds", Help: "From a call of a target to its answer.", Buckets: seconds,
		}),
	}
	for _, o := range []outcome{outcomeCalled, outcomeDenied, outcomeInvalid, outcomeNoDecision, outcomeFailed} {
		m.calls.WithLabelValues(string(o))
	}
	registry.MustRegister(m.requests, m.took, m.calls, m.decisions, m.targets)
	return m
}

// watch shows how many gateways there are.
func (m *metrics) watch(t *table) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "verdict_gateway_gateways", Help: "Gateways that are served.",
	}, func() float64 { return float64(t.len()) }))
}

func (m *metrics) answered(status int, took time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	m.took.Observe(took.Seconds())
}

func (m *metrics) called(o outcome) { m.calls.WithLabelValues(string(o)).Inc() }

func (m *metrics) decided(of string, took time.Duration) {
	m.decisions.WithLabelValues(of).Observe(took.Seconds())
}

func (m *metrics) target(took time.Duration) { m.targets.Observe(took.Seconds()) }
