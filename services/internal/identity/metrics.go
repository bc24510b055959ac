package identity

import (
	"cmp"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	callers *prometheus.CounterVec
	fetches *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		callers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_authentications_total", Help: "Requests by the method with which their caller is known, and the outcome.",
		}, []string{"method", "outcome"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_jwks_fetches_total", Help: "Fetches of the keys of an issuer of tokens, by outcome.",
		}, []string{"issuer", "outcome"}),
	}
	if r != nil {
		r.MustRegister(m.callers, m.fetches)
	}
	return m
}

func (m *metrics) observe(method string, err error) {
	outcome := "known"
	switch {
	case errors.Is(err, ErrForbidden):
		outcome = "forbidden"
	case err != nil:
		outcome = "refused"
	}
	m.callers.WithLabelValues(cmp.Or(method, "none"), outcome).Inc()
}
