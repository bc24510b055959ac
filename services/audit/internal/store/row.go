package store

import (
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// row is one row of the table decisions, a field for each column.
type row struct {
	recordedAt, now, storedAt                          time.Time
	kind, account, node, boot                          string
	gatewayARN, engineID, engineSource                 string
	principalType, principalID                         string
	principalTags                                      map[string]string
	actionType, actionID, resourceType, resourceID     string
	contextJSON, requestDigest                         string
	decision, mode, reason, reasonCode                 string
	proceed, stale, replayable                         bool
	determining, errorPolicies, errorMessages          []string
	logOnlyMatched, logOnlyFlipping, logOnlyMismatched []string
	logOnlyIncomplete                                  bool
	logHash, evaluatorVersion                          string
	settingOnStale                                     string
	settingStalenessBound, staleness                   *uint64
	settingStrictForbids                               *bool
	settingRedactedPaths, redactedPaths                []string
	requestID, traceID, spanID                         string
	build, previousBoot                                string
	previousIsBound                                    bool
	revision, latency, dropped, previousGivenOut       uint64
	seq, givenOut, streamSequence                      uint64
	recordVersion                                      uint32
	present                                            uint8
	partition                                          uint16
	streamID, raw                                      string
}

// column is a column of the table: how many rows get into a batch at once, and where a row that is read keeps its value.
type column struct {
	name   string
	append func(to driver.BatchColumn, rows []row) error
	at     func(*row) any
}

// field is the column that holds a field of row.
func field[T any](name string, at func(*row) *T) column {
	return column{
		name: name,
		append: func(to driver.BatchColumn, rows []row) error {
			values := make([]T, len(rows))
			for i := range rows {
				values[i] = *at(&rows[i])
			}
			return to.Append(values)
		},
		at: func(r *row) any { return at(r) },
	}
}

// repeated is the column of a field that is often what it was in the row before, or empty, and that the client library takes in
// faster one by one.
func repeated[T any](name string, at func(*row) *T, same func(a, b T) bool) column {
	c := field(name, at)
	c.append = func(to driver.BatchColumn, rows []row) error {
		var last T
		boxed := any(last)
		for i := range rows {
			if v := *at(&rows[i]); !same(v, last) {
				last, boxed = v, v
			}
			if err := to.AppendRow(boxed); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// word is a column of few different texts.
func word(name string, at func(*row) *string) column {
	return repeated(name, at, func(a, b string) bool { return a == b })
}

// list is a column of lists, most of them empty.
func list(name string, at func(*row) *[]string) column {
	return repeated(name, at, func(a, b []string) bool { return len(a) == 0 && len(b) == 0 })
}

// columns are all that is written and read; the table has decision_id beside them, which is made of two.
var columns = []column{
	field("recorded_at", func(r *row) *time.Time { return &r.recordedAt }),
	word("kind", func(r *row) *string { return &r.kind }),
	word("account", func(r *row) *string { return &r.account }),
	word("gateway_arn", func(r *row) *string { return &r.gatewayARN }),
	word("policy_engine_id", func(r *row) *string { return &r.engineID }),
	word("engine_source", func(r *row) *string { return &r.engineSource }),
	word("principal_type", func(r *row) *string { return &r.principalType }),
	field("principal_id", func(r *row) *string { return &r.principalID }),
	field("principal_tags", func(r *row) *map[string]string { return &r.principalTags }),
	word("action_type", func(r *row) *string { return &r.actionType }),
	word("action_id", func(r *row) *string { return &r.actionID }),
	word("resource_type", func(r *row) *string { return &r.resourceType }),
	word("resource_id", func(r *row) *string { return &r.resourceID }),
	field("context_json", func(r *row) *string { return &r.contextJSON }),
	field("request_digest", func(r *row) *string { return &r.requestDigest }),
	field("now", func(r *row) *time.Time { return &r.now }),
	word("decision", func(r *row) *string { return &r.decision }),
	field("proceed", func(r *row) *bool { return &r.proceed }),
	word("mode", func(r *row) *string { return &r.mode }),
	list("determining_policies", func(r *row) *[]string { return &r.determining }),
	list("error_policies", func(r *row) *[]string { return &r.errorPolicies }),
	list("error_messages", func(r *row) *[]string { return &r.errorMessages }),
	list("log_only_matched", func(r *row) *[]string { return &r.logOnlyMatched }),
	list("log_only_flipping", func(r *row) *[]string { return &r.logOnlyFlipping }),
	list("log_only_mismatched", func(r *row) *[]string { return &r.logOnlyMismatched }),
	field("log_only_incomplete", func(r *row) *bool { return &r.logOnlyIncomplete }),
	field("reason", func(r *row) *string { return &r.reason }),
	word("reason_code", func(r *row) *string { return &r.reasonCode }),
	field("revision", func(r *row) *uint64 { return &r.revision }),
	field("log_hash", func(r *row) *string { return &r.logHash }),
	word("evaluator_version", func(r *row) *string { return &r.evaluatorVersion }),
	field("setting_staleness_bound_ms", func(r *row) **uint64 { return &r.settingStalenessBound }),
	word("setting_on_stale", func(r *row) *string { return &r.settingOnStale }),
	field("setting_strict_forbids", func(r *row) **bool { return &r.settingStrictForbids }),
	list("setting_redacted_paths", func(r *row) *[]string { return &r.settingRedactedPaths }),
	field("staleness_us", func(r *row) **uint64 { return &r.staleness }),
	field("stale", func(r *row) *bool { return &r.stale }),
	list("redacted_paths", func(r *row) *[]string { return &r.redactedPaths }),
	field("replayable", func(r *row) *bool { return &r.replayable }),
	field("latency_ns", func(r *row) *uint64 { return &r.latency }),
	field("request_id", func(r *row) *string { return &r.requestID }),
	field("trace_id", func(r *row) *string { return &r.traceID }),
	field("span_id", func(r *row) *string { return &r.spanID }),
	field("dropped", func(r *row) *uint64 { return &r.dropped }),
	word("build", func(r *row) *string { return &r.build }),
	word("previous_boot", func(r *row) *string { return &r.previousBoot }),
	field("previous_given_out", func(r *row) *uint64 { return &r.previousGivenOut }),
	field("previous_is_bound", func(r *row) *bool { return &r.previousIsBound }),
	word("node", func(r *row) *string { return &r.node }),
	word("boot", func(r *row) *string { return &r.boot }),
	field("seq", func(r *row) *uint64 { return &r.seq }),
	field("given_out", func(r *row) *uint64 { return &r.givenOut }),
	field("record_version", func(r *row) *uint32 { return &r.recordVersion }),
	field("present", func(r *row) *uint8 { return &r.present }),
	field("raw", func(r *row) *string { return &r.raw }),
	field("partition", func(r *row) *uint16 { return &r.partition }),
	word("stream_id", func(r *row) *string { return &r.streamID }),
	field("stream_sequence", func(r *row) *uint64 { return &r.streamSequence }),
	field("stored_at", func(r *row) *time.Time { return &r.storedAt }),
}
