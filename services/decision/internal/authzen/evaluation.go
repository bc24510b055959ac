package authzen

import (
	"context"
	"errors"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json/jsontext"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// maxEvaluations is how many evaluations a request may hold, as many as a batch of the node.
const maxEvaluations = 1000

// maxWritten bounds evaluations with what they have in common written out in each, in bodies of the largest size: a short request must
// not make long work.
const maxWritten = 4

// evaluations is a request for several. What it says beside them is what they have in common.
type evaluations struct {
	parts
	Evaluations []jsontext.Value `json:"evaluations"`
	Options     struct {
		Semantic string `json:"evaluations_semantic"` //nolint:tagliatelle // AuthZEN names it so
	} `json:"options"`
}

// The ways to go through several evaluations.
const (
	executeAll          = "execute_all"
	denyOnFirstDeny     = "deny_on_first_deny"
	permitOnFirstPermit = "permit_on_first_permit"
)

// decision is the answer to one evaluation.
type decision struct {
	Decision bool `json:"decision"`
	Context  any  `json:"context"`
}

// grounds are the context of a decision: all that the node says of it.
type grounds struct {
	ID             string        `json:"id"`
	Reason         string        `json:"reason"`
	PolicyDecision string        `json:"policyDecision"` // Cedar's answer, which differs from ours where a DENY does not block
	PolicyEngineID string        `json:"policyEngineId,omitzero"`
	Mode           string        `json:"mode,omitzero"`
	Revision       string        `json:"revision"`
	Stale          bool          `json:"stale,omitzero"`
	Determining    []string      `json:"determiningPolicies"`
	Errors         []policyError `json:"errors,omitzero"`
}

type policyError struct {
	PolicyID string `json:"policyId"`
	Message  string `json:"message"`
}

// evaluation answers one.
func (a *API) evaluation(ctx context.Context, c *call) (any, error) {
	asked, err := decode[parts](c.body)
	if err != nil {
		return nil, err
	}
	authorize, err := a.cfg.Node.AtOneRevision(ctx)
	if err != nil {
		return nil, err
	}
	return evaluate(authorize, asked, c.requestID)
}

// evaluations answers several, or the one that a request without any is.
func (a *API) evaluations(ctx context.Context, c *call) (any, error) {
	asked, err := decode[evaluations](c.body)
	if err != nil {
		return nil, err
	}
	if err := asked.check(maxWritten * a.cfg.MaxBody); err != nil {
		return nil, err
	}
	authorize, err := a.cfg.Node.AtOneRevision(ctx)
	if err != nil {
		return nil, err
	}
	if len(asked.Evaluations) == 0 {
		return evaluate(authorize, &asked.parts, c.requestID)
	}
	out := struct {
		Evaluations []*decision `json:"evaluations"`
	}{make([]*decision, 0, len(asked.Evaluations))}
	for _, one := range asked.Evaluations {
		answer, err := asked.evaluate(authorize, one, c.requestID)
		if err != nil {
			return nil, err
		}
		out.Evaluations = append(out.Evaluations, answer)
		if asked.ends(answer.Decision) {
			break
		}
	}
	return out, nil
}

// check refuses what is wrong whatever the evaluations are.
func (e *evaluations) check(most int64) error {
	known := []string{"", executeAll, denyOnFirstDeny, permitOnFirstPermit}
	written := (len(e.Subject) + len(e.Action) + len(e.Resource) + len(e.Context)) * len(e.Evaluations)
	switch {
	case len(e.Evaluations) > maxEvaluations:
		return policy.Invalid("length", "evaluations", "a request may hold %d evaluations; this one has %d", maxEvaluations, len(e.Evaluations))
	case int64(written) > most:
		return rpc.Errorf(connect.CodeResourceExhausted, "too_large",
			"what the evaluations have in common would be %d bytes, written out in each of them; %d are taken: send fewer at once", written, most)
	case !slices.Contains(known, e.Options.Semantic):
		return policy.Invalid("enum", "options.evaluations_semantic", "options.evaluations_semantic is one of %s", strings.Join(known[1:], ", "))
	}
	return e.checkTypes()
}

// ends reports whether nothing is asked after an answer.
func (e *evaluations) ends(permitted bool) bool {
	return e.Options.Semantic == denyOnFirstDeny && !permitted || e.Options.Semantic == permitOnFirstPermit && permitted
}

// evaluate answers one of several. What is no evaluation is denied in its place; what is wrong with the node is an error.
func (e *evaluations) evaluate(authorize Authorize, one jsontext.Value, requestID string) (*decision, error) {
	asked, err := decode[parts](one)
	if err == nil {
		asked.inherit(&e.parts)
		var answer *decision
		if answer, err = evaluate(authorize, asked, requestID); err == nil {
			return answer, nil
		}
	}
	refusal, ok := errors.AsType[*policy.Error](err)
	if !ok {
		return nil, err
	}
	own := &rpc.Error{Code: connect.CodeInvalidArgument, Reason: refusal.Reason, Field: refusal.Field, Message: refusal.Message}
	if errors.Is(refusal.Kind, policy.ErrNotFound) {
		own.Code = connect.CodeNotFound
	}
	return &decision{Context: struct {
		Error failure `json:"error"`
	}{failureOf(own)}}, nil
}

// evaluate asks the node.
func evaluate(authorize Authorize, asked *parts, requestID string) (*decision, error) {
	req, err := asked.request()
	if err != nil {
		return nil, err
	}
	req.RequestId = requestID
	answer, err := authorize(req)
	if err != nil {
		return nil, err
	}
	return &decision{answer.GetProceed(), groundsOf(answer)}, nil
}

func groundsOf(m *decisionv1.AuthorizeResponse) *grounds {
	out := &grounds{
		ID: m.GetDecisionId(), Reason: m.GetReason(), PolicyDecision: strings.TrimPrefix(m.GetDecision().String(), "DECISION_"),
		PolicyEngineID: m.GetPolicyEngineId(), Revision: m.GetRevision(), Stale: m.GetStale(), Determining: m.GetDeterminingPolicies(),
	}
	if m.GetMode() != decisionv1.Mode_MODE_UNSPECIFIED {
		out.Mode = strings.TrimPrefix(m.GetMode().String(), "MODE_")
	}
	for _, e := range m.GetErrors() {
		out.Errors = append(out.Errors, policyError{e.GetPolicyId(), e.GetMessage()})
	}
	return out
}
