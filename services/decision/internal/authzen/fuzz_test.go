package authzen

import (
	"errors"
	"slices"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// Whatever a body is: it is an evaluation whose parts are there and whose arguments the node can read, or it is refused with a text
// for the caller.
func FuzzEvaluation(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"subject":{"type":"OAuthUser","id":"a"},"action":{"name":"T___t"},"resource":{"type":"gateway","id":"arn"}}`,
		`{"subject":{"type":"OAuthUser","id":"a","properties":{"a":[1,{}],"b":null}},"action":{"name":"t","properties":{"x":1e400}},"resource":{"type":"gateway","id":"arn"},"context":{"input":{"x":1e400}}}`,
		`{"subject":{"type":"OAuthUser","id":"\ud800"}}`, `{"evaluations":[{}]}`, "{\"subject\":\"\xff\"}", `{"context":{"input":{"a":{"b":1,"b":1}}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, part := range []func() (*parts, error){
			func() (*parts, error) { return decode[parts]([]byte(body)) },
			func() (*parts, error) {
				several, err := decode[evaluations]([]byte(body))
				if err != nil || len(several.Evaluations) == 0 {
					return &parts{}, err
				}
				first, err := decode[parts](several.Evaluations[0])
				if err == nil {
					first.inherit(&several.parts)
				}
				return first, err
			},
		} {
			p, err := part()
			if err == nil {
				err = check(p)
			}
			if refusal := (*policy.Error)(nil); err != nil && (!errors.As(err, &refusal) || refusal.Message == "") {
				t.Fatalf("%q: %v", body, err)
			}
		}
	})
}

// check is an error for what no request may be made of.
func check(p *parts) error {
	req, err := p.request()
	if err != nil {
		return err
	}
	if slices.Contains([]string{req.GetPrincipal().GetType(), req.GetPrincipal().GetId(), req.GetAction().GetId(), req.GetResource().GetType(), req.GetResource().GetId()}, "") {
		return errors.New("a part is empty") //nolint:err113 // a test's
	}
	if req.GetContextJson() == "" {
		return nil
	}
	_, err = snapshot.ParseJSON([]byte(req.GetContextJson()))
	return err
}
