package refund

import (
	"fmt"
	"math/rand/v2"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// Request is a refund that is asked for, as bytes.
type Request struct {
	Amount int
	Body   []byte
}

// Requests are n refunds with amounts around the limit, the same for the same seed: every fourth is right at it.
func (e *Example) Requests(codec Codec, n int, seed uint64) ([]Request, error) {
	dice := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // the same draw every time is what is wanted
	edges := []int{0, Limit - 1, Limit, Limit + 1}
	out := make([]Request, n)
	for i := range out {
		amount := dice.IntN(2 * Limit)
		if i%4 == 0 {
			amount = edges[i/4%len(edges)]
		}
		body, err := codec.encode(e.request(), map[string]any{
			"input": map[string]any{"orderId": fmt.Sprintf("order-%d", dice.IntN(100_000)), "amount": amount},
		})
		if err != nil {
			return nil, fmt.Errorf("encode a request: %w", err)
		}
		out[i] = Request{Amount: amount, Body: body}
	}
	return out, nil
}

// request is all but the context.
func (e *Example) request() *decisionv1.AuthorizeRequest {
	return &decisionv1.AuthorizeRequest{
		Principal: &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "refund-agent"}},
		Action:    &decisionv1.Entity{Type: "AgentCore::Action", Id: targetName + "___" + toolName},
		Resource:  &decisionv1.Entity{Type: "AgentCore::Gateway", Id: e.GatewayARN},
	}
}
