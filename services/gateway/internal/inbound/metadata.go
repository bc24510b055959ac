package inbound

import (
	"context"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/verdict-io/verdict/services/policy"
)

// Metadata is the RFC 9728 document of a gateway at resourceURL; false when it takes no bearer tokens. The issuer in it is what the
// issuer calls itself, which may have to be asked for first; when it cannot be, it is what the discovery URL says.
func (a *Authenticator) Metadata(ctx context.Context, g *policy.Gateway, resourceURL string) (*oauthex.ProtectedResourceMetadata, bool) {
	d := g.InForce
	if d == nil || d.AuthorizerType != policy.AuthorizerJWT || cannotCheck(d) != "" {
		return nil, false
	}
	name := issuerOf(d.JWT.DiscoveryURL)
	if keys, err := a.issuer(d.JWT.DiscoveryURL).Keys(ctx, a.now()); err == nil {
		name = keys.Name()
	}
	return &oauthex.ProtectedResourceMetadata{
		Resource: resourceURL, AuthorizationServers: []string{name}, ScopesSupported: advertised(d.JWT),
		BearerMethodsSupported: []string{"header"},
	}, true
}

// issuerOf is where an issuer with this discovery URL is: OpenID Connect puts the document below it, RFC 8414 puts its path behind the
// document's.
func issuerOf(discovery string) string {
	base, document, _ := strings.Cut(discovery, "/.well-known/")
	_, path, _ := strings.Cut(document, "/")
	return strings.TrimSuffix(base+"/"+path, "/")
}
