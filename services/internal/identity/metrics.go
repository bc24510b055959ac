package identity

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// method is an index of the counters.
type method int

const (
	byNone method = iota // a header from which no method can be told
	byLoopback
	bySigV4
	byOIDC
	byMTLS
	numMethods
)

var methodLabels = [numMethods]string{"none", MethodLoopback, MethodSigV4, MethodOIDC, MethodMTLS}

// outcome is the other index.
type outcome int

const (
	accepted outcome = iota
	unauthenticated
	forbidden
	unavailable
	unread // the body could not be read
	numOutcomes
)

var outcomeLabels = [numOutcomes]string{"accepted", "unauthenticated", "forbidden", "unavailable", "unread"}

// metrics count. Labels come from the fixed sets above and from the issuers of the callers file.
type metrics struct {
	authentications *prometheus.CounterVec
	repeats         *prometheus.CounterVec
	fetches         *prometheus.CounterVec
	counters        [numMethods][numOutcomes]prometheus.Counter // of authentications: looking one up costs more than counting
}

func newMetrics() *metrics {
	m := &metrics{
		authentications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_identity_authentications_total", Help: "Requests whose caller was looked for, by method and outcome.",
		}, []string{"method", "outcome"}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_identity_signatures_refused_total",
			Help: "Signatures of changes that were refused because they had been taken before, or could not be told from such.",
		}, []string{"reason"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_identity_key_fetches_total", Help: "Times that the keys of an issuer were fetched, by outcome.",
		}, []string{"issuer", "outcome"}),
	}
	for i, method := range methodLabels {
		for j, outcome := range outcomeLabels {
			m.counters[i][j] = m.authentications.WithLabelValues(method, outcome)
		}
	}
	return m
}

func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	return errors.Join(registerer.Register(m.authentications), registerer.Register(m.repeats), registerer.Register(m.fetches))
}

func (m *metrics) authenticated(by method, err error) {
	if err == nil {
		m.counters[by][accepted].Inc()
		return
	}
	how := unread
	switch {
	case errors.Is(err, ErrUnauthenticated):
		how = unauthenticated
	case errors.Is(err, ErrForbidden):
		how = forbidden
	case errors.Is(err, ErrUnavailable):
		how = unavailable
	}
	m.counters[by][how].Inc()
}

// fetched counts the fetches of an issuer's keys.
func (m *metrics) fetched(issuer string) func(ok bool) {
	return func(ok bool) {
		outcome := "fetched"
		if !ok {
			outcome = "failed"
		}
		m.fetches.WithLabelValues(issuer, outcome).Inc()
	}
}
