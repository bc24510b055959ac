package policy

import (
	"cmp"
	"regexp"
)

// Credentials are how the gateway identifies itself to a target: AgentCore's CredentialProviderConfiguration. At most
// one of the providers is set, the one that goes with Type.
type Credentials struct {
	Type   CredentialsType
	OAuth  *OAuthProvider
	APIKey *APIKeyProvider
	IAM    *IAMProvider
}

// CredentialsType is the kind of credentials that a target gets.
type CredentialsType string

// The credentials types.
const (
	CredentialsGatewayRole    CredentialsType = "GATEWAY_IAM_ROLE"
	CredentialsOAuth          CredentialsType = "OAUTH"
	CredentialsAPIKey         CredentialsType = "API_KEY"
	CredentialsCallerIAM      CredentialsType = "CALLER_IAM_CREDENTIALS"
	CredentialsJWTPassthrough CredentialsType = "JWT_PASSTHROUGH"
)

// OAuthProvider gets tokens from an OAuth authorization server.
type OAuthProvider struct {
	ProviderARN      string
	Scopes           []string
	CustomParameters map[string]string
	GrantType        OAuthGrant
	DefaultReturnURL string // where a user's browser goes after consent
}

// OAuthGrant is how a token is obtained.
type OAuthGrant string

// The grant types.
const (
	GrantClientCredentials OAuthGrant = "CLIENT_CREDENTIALS"
	GrantAuthorizationCode OAuthGrant = "AUTHORIZATION_CODE"
	GrantTokenExchange     OAuthGrant = "TOKEN_EXCHANGE"
)

// APIKeyProvider puts a stored key into requests.
type APIKeyProvider struct {
	ProviderARN   string
	ParameterName string // of the header or query parameter
	Prefix        string // stands before the key, such as "Bearer"
	Location      APIKeyLocation
}

// APIKeyLocation is where in a request a key stands.
type APIKeyLocation string

// The locations.
const (
	APIKeyHeader         APIKeyLocation = "HEADER"
	APIKeyQueryParameter APIKeyLocation = "QUERY_PARAMETER"
)

// IAMProvider signs requests with SigV4.
type IAMProvider struct {
	Service string
	Region  string // absent means the gateway's
}

var (
	oauthScopeText = text{1, 64, nil}
	parameterKey   = text{1, 256, nil}
	parameterValue = text{1, 2048, nil}
	returnURLText  = text{1, 2048, regexp.MustCompile(`^\w+:(/?/?)[^\s]+$`)}
	keyPartText    = text{1, 64, nil}
	serviceText    = text{1, 64, regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)}
	regionText     = text{1, 32, regexp.MustCompile(`^[a-zA-Z0-9-]+$`)}
)

// validateCredentials wants at most one, and for a Lambda target only the gateway's role: a function is invoked with
// IAM and would never see anything else.
func (d *TargetDefinition) validateCredentials() error {
	const field = "credentialProviderConfigurations"
	if err := checkCount(field, len(d.Credentials), 0, 1); err != nil {
		return err
	}
	return each(field, d.Credentials, func(at string, c Credentials) error {
		if err := within(at, c.validate()); err != nil {
			return err
		}
		if d.Configuration.Lambda != nil && c.Type != CredentialsGatewayRole {
			return Invalid("mismatch", at+".credentialProviderType", "a Lambda target needs %s; it is %s", CredentialsGatewayRole, c.Type)
		}
		return nil
	})
}

// providerNames are the members of AgentCore's union that go with a type. A type that is not here takes none.
var providerNames = map[CredentialsType]string{
	CredentialsOAuth:       "oauthCredentialProvider",
	CredentialsAPIKey:      "apiKeyCredentialProvider",
	CredentialsGatewayRole: "iamCredentialProvider",
	CredentialsCallerIAM:   "iamCredentialProvider",
}

func (c *Credentials) validate() error {
	err := checkEnum("credentialProviderType", c.Type, CredentialsGatewayRole, CredentialsOAuth, CredentialsAPIKey,
		CredentialsCallerIAM, CredentialsJWTPassthrough)
	if err != nil {
		return err
	}
	const field = "credentialProvider"
	wanted := providerNames[c.Type]
	given := []member{
		{"oauthCredentialProvider", c.OAuth != nil},
		{"apiKeyCredentialProvider", c.APIKey != nil},
		{"iamCredentialProvider", c.IAM != nil},
	}
	for _, m := range given {
		switch {
		case m.set && m.name != wanted:
			return Invalid("mismatch", field, "%s does not go with credentialProviderType %s; leave it out or change the type", m.name, c.Type)
		case !m.set && m.name == wanted && wanted != "iamCredentialProvider":
			return Invalid("required", field, "credentialProviderType %s needs %s", c.Type, m.name)
		}
	}
	return within(field, cmp.Or(
		within("oauthCredentialProvider", c.OAuth.validate()),
		within("apiKeyCredentialProvider", c.APIKey.validate()),
		within("iamCredentialProvider", c.IAM.validate()),
	))
}

// validate accepts nil.
func (p *OAuthProvider) validate() error {
	if p == nil {
		return nil
	}
	return cmp.Or(
		arnText.required("providerArn", p.ProviderARN),
		oauthScopeText.list("scopes", p.Scopes, 100),
		checkMap("customParameters", p.CustomParameters, parameterKey, parameterValue, 10),
		checkOptionalEnum("grantType", p.GrantType, GrantClientCredentials, GrantAuthorizationCode, GrantTokenExchange),
		returnURLText.optional("defaultReturnUrl", p.DefaultReturnURL),
	)
}

// validate accepts nil.
func (p *APIKeyProvider) validate() error {
	if p == nil {
		return nil
	}
	return cmp.Or(
		arnText.required("providerArn", p.ProviderARN),
		keyPartText.optional("credentialParameterName", p.ParameterName),
		keyPartText.optional("credentialPrefix", p.Prefix),
		checkOptionalEnum("credentialLocation", p.Location, APIKeyHeader, APIKeyQueryParameter),
	)
}

// validate accepts nil.
func (p *IAMProvider) validate() error {
	if p == nil {
		return nil
	}
	return cmp.Or(
		serviceText.required("service", p.Service),
		regionText.optional("region", p.Region),
	)
}
