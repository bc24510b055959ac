package decisionlog

import "github.com/prometheus/client_golang/prometheus"

// counts are what is counted where mu is held anyway.
type counts struct {
	records uint64
	bytes   uint64
	leftOut uint64
	full    uint64
	damaged uint64
}

// metrics are what an operator watches of the decision log.
type metrics struct {
	batches *prometheus.CounterVec
	resends *prometheus.CounterVec
	ignored *prometheus.CounterVec
}

const (
	namespace = "verdict"
	subsystem = "decision_log"
)

// newMetrics registers the metrics of w; reg may be nil.
func newMetrics(w *Writer, reg prometheus.Registerer) metrics {
	vec := func(name, label, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{label})
	}
	m := metrics{
		batches: vec("batches_total", "outcome", "Batches that were sent, by outcome: acknowledged, failed."),
		resends: vec("resends_total", "cause", "Times that sending began again at the first record that is not confirmed, by cause: stream_changed, not_taken, stream_lost."),
		ignored: vec("ingested_ignored_total", "cause", "What audit said and was not listened to, by cause: undecodable, stranger, beyond."),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.batches, m.resends, m.ignored)
	for name, c := range map[string]struct {
		help  string
		value func() uint64
	}{
		"records_total":          {"Records that are in the spool or were.", func() uint64 { return w.counts.records }},
		"bytes_total":            {"Bytes of these records.", func() uint64 { return w.counts.bytes }},
		"contexts_omitted_total": {"Records that left their context out, because it was too large.", func() uint64 { return w.counts.leftOut }},
		"full_total":             {"Decisions that were refused because the spool or the disk was full.", func() uint64 { return w.counts.full }},
		"damaged_boots_total":    {"Earlier boots that could not be read and were put aside.", func() uint64 { return w.counts.damaged }},
	} {
		opts := prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: c.help}
		reg.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return w.locked(c.value) }))
	}
	for name, g := range map[string]struct {
		help  string
		value func() uint64
	}{
		"spool_bytes":       {"Bytes of the files of the spool.", func() uint64 { return uint64(w.used) }},
		"spool_limit_bytes": {"The most that the spool may have.", func() uint64 { return uint64(w.cfg.SpoolBytes) }},
		"unconfirmed":       {"Records in the spool that audit has not confirmed.", func() uint64 { _, n := w.backlogLocked(); return n }},
		"unsent":            {"Records in the spool that no stream has acknowledged.", func() uint64 { n, _ := w.backlogLocked(); return n }},
	} {
		opts := prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: g.help}
		reg.MustRegister(prometheus.NewGaugeFunc(opts, func() float64 { return w.locked(g.value) }))
	}
	return m
}

func (w *Writer) locked(value func() uint64) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return float64(value())
}

// backlog is how many records are not acknowledged, and how many are not confirmed.
func (w *Writer) backlog() (unsent, unconfirmed uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.backlogLocked()
}

func (w *Writer) backlogLocked() (unsent, unconfirmed uint64) {
	for _, b := range w.sender.boots {
		unsent += b.last + 1 - min(b.next, b.last+1)
		unconfirmed += b.last - min(b.confirmed, b.last)
	}
	return unsent, unconfirmed
}
