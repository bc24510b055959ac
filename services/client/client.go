// Package client asks decision nodes whether a tool may be called. It is for gateways: for whatever runs tools on behalf of agents.
//
// A [Client] knows several nodes, and asks the one with the fewest questions under way. It guarantees that
//
//   - an error is never an ALLOW: what is not a whole answer of a node is an error, and [Denied] makes a DENY of an error;
//   - a call ends within the deadline of its context, and where that has none, within [Config.Timeout];
//   - a node that fails or hangs does not fail a call that another node could answer; it is left out for a while that grows from a
//     tenth of a second to ten seconds, and then tried again with one call;
//   - no answer is from before the highest revision that an answer had named when the call began ([Config.AnyRevision] gives that up).
//
// # Which failures are repeated
//
// Each node is asked at most once in a call. Another one is asked when the first could not be reached, broke the connection, said
// unavailable (it has no policies yet, has no room to record, is shutting down, has not reached the revision), gave no answer within
// [Config.AttemptTimeout], or gave one that cannot be a decision. What a node says of the request itself is returned as it is:
// invalid_argument, not_found, permission_denied, internal and so on, with its details.
//
// Authorize changes nothing but the audit log, where every decision is a record. A node that broke the connection or gave no answer in
// time may have decided, and recorded, before another was asked; the table then has two decisions of one call, with two ids, of which
// the caller got one. (A caller that gives up before the answer leaves such a record too.) All attempts of a call carry one request id:
// the caller's own, in the request or in the header X-Request-Id, else a random one. So they can be told apart and counted once, as
// with uniq(request_id) in SQL.
//
// # Revisions
//
// Every answer names the revision that decided, and the client asks later calls to be decided at that one or above (atLeastRevision).
// So a caller does not go back in time when it changes nodes: what has once been denied because of a new policy is not allowed by
// a node that has not heard of it. A node that is behind waits until it has caught up, for as long as the attempt may take; then
// another node is asked, and when none has the revision, the call fails. That goes on until one has it: if control is away and the
// only node that had a change dies, calls fail until control is back. Who would rather be decided by older policies than by none
// sets [Config.AnyRevision].
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// The defaults of Config. A node answers in microseconds; what is longer is waiting for a revision, or a node in trouble.
const (
	DefaultTimeout        = 2 * time.Second
	DefaultAttemptTimeout = 500 * time.Millisecond
)

// Config says which nodes to ask, and how. Nodes is required; every other zero value means a default.
type Config struct {
	// Nodes are the URLs of decision nodes, such as https://decision-1.example.com:7402.
	Nodes []string
	// Transport carries the requests, with the caller's credentials: it may add a bearer token, sign, or show a certificate. All
	// requests of a Client are to be of one account. Nil is NewTransport(nil), without credentials. Redirects are not followed.
	Transport http.RoundTripper
	// Timeout is how long a call may take whose context has no deadline.
	Timeout time.Duration
	// AttemptTimeout is how long one node may take while there is another to ask, and at most half of the time that the call has left.
	// The last one has all of it.
	AttemptTimeout time.Duration
	// AnyRevision takes answers from before a revision that was seen. The atLeastRevision of a request still holds.
	AnyRevision bool
	// Insecure takes http:// URLs that lead to other machines. Who is on the way can then read requests and credentials, and write answers.
	Insecure bool
	// Options are for each node's client: interceptors, which see every attempt, or another protocol.
	Options []connect.ClientOption
	// Logger gets a line when a node is left out and when it is back; nothing is logged without it.
	Logger *slog.Logger
}

// Client asks decision nodes. It has the methods of the generated client, and is safe for concurrent use. It starts nothing that would
// have to be ended.
type Client struct {
	cfg   Config
	http  *http.Client
	nodes *fleet
	seen  revision
}

var _ decisionv1connect.DecisionServiceClient = (*Client)(nil)

// New is a Client. It connects to nothing yet, so that it can be made while nodes are away.
func New(cfg Config) (*Client, error) {
	if len(cfg.Nodes) == 0 {
		return nil, errors.New("client: no nodes: name the URL of at least one")
	}
	if cfg.Timeout < 0 || cfg.AttemptTimeout < 0 {
		return nil, errors.New("client: a timeout is negative")
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.AttemptTimeout = cmp.Or(cfg.AttemptTimeout, DefaultAttemptTimeout)
	if cfg.Transport == nil {
		cfg.Transport = NewTransport(nil)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, http: &http.Client{Transport: cfg.Transport, CheckRedirect: trust.NoRedirect}, nodes: &fleet{logger: cfg.Logger, pause: pause}}
	for _, address := range cfg.Nodes {
		if err := c.add(address); err != nil {
			return nil, fmt.Errorf("client: node %w", err)
		}
	}
	return c, nil
}

// maxAnswer bounds what a node may answer: a batch of 1,000 has about 1 MiB.
const maxAnswer = 32 << 20

func (c *Client) add(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q: it must be a URL such as https://decision-1.example.com:7402", address)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("URL has more than an address and a path: credentials belong into Transport") // not shown, since it may hold a secret
	case u.Scheme == "http" && !c.cfg.Insecure && !trust.Loopback(u.Hostname()):
		return fmt.Errorf("%q is another machine, where who is on the way could write answers: use https, or set Insecure", address)
	}
	name := strings.TrimRight(address, "/")
	for _, n := range c.nodes.nodes {
		if n.name == name {
			return fmt.Errorf("%q is named twice", name)
		}
	}
	// The last interceptor is the innermost: it sees the request id that another one may have set.
	options := append([]connect.ClientOption{connect.WithReadMaxBytes(maxAnswer)}, c.cfg.Options...)
	options = append(options, connect.WithInterceptors(requestID))
	c.nodes.nodes = append(c.nodes.nodes, &node{name: name, service: decisionv1connect.NewDecisionServiceClient(c.http, name, options...)})
	return nil
}

// Authorize asks for one decision. The request is not changed. The error is a *connect.Error.
func (c *Client) Authorize(ctx context.Context, req *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
	floor, text := c.floor(req.GetAtLeastRevision())
	if text != req.GetAtLeastRevision() {
		req = shallow(req)
		req.AtLeastRevision = text
	}
	return ask(ctx, c, func(ctx context.Context, n service) (*decisionv1.AuthorizeResponse, error) {
		resp, err := n.Authorize(ctx, req)
		if err != nil {
			return nil, err
		}
		return resp, c.check(floor, resp)
	})
}

// BatchAuthorize asks for several decisions, all of one revision. The request is not changed. The error is a *connect.Error.
func (c *Client) BatchAuthorize(ctx context.Context, req *decisionv1.BatchAuthorizeRequest) (*decisionv1.BatchAuthorizeResponse, error) {
	items := req.GetRequests()
	var floor uint64
	if len(items) > 0 { // a node decides all items at the highest revision that one asks for
		var text string
		if floor, text = c.floor(items[0].GetAtLeastRevision()); text != items[0].GetAtLeastRevision() {
			first := shallow(items[0])
			first.AtLeastRevision = text
			req = shallow(req)
			req.Requests = append([]*decisionv1.AuthorizeRequest{first}, items[1:]...)
		}
	}
	return ask(ctx, c, func(ctx context.Context, n service) (*decisionv1.BatchAuthorizeResponse, error) {
		resp, err := n.BatchAuthorize(ctx, req)
		if err != nil {
			return nil, err
		}
		if len(resp.GetResponses()) != len(items) {
			return nil, strange("it answered %d of %d requests", len(resp.GetResponses()), len(items))
		}
		return resp, c.check(floor, resp.GetResponses()...)
	})
}

// ListPermittedActions asks which tools a caller could be allowed to call. The request is not changed. The error is a *connect.Error.
func (c *Client) ListPermittedActions(ctx context.Context, req *decisionv1.ListPermittedActionsRequest) (*decisionv1.ListPermittedActionsResponse, error) {
	floor, text := c.floor(req.GetAtLeastRevision())
	if text != req.GetAtLeastRevision() {
		req = shallow(req)
		req.AtLeastRevision = text
	}
	return ask(ctx, c, func(ctx context.Context, n service) (*decisionv1.ListPermittedActionsResponse, error) {
		resp, err := n.ListPermittedActions(ctx, req)
		if err != nil {
			return nil, err
		}
		return resp, c.notBefore(floor, resp.GetRevision())
	})
}

// CloseIdleConnections closes connections that are kept for later, if the Transport can do that.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Denied is what a caller goes by when there is no decision: DENY, and not to proceed. It has no decision id, since no decision was
// received. That blocks where the mode is LOG_ONLY too: only a node could have said so. Its reason repeats what a node has said to
// the caller, and of all else only the code, so that it can be shown to an agent: the error itself names nodes, and is for a log.
func Denied(err error) *decisionv1.AuthorizeResponse {
	reason := "There is no decision, which denies: " + connect.CodeOf(err).String()
	if refusal, ok := errors.AsType[*connect.Error](err); ok && connect.IsWireError(refusal) {
		reason += ": " + refusal.Message()
	}
	return &decisionv1.AuthorizeResponse{Decision: decisionv1.Decision_DECISION_DENY, Reason: reason}
}

// NewTransport is a transport for many small requests: HTTP/1.1 with connections that stay open, as many as there are requests at once,
// since a small request costs less there than as a stream of HTTP/2. It knows no proxy. config may be nil. A transport that adds
// credentials wraps it.
func NewTransport(config *tls.Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		TLSClientConfig:     config,
		Protocols:           protocols,
		MaxIdleConnsPerHost: 256,              // net/http keeps 2, and would open a connection for most requests of a busy gateway
		IdleConnTimeout:     90 * time.Second, // nodes close after two minutes: who closes first loses no request
		TLSHandshakeTimeout: 10 * time.Second,
	}
}
