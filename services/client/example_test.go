package client_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/client"
)

// token shows a bearer token with each request. It is read for each, since whoever keeps it in the file puts a new one there.
type token struct {
	file string
	base http.RoundTripper
}

func (t token) RoundTrip(r *http.Request) (*http.Response, error) {
	text, err := os.ReadFile(t.file)
	if err != nil {
		_ = r.Body.Close()
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(text)))
	return t.base.RoundTrip(r)
}

// A gateway asks before it calls a tool.
func Example() {
	nodes, err := client.New(client.Config{
		Nodes:     []string{"https://decision-1.example.com:7402", "https://decision-2.example.com:7402"},
		Transport: token{file: "/run/secrets/token", base: client.NewTransport(nil)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := nodes.Authorize(context.Background(), &decisionv1.AuthorizeRequest{
		Principal:   &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "refund-agent"}},
		Action:      &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
		Resource:    &decisionv1.Entity{Type: "AgentCore::Gateway", Id: "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/refund-gw-a1b2c3d4e5"},
		ContextJson: `{"input": {"orderId": "12345", "amount": 450}}`,
	})
	if err != nil {
		answer = client.Denied(err) // and err into the log
	}
	if !answer.GetProceed() {
		fmt.Println("not called:", answer.GetReason())
		return
	}
	fmt.Println("called; decision", answer.GetDecisionId())
}
