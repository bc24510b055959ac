package refund

import (
	"errors"
	"strings"
	"testing"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

var example = &Example{GatewayARN: "arn:gw", EngineID: "RefundEngine-1", PolicyID: "refund_limit-1"}

// right is what an honest server says about amount.
func right(amount int) *decisionv1.AuthorizeResponse {
	out := &decisionv1.AuthorizeResponse{
		Decision: decisionv1.Decision_DECISION_DENY, Mode: decisionv1.Mode_MODE_ENFORCE, PolicyEngineId: "RefundEngine-1", Revision: "9",
		Reason: "Denied.",
	}
	if amount < 1000 {
		out.Decision, out.Proceed, out.DeterminingPolicies = decisionv1.Decision_DECISION_ALLOW, true, []string{"refund_limit-1"}
	}
	return out
}

func TestJudgePassesRightAnswers(t *testing.T) {
	for _, amount := range []int{0, 1, 999, 1000, 1001, 5000} {
		if err := example.Judge(amount, right(amount)); err != nil {
			t.Errorf("a refund of %d: %v", amount, err)
		}
	}
}

func TestJudgeRefusesEveryLie(t *testing.T) {
	lies := map[string]func(*decisionv1.AuthorizeResponse){
		"decision":            func(a *decisionv1.AuthorizeResponse) { a.Decision = 3 - a.Decision },
		"no decision":         func(a *decisionv1.AuthorizeResponse) { a.Decision = 0 },
		"proceed":             func(a *decisionv1.AuthorizeResponse) { a.Proceed = !a.Proceed },
		"mode":                func(a *decisionv1.AuthorizeResponse) { a.Mode = decisionv1.Mode_MODE_LOG_ONLY },
		"policyEngineId":      func(a *decisionv1.AuthorizeResponse) { a.PolicyEngineId = "other" },
		"determiningPolicies": func(a *decisionv1.AuthorizeResponse) { a.DeterminingPolicies = append(a.DeterminingPolicies, "other") },
		"errors":              func(a *decisionv1.AuthorizeResponse) { a.Errors = []*decisionv1.PolicyError{{PolicyId: "p"}} },
		"revision":            func(a *decisionv1.AuthorizeResponse) { a.Revision = "" },
		"reason":              func(a *decisionv1.AuthorizeResponse) { a.Reason = "" },
	}
	for name, lie := range lies {
		for _, amount := range []int{999, 1000} {
			answer := right(amount)
			lie(answer)
			err := example.Judge(amount, answer)
			if !errors.Is(err, ErrWrong) {
				t.Errorf("%s of %d: %v is not ErrWrong", name, amount, err)
			} else if word := strings.Fields(name)[len(strings.Fields(name))-1]; !strings.Contains(err.Error(), word) {
				t.Errorf("%s of %d: %v does not say what is wrong", name, amount, err)
			}
		}
	}
}

func TestLedgerKnowsEveryID(t *testing.T) {
	id := func(boot byte, seq ...byte) string {
		raw := make([]byte, 24)
		raw[0] = boot
		copy(raw[24-len(seq):], seq)
		return idEncoding.EncodeToString(raw)
	}
	good := id(1, 1)
	var ledger Ledger
	for _, step := range []struct {
		name, id string
		wrong    bool
	}{
		{"the first", good, false},
		{"the same again", good, true},
		{"the next", id(1, 2), false},
		{"another boot", id(2, 1), false},
		{"the same again of another boot", id(2, 1), true},
		{"64 later", id(1, 65), false},
		{"a large one", id(1, 255, 255, 255, 255, 255, 255, 255, 255), false},
		{"a large one again", id(1, 255, 255, 255, 255, 255, 255, 255, 255), true},
		{"number 0", id(1, 0), true},
		{"none", "", true},
		{"upper case", strings.ToUpper(id(1, 3)), true},
		{"too short", good[:38], true},
		{"too long", id(1, 4) + "a", true},
		{"padded", id(1, 4) + "=", true},
		{"another text of the same bytes", id(1, 4)[:38] + "j", true},
		{"with a line end, which base32 would pass over", id(1, 5)[:20] + "\n" + id(1, 5)[20:], true},
	} {
		if err := ledger.Add(step.id); errors.Is(err, ErrWrong) != step.wrong || (err != nil) != step.wrong {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

// What is taken is one text for one decision, and is taken once.
func FuzzLedger(f *testing.F) {
	f.Add("e6ipmbldq653c4qt2v25skzg6maaaaaaaaashfy")
	f.Add("")
	f.Add(strings.Repeat("a", 39))
	f.Add(strings.Repeat("7", 39))
	f.Fuzz(func(t *testing.T, id string) {
		var ledger Ledger
		if ledger.Add(id) != nil {
			return
		}
		if len(id) != 39 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Errorf("%q was taken", id)
		}
		if ledger.Add(id) == nil {
			t.Errorf("%q was taken twice", id)
		}
	})
}
