package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// agent is whoever calls the tools of the example, with a token, through the gateway.
type agent struct {
	session *mcp.ClientSession
}

// awaitAgent is an agent to whom the gateway lists the tool of the example: then what was just made has arrived everywhere.
func awaitAgent(ctx context.Context, issuerURL, gatewayURL string) (*agent, string, error) {
	for {
		a, err := newAgent(ctx, issuerURL, gatewayURL)
		if err == nil {
			var names string
			if names, err = a.tools(ctx); err == nil && strings.Contains(names, action) {
				return a, names, nil
			}
			a.close()
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("%w: %w", errNotListed, errors.Join(context.Cause(ctx), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

var errNotListed = errors.New("the gateway does not list " + action)

// newAgent gets a token and connects with it.
func newAgent(ctx context.Context, issuerURL, gatewayURL string) (*agent, error) {
	token, err := askToken(ctx, issuerURL)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "verdict-dev", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: gatewayURL, HTTPClient: &http.Client{Transport: bearer(token)}, DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return nil, err
	}
	return &agent{session}, nil
}

// bearer shows a token with every request.
type bearer string

// RoundTrip is part of http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

var errNoToken = errors.New("the issuer gave none")

// askToken asks the issuer for a token with the agent's own id and secret.
func askToken(ctx context.Context, issuerURL string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, issuerURL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(agentID, agentSecret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	var answer struct {
		AccessToken string `json:"access_token"` //nolint:tagliatelle // OAuth calls it so
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessToken == "" {
		return "", fmt.Errorf("%w: %s", errNoToken, resp.Status)
	}
	return answer.AccessToken, nil
}

// tools are the names that the gateway lists for the agent.
func (a *agent) tools(ctx context.Context) (string, error) {
	var names []string
	for tool, err := range a.session.Tools(ctx, nil) {
		if err != nil {
			return "", err
		}
		names = append(names, tool.Name)
	}
	return strings.Join(names, ", "), nil
}

// decisionOf is the member of _meta, and the data of an error, that says what was decided.
type decisionOf struct {
	ID string `json:"id"`
}

var errNoDecision = errors.New("the gateway's answer names no decision")

// refund calls the tool, and says what the gateway says and which decision that was.
func (a *agent) refund(ctx context.Context, amount int) (text, decisionID string, err error) {
	result, err := a.session.CallTool(ctx, &mcp.CallToolParams{Name: action, Arguments: map[string]any{"orderId": "12345", "amount": amount}})
	var about decisionOf
	if denied, ok := errors.AsType[*jsonrpc.Error](err); ok {
		text, err = denied.Message, json.Unmarshal(denied.Data, &about)
	} else if err == nil {
		text, err = resultText(result, &about)
	}
	if err == nil && about.ID == "" {
		err = fmt.Errorf("%w: %s", errNoDecision, text)
	}
	return text, about.ID, err
}

// resultText is the text of a result, or the message within when the text is JSON that has one.
func resultText(result *mcp.CallToolResult, about *decisionOf) (string, error) {
	meta, err := json.Marshal(result.Meta["io.verdict/decision"])
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(meta, about); err != nil {
		return "", err
	}
	var said struct {
		Message string `json:"message"`
	}
	for _, c := range result.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			if json.Unmarshal([]byte(text.Text), &said) == nil && said.Message != "" {
				return said.Message, nil
			}
			return text.Text, nil
		}
	}
	return "", nil
}

// close ends the session.
func (a *agent) close() { _ = a.session.Close() }
