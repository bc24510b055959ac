package store

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// Kinds of rows.
const (
	kindDecision = "decision"
	kindOpened   = "opened"
	kindClosed   = "closed"
	kindDropped  = "dropped"
)

// logAccount is the account of what the log says of itself; no caller has it.
const logAccount = "-"

// The bits of row.present: messages within a record that are there, empty or not.
const (
	hasPrincipal = 1 << iota
	hasAction
	hasResource
	hasLogOnly
	hasSettings
	hasSettingRedactedPaths
)

// flatten makes r a record of a block.
func flatten(r *row, b *Block, in *Row) error {
	rec := in.Record
	*r = row{
		recordVersion: rec.GetVersion(), node: rec.GetNode(), boot: stream.Boot(rec.GetBoot()).String(), seq: rec.GetSeq(),
		recordedAt: micros(rec.GetRecordedAtUs()), account: logAccount, now: micros(0), givenOut: in.GivenOut, storedAt: in.StoredAt.UTC(),
		partition: uint16(b.Partition), streamID: b.StreamID, streamSequence: in.Sequence,
	}
	switch what := rec.GetWhat().(type) {
	case *decisionv1.DecisionRecord_Decision:
		r.kind = kindDecision
		flattenDecision(r, what.Decision)
	case *decisionv1.DecisionRecord_Opened:
		r.kind, r.build, r.previousGivenOut = kindOpened, what.Opened.GetBuild(), what.Opened.GetPreviousGivenOut()
		r.previousIsBound = what.Opened.GetPreviousIsBound()
		r.previousBoot = bootText(what.Opened.GetPreviousBoot())
	case *decisionv1.DecisionRecord_Closed:
		r.kind = kindClosed
	case *decisionv1.DecisionRecord_Dropped:
		r.kind, r.dropped = kindDropped, what.Dropped.GetCount()
	}
	if columnsLack(rec) {
		raw, err := proto.Marshal(rec)
		if err != nil {
			return err
		}
		r.raw = string(raw)
	}
	return nil
}

func flattenDecision(r *row, d *decisionv1.DecisionDetail) {
	r.account, r.gatewayARN, r.engineID = d.GetAccount(), d.GetGatewayArn(), d.GetPolicyEngineId()
	r.engineSource = wordOf(d.GetEngineSource(), "ENGINE_SOURCE_")
	r.principalType, r.principalID, r.principalTags = d.GetPrincipal().GetType(), d.GetPrincipal().GetId(), d.GetPrincipal().GetTags()
	r.actionType, r.actionID = d.GetAction().GetType(), d.GetAction().GetId()
	r.resourceType, r.resourceID = d.GetResource().GetType(), d.GetResource().GetId()
	r.contextJSON, r.requestDigest, r.now = d.GetContextJson(), hex.EncodeToString(d.GetRequestDigest()), micros(d.GetNowUs())
	r.decision, r.proceed, r.mode = wordOf(d.GetDecision(), "DECISION_"), d.GetProceed(), wordOf(d.GetMode(), "MODE_")
	r.determining = d.GetDeterminingPolicies()
	for _, e := range d.GetErrors() {
		r.errorPolicies, r.errorMessages = append(r.errorPolicies, e.GetPolicyId()), append(r.errorMessages, e.GetMessage())
	}
	r.logOnlyMatched, r.logOnlyFlipping = d.GetLogOnly().GetMatched(), d.GetLogOnly().GetFlipping()
	r.logOnlyMismatched, r.logOnlyIncomplete = d.GetLogOnly().GetMismatched(), d.GetLogOnly().GetIncomplete()
	r.reason, r.reasonCode, r.revision, r.logHash = d.GetReason(), d.GetReasonCode(), d.GetRevision(), hex.EncodeToString(d.GetLogHash())
	r.evaluatorVersion = d.GetEvaluatorVersion()
	r.staleness, r.stale, r.redactedPaths, r.replayable = d.StalenessUs, d.GetStale(), d.GetRedactedPaths(), d.GetReplayable()
	r.latency, r.requestID = d.GetLatencyNs(), d.GetRequestId()
	r.traceID, r.spanID = hex.EncodeToString(d.GetTraceId()), hex.EncodeToString(d.GetSpanId())
	if s := d.GetSettings(); s != nil {
		r.settingStalenessBound, r.settingStrictForbids = s.StalenessBoundMs, s.StrictForbids
		r.settingOnStale, r.settingRedactedPaths = wordOf(s.GetOnStale(), "ON_STALE_"), s.GetRedactedPaths().GetPaths()
	}
	r.present = bit(d.GetPrincipal() != nil, hasPrincipal) | bit(d.GetAction() != nil, hasAction) |
		bit(d.GetResource() != nil, hasResource) | bit(d.GetLogOnly() != nil, hasLogOnly) |
		bit(d.GetSettings() != nil, hasSettings) | bit(d.GetSettings().GetRedactedPaths() != nil, hasSettingRedactedPaths)
}

func bit(set bool, b uint8) uint8 {
	if set {
		return b
	}
	return 0
}

// Bounds of the times that a column can hold, in microseconds. The client counts in nanoseconds on the way.
var (
	firstTime = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	lastTime  = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

// micros is a time for a column; what the column cannot hold becomes its nearest.
func micros(us int64) time.Time { return time.UnixMicro(min(max(us, firstTime), lastTime)).UTC() }

func fitsTime(us int64) bool { return us >= firstTime && us <= lastTime }

// columnsLack says whether a record has more to it than the columns say: fields of a later version, times out of range. Such a
// record is kept whole beside its columns.
func columnsLack(rec *decisionv1.DecisionRecord) bool {
	d := rec.GetDecision()
	previous := rec.GetOpened().GetPreviousBoot()
	return !fitsTime(rec.GetRecordedAtUs()) || !fitsTime(d.GetNowUs()) || len(previous) != 0 && len(previous) != len(stream.Boot{}) ||
		hasUnknown[proto.Message](rec, rec.GetOpened(), rec.GetClosed(), rec.GetDropped(), d, d.GetPrincipal(), d.GetAction(),
			d.GetResource(), d.GetLogOnly(), d.GetSettings(), d.GetSettings().GetRedactedPaths()) || hasUnknown(d.GetErrors()...)
}

func hasUnknown[M proto.Message](messages ...M) bool {
	for _, m := range messages {
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			return true
		}
	}
	return false
}

// enum is an enumeration of the contract.
type enum interface {
	protoreflect.Enum
	String() string
}

// wordOf is a value without the prefix that all of its kind have; "" for the unspecified one, a number for a later version's.
func wordOf(v enum, prefix string) string {
	if v.Number() == 0 {
		return ""
	}
	return strings.TrimPrefix(v.String(), prefix)
}

// fromWord is the inverse of wordOf.
func fromWord[E ~int32](text, prefix string, values map[string]int32) E {
	if v, ok := values[prefix+text]; ok {
		return E(v)
	}
	n, _ := strconv.ParseInt(text, 10, 32) // "" is 0
	return E(n)
}

// record is the inverse of flatten.
func (r *row) record() (*decisionv1.DecisionRecord, error) {
	if r.raw != "" {
		rec := &decisionv1.DecisionRecord{}
		return rec, proto.Unmarshal([]byte(r.raw), rec)
	}
	boot, err := stream.ParseBoot(r.boot)
	if err != nil {
		return nil, err
	}
	rec := &decisionv1.DecisionRecord{
		Version: r.recordVersion, Node: r.node, Boot: boot[:], Seq: r.seq, RecordedAtUs: r.recordedAt.UnixMicro(),
	}
	switch r.kind {
	case kindDecision:
		detail, err := r.detail()
		if err != nil {
			return nil, err
		}
		rec.What = &decisionv1.DecisionRecord_Decision{Decision: detail}
	case kindOpened:
		opened := &decisionv1.BootOpened{Build: r.build, PreviousGivenOut: r.previousGivenOut, PreviousIsBound: r.previousIsBound}
		if r.previousBoot != "" {
			previous, err := stream.ParseBoot(r.previousBoot)
			if err != nil {
				return nil, err
			}
			opened.PreviousBoot = previous[:]
		}
		rec.What = &decisionv1.DecisionRecord_Opened{Opened: opened}
	case kindClosed:
		rec.What = &decisionv1.DecisionRecord_Closed{Closed: &decisionv1.BootClosed{}}
	case kindDropped:
		rec.What = &decisionv1.DecisionRecord_Dropped{Dropped: &decisionv1.RecordsDropped{Count: r.dropped}}
	}
	return rec, nil
}

func (r *row) detail() (*decisionv1.DecisionDetail, error) {
	digest, err1 := hex.DecodeString(r.requestDigest)
	logHash, err2 := hex.DecodeString(r.logHash)
	traceID, err3 := hex.DecodeString(r.traceID)
	spanID, err4 := hex.DecodeString(r.spanID)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	d := &decisionv1.DecisionDetail{
		Account: r.account, GatewayArn: r.gatewayARN, PolicyEngineId: r.engineID,
		EngineSource: fromWord[decisionv1.EngineSource](r.engineSource, "ENGINE_SOURCE_", decisionv1.EngineSource_value),
		ContextJson:  r.contextJSON, RequestDigest: digest, NowUs: r.now.UnixMicro(),
		Decision: fromWord[decisionv1.Decision](r.decision, "DECISION_", decisionv1.Decision_value), Proceed: r.proceed,
		Mode:                fromWord[decisionv1.Mode](r.mode, "MODE_", decisionv1.Mode_value),
		DeterminingPolicies: r.determining, Reason: r.reason, ReasonCode: r.reasonCode, Revision: r.revision, LogHash: logHash,
		EvaluatorVersion: r.evaluatorVersion, StalenessUs: r.staleness, Stale: r.stale, RedactedPaths: r.redactedPaths,
		Replayable: r.replayable, LatencyNs: r.latency, RequestId: r.requestID, TraceId: traceID, SpanId: spanID,
	}
	for i, id := range r.errorPolicies {
		d.Errors = append(d.Errors, &decisionv1.PolicyError{PolicyId: id, Message: r.errorMessages[i]})
	}
	r.parts(d)
	return d, nil
}

// parts sets the messages within a decision that are there.
func (r *row) parts(d *decisionv1.DecisionDetail) {
	if r.present&hasPrincipal != 0 {
		d.Principal = &decisionv1.Principal{Type: r.principalType, Id: r.principalID, Tags: r.principalTags}
	}
	if r.present&hasAction != 0 {
		d.Action = &decisionv1.Entity{Type: r.actionType, Id: r.actionID}
	}
	if r.present&hasResource != 0 {
		d.Resource = &decisionv1.Entity{Type: r.resourceType, Id: r.resourceID}
	}
	if r.present&hasLogOnly != 0 {
		d.LogOnly = &decisionv1.LogOnlyFindings{
			Matched: r.logOnlyMatched, Flipping: r.logOnlyFlipping, Mismatched: r.logOnlyMismatched, Incomplete: r.logOnlyIncomplete,
		}
	}
	if r.present&hasSettings != 0 {
		d.Settings = &eventv1.Settings{
			StalenessBoundMs: r.settingStalenessBound, StrictForbids: r.settingStrictForbids,
			OnStale: fromWord[eventv1.OnStale](r.settingOnStale, "ON_STALE_", eventv1.OnStale_value),
		}
	}
	if r.present&hasSettingRedactedPaths != 0 {
		d.Settings.RedactedPaths = &eventv1.RedactedPaths{Paths: r.settingRedactedPaths}
	}
}

// bootText is a boot as it stands in columns; "" when there is none.
func bootText(boot []byte) string {
	if len(boot) != len(stream.Boot{}) {
		return ""
	}
	return stream.Boot(boot).String()
}
