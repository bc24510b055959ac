package refund

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// ErrWrong: the server answered, and the answer is not the one that the example's policy gives.
var ErrWrong = errors.New("wrong answer")

// Judge returns an error that wraps ErrWrong and shows the answer unless it is what the policy says about amount. It does not
// look at the decision id: see Ledger.
func (e *Example) Judge(amount int, answer *decisionv1.AuthorizeResponse) error {
	if wrong := e.fault(amount, answer); wrong != "" {
		return fmt.Errorf("%w: a refund of %d: %s; the answer is %s", ErrWrong, amount, wrong, Show(answer))
	}
	return nil
}

// fault says what is wrong, "" if nothing is.
func (e *Example) fault(amount int, answer *decisionv1.AuthorizeResponse) string {
	want, policies := decisionv1.Decision_DECISION_DENY, []string(nil)
	if amount < Limit {
		want, policies = decisionv1.Decision_DECISION_ALLOW, []string{e.PolicyID}
	}
	allow := want == decisionv1.Decision_DECISION_ALLOW
	switch {
	case answer.GetDecision() != want:
		return fmt.Sprintf("decision must be %s", want)
	case answer.GetProceed() != allow:
		return fmt.Sprintf("proceed must be %t", allow)
	case answer.GetMode() != decisionv1.Mode_MODE_ENFORCE:
		return "mode must be MODE_ENFORCE"
	case answer.GetPolicyEngineId() != e.EngineID:
		return fmt.Sprintf("policyEngineId must be %s", e.EngineID)
	case !slices.Equal(answer.GetDeterminingPolicies(), policies):
		return fmt.Sprintf("determiningPolicies must be %q", policies)
	case len(answer.GetErrors()) != 0:
		return "there must be no errors"
	case answer.GetRevision() == "":
		return "revision must not be empty"
	case answer.GetReason() == "":
		return "reason must not be empty"
	default:
		return ""
	}
}

// Show is an answer for people, of bounded length.
func Show(answer *decisionv1.AuthorizeResponse) string {
	const most = 2000
	text := protojson.Format(answer)
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
