package inbound

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/policy"
)

// outcome is what came of asking who calls.
type outcome int

const (
	isAccepted outcome = iota
	isMissing
	isInvalid
	isForbidden
	isUnavailable
	numOutcomes
)

var outcomes = [numOutcomes]string{"accepted", "missing", "invalid", "forbidden", "unavailable"}

// metrics count. Labels are from fixed sets: gateways name issuers, and there may be any number of those.
type metrics struct {
	callers *prometheus.CounterVec
	fetches *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		callers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_gateway_callers_total", Help: "Requests to gateways whose caller was looked for, by authorizer and outcome.",
		}, []string{"authorizer", "outcome"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_gateway_key_fetches_total", Help: "Times that the keys of a gateway's issuer were fetched, by outcome.",
		}, []string{"outcome"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.callers, m.fetches)
	}
	return m
}

func (m *metrics) count(d *policy.GatewayDefinition, refusal *Refusal) {
	authorizer, came := "none in force", isAccepted
	if d != nil {
		authorizer = string(d.AuthorizerType)
	}
	if refusal != nil {
		came = refusal.outcome
	}
	m.callers.WithLabelValues(authorizer, outcomes[came]).Inc()
}

func (m *metrics) fetched(ok bool) {
	if ok {
		m.fetches.WithLabelValues("fetched").Inc()
		return
	}
	m.fetches.WithLabelValues("failed").Inc()
}
