package eventlog

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator watches of the log.
type metrics struct {
	commands     *prometheus.CounterVec
	transactions *prometheus.CounterVec
	seconds      prometheus.Histogram
}

// newMetrics registers the metrics of l; reg may be nil.
func newMetrics(l *Log, reg prometheus.Registerer) metrics {
	m := metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "verdict", Subsystem: "log", Name: "commands_total",
			Help: "Commands that were decided, by result: applied, unchanged, refused, replayed.",
		}, []string{"result"}),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "verdict", Subsystem: "log", Name: "transactions_total",
			Help: "Transactions that append, by outcome: committed, failed, unknown.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "verdict", Subsystem: "log", Name: "transaction_seconds",
			Help:    "Time of a transaction that appends, with the wait for the lock.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "verdict", Subsystem: "log", Name: name, Help: help}, value)
	}
	reg.MustRegister(m.commands, m.transactions, m.seconds,
		gauge("position", "The newest position that this replica knows.", func() float64 { return float64(l.Known().Position) }),
		gauge("writes_refused", "1 while writes are refused because an operator must decide.", func() float64 {
			if l.Refusal() != nil {
				return 1
			}
			return 0
		}))
	return m
}

// observe counts one transaction and, when it was committed, its commands.
func (m metrics) observe(began time.Time, results []Result, err error) {
	m.seconds.Observe(time.Since(began).Seconds())
	switch {
	case errors.Is(err, ErrUnknown):
		m.transactions.WithLabelValues("unknown").Inc()
		return
	case err != nil:
		m.transactions.WithLabelValues("failed").Inc()
		return
	}
	m.transactions.WithLabelValues("committed").Inc()
	for _, r := range results {
		m.commands.WithLabelValues(r.kind()).Inc()
	}
}

func (r Result) kind() string {
	switch {
	case r.Err != nil:
		return "refused"
	case r.Replayed:
		return "replayed"
	case len(r.Events) == 0:
		return "unchanged"
	}
	return "applied"
}
