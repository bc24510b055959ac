package decision

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

type metrics struct {
	decisions *prometheus.CounterVec
	seconds   prometheus.Histogram
	revision  prometheus.Gauge
	publish   prometheus.Histogram
	applied   prometheus.Histogram
	unkeyed   prometheus.Gauge
	engines   *prometheus.GaugeVec
}

// unkeyedClasses are the labels of snapshot.Unkeyed.Engines. Engines are too many to be labels.
var unkeyedClasses = [...]string{"0", "1-9", "10-99", "100-999", "1000+"}

// Reason codes are a fixed set, so they may be a label.
func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_decision_decisions_total", Help: "Decisions that were recorded and answered.",
		}, []string{"account", "decision", "mode", "reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_decision_seconds", Help: "Time from the decoded request to the recorded decision.",
			Buckets: []float64{2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2, 0.1, 1},
		}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "verdict_decision_revision", Help: "The revision that decides.",
		}),
		publish: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_decision_snapshot_seconds", Help: "Time to make a snapshot of a new state.",
			Buckets: prometheus.ExponentialBuckets(1e-5, 4, 10),
		}),
		applied: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_decision_applied_seconds", Help: "Time from an event's commit, by control's clock, to the snapshot that has it.",
			Buckets: []float64{1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 5, 30},
		}),
		unkeyed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "verdict_decision_unkeyed_policies",
			Help: "Policies that name no tool, target or principal and begin with no test of a tag, so that every request of their gateways is decided by them.",
		}),
		engines: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "verdict_decision_engines", Help: "Policy engines, by how many of their policies are unkeyed.",
		}, []string{"unkeyed"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.decisions, m.seconds, m.revision, m.publish, m.applied, m.unkeyed, m.engines)
	}
	return m
}

func (m *metrics) published(state *policy.State, unkeyed snapshot.Unkeyed, took time.Duration) {
	m.unkeyed.Set(float64(unkeyed.Policies))
	for i, n := range unkeyed.Engines {
		m.engines.WithLabelValues(unkeyedClasses[i]).Set(float64(n))
	}
	m.revision.Set(float64(state.Position))
	m.publish.Observe(took.Seconds())
	m.applied.Observe(max(0, time.Since(time.UnixMicro(state.RecordedAt)).Seconds()))
}

func (m *metrics) decided(account string, d *snapshot.Decision, detail *decisionv1.DecisionDetail, took time.Duration) {
	m.decisions.WithLabelValues(account, detail.GetDecision().String(), detail.GetMode().String(), d.ReasonCode).Inc()
	m.seconds.Observe(took.Seconds())
}
