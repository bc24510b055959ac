// Package inbound turns a request to a gateway into the principal that calls its tools, or into the refusal that the gateway's
// authorizer has for it: CUSTOM_JWT, AWS_IAM or NONE.
//
// It guarantees that what cannot be checked is refused; that a token is taken only while it, the keys that signed it and the
// definition of the gateway are all in force; that one text answers for everything that is wrong with a token, the reason being in the
// debug log; and that no part of a token is in an error, a log, a metric or, but for its claims, in a principal.
package inbound

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"github.com/prometheus/client_golang/prometheus"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/policy"
)

// Access says who may do what.
type Access interface {
	// Check is nil when the caller may do what is called action; else its text is for the caller.
	Check(caller identity.Caller, action string) error
}

// Config is what an Authenticator is made of. Client, Callers and Access are required.
type Config struct {
	// Client asks issuers for their keys. Gateways name the addresses, so its transport must refuse what they must not reach.
	Client *http.Client
	// Callers recognises who signed a request to a gateway with AWS_IAM.
	Callers *identity.Authenticator
	// Access says whether such a caller may call gateways at all.
	Access Access
	// Logger hears why tokens are refused (debug) and which gateways can let nobody in (warn). Nothing is logged without it.
	Logger *slog.Logger
	// Registerer gets the counters; without it they are not to be seen.
	Registerer prometheus.Registerer
}

// Authenticator knows who calls gateways. It is safe for concurrent use.
type Authenticator struct{ cfg Config }

// New is an Authenticator. It panics when something required is missing, and when Registerer holds the counters of another one.
func New(cfg Config) *Authenticator { return &Authenticator{cfg: cfg} }

// Caller is who calls a gateway.
type Caller struct {
	// Principal is not to be changed by those who read it: requests of one token share it.
	Principal *decisionv1.Principal
	// Expires is when it stops to be one; zero when there is no end.
	Expires time.Time
}

// CodeRefused is the JSON-RPC code of every Refusal.
const CodeRefused = -32001

// Refusal is why nobody calls. All of it is written for the caller.
type Refusal struct {
	Status     int   // of HTTP
	Code       int64 // of JSON-RPC: CodeRefused
	Message    string
	Challenge  string        // the WWW-Authenticate header; "" for none
	RetryAfter time.Duration // the Retry-After header, in whole seconds; 0 for none
}

// Authenticate is who calls gateway g of account with r. metadataURL is where the gateway's RFC 9728 document is, for the challenge.
// For AWS_IAM it reads the body, which the caller of Authenticate must have bounded, and r.Body then gives the same bytes again.
func (a *Authenticator) Authenticate(_ *http.Request, _ string, g *policy.Gateway, _ string) (Caller, *Refusal) {
	if g.InForce != nil && g.InForce.AuthorizerType == policy.AuthorizerNone {
		return Caller{Principal: anonymous}, nil
	}
	return Caller{}, &Refusal{Status: http.StatusForbidden, Code: CodeRefused, Message: "This gateway lets nobody in"}
}

// anonymous is everybody who calls a gateway with the authorizer NONE.
var anonymous = &decisionv1.Principal{Type: "AgentCore::UnauthenticatedUser", Id: "anonymous"}

// Metadata is the RFC 9728 document of a gateway at resourceURL; false when it takes no bearer tokens. It may ask the issuer what it
// calls itself.
func (a *Authenticator) Metadata(_ context.Context, g *policy.Gateway, resourceURL string) (*oauthex.ProtectedResourceMetadata, bool) {
	if g.InForce == nil || g.InForce.JWT == nil {
		return nil, false
	}
	base, path, _ := strings.Cut(g.InForce.JWT.DiscoveryURL, "/.well-known/")
	_, path, _ = strings.Cut(path, "/")
	return &oauthex.ProtectedResourceMetadata{
		Resource: resourceURL, AuthorizationServers: []string{strings.TrimSuffix(base+"/"+path, "/")}, BearerMethodsSupported: []string{"header"},
	}, true
}

// Retain forgets the issuers and tokens of all gateways but these. It is for when the state changed; what it is not called with costs
// memory until it is.
func (a *Authenticator) Retain(gateways iter.Seq[*policy.Gateway]) {
	for range gateways { //nolint:revive // the skeleton keeps nothing
	}
}
