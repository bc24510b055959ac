package decision

import (
	"crypto/sha256"
	"strconv"
	"sync"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/decision/internal/wire"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// decided is what was decided about a request, not yet recorded.
type decided struct {
	message     *decisionv1.AuthorizeRequest
	request     *snapshot.Request
	decision    *snapshot.Decision
	explanation []*decisionv1.PermitExplanation // when it was asked for
}

// decide asks the snapshot.
func (t *turn) decide(m *decisionv1.AuthorizeRequest) (decided, error) {
	r, err := t.read(m)
	if err != nil {
		return decided{}, err
	}
	d, err := t.snapshot.Authorize(r)
	if err != nil {
		return decided{}, err
	}
	out := decided{message: m, request: r, decision: d}
	if m.GetExplain() {
		out.explanation = explanation(t.snapshot.Explain(r, d))
	}
	return out, nil
}

// record writes a decision down and then is the answer, which names the record.
func (t *turn) record(of decided) (*decisionv1.AuthorizeResponse, error) {
	m, r, d := of.message, of.request, of.decision
	digest, err := digestOf(m)
	if err != nil {
		return nil, err
	}
	detail := t.detail(m, r, d, digest)
	redact(detail)
	detail.LatencyNs = uint64(max(0, time.Since(t.began)))
	id, err := t.node.log.Record(detail, t.began)
	if err != nil {
		return nil, err
	}
	t.node.metrics.decided(t.account, d, detail, time.Since(t.began))
	return &decisionv1.AuthorizeResponse{
		Decision: detail.GetDecision(), Proceed: d.Proceed, DeterminingPolicies: d.Determining, Errors: errorsOf(d), Reason: d.Reason,
		DecisionId: id.String(), PolicyEngineId: d.EngineID, Revision: strconv.FormatUint(t.snapshot.Revision(), 10),
		Mode: detail.GetMode(), Stale: d.Stale, Explanation: of.explanation,
	}, nil
}

func (t *turn) detail(m *decisionv1.AuthorizeRequest, r *snapshot.Request, d *snapshot.Decision, digest []byte) *decisionv1.DecisionDetail {
	hash := t.snapshot.Hash()
	context := d.ContextJSON()
	out := &decisionv1.DecisionDetail{
		Account: t.account, GatewayArn: d.GatewayARN, PolicyEngineId: d.EngineID, EngineSource: sources[d.Source],
		Principal: m.GetPrincipal(), Action: m.GetAction(), Resource: m.GetResource(), ContextJson: string(context), RequestDigest: digest,
		NowUs: r.Now, Decision: answer(d.Allow), Proceed: d.Proceed, Mode: modes[d.Mode],
		DeterminingPolicies: d.Determining, Errors: errorsOf(d), LogOnly: findings(d), Reason: d.Reason, ReasonCode: d.ReasonCode,
		Revision: t.snapshot.Revision(), LogHash: hash[:], EvaluatorVersion: snapshot.EvaluatorVersion,
		Settings: stream.SettingsToProto(d.Settings), Stale: d.Stale, Replayable: len(context) > 0,
		RequestId: m.GetRequestId(), TraceId: t.trace.id, SpanId: t.trace.span,
	}
	if t.proven {
		out.StalenessUs = new(uint64(max(0, t.staleness.Microseconds())))
	}
	if out.GetRequestId() == "" {
		out.RequestId = t.trace.requestID
	}
	return out
}

var scratch = sync.Pool{New: func() any { return new([]byte) }}

// digestOf is SHA-256 of the request in deterministic binary form, as the contract has it.
func digestOf(m *decisionv1.AuthorizeRequest) ([]byte, error) {
	buffer := scratch.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer scratch.Put(buffer)
	data, err := wire.AppendRequest((*buffer)[:0], m)
	if err != nil {
		return nil, err
	}
	*buffer = data
	sum := sha256.Sum256(data)
	return sum[:], nil
}

var sources = map[snapshot.Source]decisionv1.EngineSource{
	snapshot.SourceGateway: decisionv1.EngineSource_ENGINE_SOURCE_GATEWAY,
	snapshot.SourceRequest: decisionv1.EngineSource_ENGINE_SOURCE_REQUEST,
}

var modes = map[policy.EngineMode]decisionv1.Mode{
	policy.ModeEnforce: decisionv1.Mode_MODE_ENFORCE,
	policy.ModeLogOnly: decisionv1.Mode_MODE_LOG_ONLY,
}

func answer(allow bool) decisionv1.Decision {
	if allow {
		return decisionv1.Decision_DECISION_ALLOW
	}
	return decisionv1.Decision_DECISION_DENY
}

func errorsOf(d *snapshot.Decision) []*decisionv1.PolicyError {
	if len(d.Errors) == 0 {
		return nil
	}
	out := make([]*decisionv1.PolicyError, len(d.Errors))
	for i, e := range d.Errors {
		out[i] = &decisionv1.PolicyError{PolicyId: e.PolicyID, Message: e.Message}
	}
	return out
}

func explanation(permits []snapshot.PermitExplanation) []*decisionv1.PermitExplanation {
	var out []*decisionv1.PermitExplanation
	for _, p := range permits {
		permit := &decisionv1.PermitExplanation{PolicyId: p.PolicyID}
		for i := range p.Clauses {
			permit.Clauses = append(permit.Clauses, clause(&p.Clauses[i]))
		}
		out = append(out, permit)
	}
	return out
}

func clause(c *snapshot.Clause) *decisionv1.Clause {
	out := &decisionv1.Clause{Text: c.Text, Result: decisionv1.ClauseResult_CLAUSE_RESULT_FALSE, Error: c.Error}
	switch {
	case c.Holds:
		out.Result = decisionv1.ClauseResult_CLAUSE_RESULT_TRUE
	case c.Error != "":
		out.Result = decisionv1.ClauseResult_CLAUSE_RESULT_ERROR
	}
	for _, v := range c.Values {
		out.Values = append(out.Values, &decisionv1.ClauseValue{Expression: v.Expression, Value: v.Value})
	}
	return out
}

// findings are absent when there are none.
func findings(d *snapshot.Decision) *decisionv1.LogOnlyFindings {
	f := d.LogOnly
	if len(f.Matched)+len(f.Flipping)+len(f.Mismatched) == 0 && !f.Incomplete {
		return nil
	}
	return &decisionv1.LogOnlyFindings{Matched: f.Matched, Flipping: f.Flipping, Mismatched: f.Mismatched, Incomplete: f.Incomplete}
}
