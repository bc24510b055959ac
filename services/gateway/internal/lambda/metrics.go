package lambda

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count over all targets, which are too many to be labels.
type metrics struct {
	invocations *prometheus.CounterVec
	seconds     prometheus.Histogram
	opened      prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_gateway_lambda_invocations_total", Help: "Invocations of functions, by outcome; left_out are those that a circuit breaker refused.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_gateway_lambda_seconds", Help: "Time from an invocation to its answer or failure, repetitions included.",
			Buckets: []float64{1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900},
		}),
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_gateway_lambda_breakers_opened_total", Help: "Times that the circuit breaker of a target opened.",
		}),
	}
}

func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	return errors.Join(registerer.Register(m.invocations), registerer.Register(m.seconds), registerer.Register(m.opened))
}

func (m *metrics) invoked(failure *Failure, took time.Duration) {
	switch {
	case failure == nil:
		m.invocations.WithLabelValues("ok").Inc()
	case failure.leftOut:
		m.invocations.WithLabelValues("left_out").Inc()
		return // it took nothing
	default:
		m.invocations.WithLabelValues(string(failure.Kind)).Inc()
	}
	m.seconds.Observe(took.Seconds())
}
