// Package inbound turns a request to a gateway into the principal that calls its tools, or into the refusal that the gateway's
// authorizer has for it: CUSTOM_JWT, AWS_IAM or NONE.
//
// It guarantees that what cannot be checked is refused; that a token is taken only while it, the keys that signed it and the
// definition of the gateway are all in force; that one text answers for everything that is wrong with a token, the reason being in the
// debug log; that a signed request is taken once; that memory is bounded by the gateways there are; and that no part of a token is in
// an error, a log, a metric or, but for its claims, in a principal.
package inbound

import (
	"context"
	"crypto/sha256"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/issuer"
	"github.com/verdict-io/verdict/services/policy"
)

// Access says who may do what.
type Access interface {
	// Check is nil when the caller may do what is called action; else its text is for the caller.
	Check(caller identity.Caller, action string) error
}

// Config is what an Authenticator is made of. Client, Callers and Access are required.
type Config struct {
	// Client asks issuers for their keys. Gateways name the addresses, so its transport must refuse what they must not reach, and it
	// must follow no redirect.
	Client *http.Client
	// Callers recognises who signed a request to a gateway with AWS_IAM.
	Callers *identity.Authenticator
	// Access says whether such a caller may call gateways at all.
	Access Access
	// Logger hears why callers are refused (debug) and which gateways can let nobody in (warn). Nothing is logged without it.
	Logger *slog.Logger
	// Registerer gets the counters; without it they are not to be seen.
	Registerer prometheus.Registerer
}

// Authenticator knows who calls gateways. It is safe for concurrent use.
type Authenticator struct {
	cfg     Config
	metrics *metrics
	now     func() time.Time
	tokens  *issuer.Tokens[tokenKey, Caller]

	mu      sync.RWMutex
	issuers map[string]*issuer.Issuer              // :: discovery URL → keys
	warned  map[*policy.GatewayDefinition]struct{} // of which the log says that it lets nobody in
}

// tokenKey is a token at a definition: what a definition took, the next one may refuse. Definitions never change, so that the pointer
// stands for what it points to.
type tokenKey struct {
	definition *policy.GatewayDefinition
	sum        [sha256.Size]byte
}

// maxTokenBytes bounds what is remembered of tokens, in each of two generations and of all gateways together.
const maxTokenBytes = 32 << 20

// New is an Authenticator. It panics when something required is missing, and when Registerer holds the counters of another one.
func New(cfg Config) *Authenticator {
	if cfg.Client == nil || cfg.Callers == nil || cfg.Access == nil {
		panic("inbound.Config.Client, Callers or Access is missing") //nolint:forbidigo // who wires a process together gets it wrong once, at its start
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Authenticator{
		cfg: cfg, metrics: newMetrics(cfg.Registerer), now: time.Now, tokens: issuer.NewTokens[tokenKey, Caller](maxTokenBytes),
		issuers: map[string]*issuer.Issuer{}, warned: map[*policy.GatewayDefinition]struct{}{},
	}
}

// Caller is who calls a gateway.
type Caller struct {
	// Principal is not to be changed by those who read it: requests with one token share it.
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

	outcome outcome // for the counter
	reason  string  // for the debug log
}

// Authenticate is who calls gateway g of account with r. metadataURL is where the gateway's RFC 9728 document is, for the challenge.
// For AWS_IAM it reads the body, which the caller of Authenticate must have bounded, and r.Body then gives the same bytes again.
// It waits for nothing else, but for the keys of an issuer that are not known yet, and that for a few seconds at most.
func (a *Authenticator) Authenticate(r *http.Request, account string, g *policy.Gateway, metadataURL string) (Caller, *Refusal) {
	caller, refusal := a.authenticate(r, account, g, metadataURL)
	a.metrics.count(g.InForce, refusal)
	if refusal != nil {
		refusal.Code = CodeRefused
		a.cfg.Logger.LogAttrs(r.Context(), slog.LevelDebug, "a caller of a gateway is refused", slog.String("account", account),
			slog.String("gateway", g.ID), slog.Int("status", refusal.Status), slog.String("reason", refusal.reason))
		return Caller{}, refusal
	}
	return caller, nil
}

func (a *Authenticator) authenticate(r *http.Request, account string, g *policy.Gateway, metadataURL string) (Caller, *Refusal) {
	d := g.InForce
	if d == nil {
		return Caller{}, forbidden("This gateway is not in force yet", "nothing is in force")
	}
	if why := cannotCheck(d); why != "" {
		a.warn(r.Context(), account, g, why)
		return Caller{}, forbidden("This gateway lets nobody in, since its authorizer asks for what cannot be checked: its operator must change that", why)
	}
	switch d.AuthorizerType {
	case policy.AuthorizerJWT:
		return a.bearer(r, d, metadataURL)
	case policy.AuthorizerIAM:
		return a.signed(r, account)
	case policy.AuthorizerNone:
		return Caller{Principal: anonymous}, nil
	case policy.AuthorizerAuthenticateOnly:
	}
	return Caller{}, forbidden("This gateway lets nobody in, since its authorizer is not known", "unknown authorizer")
}

// anonymous is everybody who calls a gateway with the authorizer NONE.
var anonymous = &decisionv1.Principal{Type: policy.TypeUnauthenticatedUser, Id: "anonymous"}

// cannotCheck is what a definition asks for and nobody here can find out; "" when there is nothing such.
func cannotCheck(d *policy.GatewayDefinition) string {
	switch {
	case d.AuthorizerType == policy.AuthorizerAuthenticateOnly:
		return "AUTHENTICATE_ONLY comes with no issuer, so that no token can be verified: use CUSTOM_JWT"
	case d.AuthorizerType != policy.AuthorizerJWT:
		return ""
	case d.JWT == nil:
		return "CUSTOM_JWT without customJWTAuthorizer"
	case d.JWT.AllowedWorkloads != nil:
		return "allowedWorkloadConfiguration: tokens do not say in what workload their bearer runs; take it out, or use customClaims"
	case d.JWT.PrivateEndpoint != nil || len(d.JWT.PrivateEndpointOverrides) > 0:
		return "privateEndpoint: only AWS has such; take it out, and give a discoveryUrl that this service reaches"
	}
	return ""
}

// warn tells the operator once for each definition.
func (a *Authenticator) warn(ctx context.Context, account string, g *policy.Gateway, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again := a.warned[g.InForce]; again {
		return
	}
	a.warned[g.InForce] = struct{}{}
	a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "a gateway lets nobody in, since its authorizer asks for what cannot be checked",
		slog.String("account", account), slog.String("gateway", g.ID), slog.String("reason", why))
}

// forbidden is for somebody whom no credentials would help.
func forbidden(message, reason string) *Refusal {
	return &Refusal{Status: http.StatusForbidden, Message: message, outcome: isForbidden, reason: reason}
}

// Retain forgets the issuers and tokens of all gateways but these. It is for when the state has changed: until it is called, what
// changed or is gone costs its memory.
func (a *Authenticator) Retain(gateways iter.Seq[*policy.Gateway]) {
	definitions, urls := map[*policy.GatewayDefinition]struct{}{}, map[string]struct{}{}
	for g := range gateways {
		if g.InForce == nil {
			continue
		}
		definitions[g.InForce] = struct{}{}
		if g.InForce.JWT != nil {
			urls[g.InForce.JWT.DiscoveryURL] = struct{}{}
		}
	}
	a.tokens.Forget(func(k tokenKey) bool { return !has(definitions, k.definition) })
	a.mu.Lock()
	defer a.mu.Unlock()
	for url := range a.issuers {
		if !has(urls, url) {
			delete(a.issuers, url)
		}
	}
	for d := range a.warned {
		if !has(definitions, d) {
			delete(a.warned, d)
		}
	}
}

func has[K comparable](set map[K]struct{}, key K) bool {
	_, ok := set[key]
	return ok
}
