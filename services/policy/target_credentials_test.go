package policy

import (
	"strings"
	"testing"
)

const testProvider = "arn:aws:bedrock-agentcore:us-east-1:111122223333:token-vault/default/oauth2credentialprovider/p"

func oauthCredentials() Credentials {
	return Credentials{Type: CredentialsOAuth, OAuth: &OAuthProvider{
		ProviderARN: testProvider, Scopes: []string{"s"}, CustomParameters: map[string]string{"k": "v"},
		GrantType: GrantTokenExchange, DefaultReturnURL: "https://app.example/done",
	}}
}

func apiKeyCredentials() Credentials {
	return Credentials{Type: CredentialsAPIKey, APIKey: &APIKeyProvider{
		ProviderARN: testProvider, ParameterName: "X-Key", Prefix: "Bearer", Location: APIKeyHeader,
	}}
}

func withCredentials(credentials ...Credentials) *TargetDefinition {
	return &TargetDefinition{
		Configuration: TargetConfiguration{OpenAPISchema: &APISchema{InlinePayload: "{}"}},
		Credentials:   credentials,
	}
}

func TestValidCredentials(t *testing.T) {
	iam := &IAMProvider{Service: "execute-api", Region: "us-east-1"}
	for _, c := range []Credentials{
		oauthCredentials(),
		{Type: CredentialsOAuth, OAuth: &OAuthProvider{ProviderARN: testProvider}},
		apiKeyCredentials(),
		{Type: CredentialsGatewayRole},
		{Type: CredentialsGatewayRole, IAM: iam},
		{Type: CredentialsCallerIAM},
		{Type: CredentialsCallerIAM, IAM: iam},
		{Type: CredentialsJWTPassthrough},
	} {
		if err := withCredentials(c).Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	lambda := lambdaTarget(validTool())
	lambda.Credentials = []Credentials{{Type: CredentialsGatewayRole}}
	if err := lambda.Validate(); err != nil {
		t.Error(err)
	}
}

func TestInvalidCredentials(t *testing.T) {
	const at = "credentialProviderConfigurations[0]."
	oauth := func(spoil func(p *OAuthProvider)) Credentials {
		c := oauthCredentials()
		spoil(c.OAuth)
		return c
	}
	apiKey := func(spoil func(p *APIKeyProvider)) Credentials {
		c := apiKeyCredentials()
		spoil(c.APIKey)
		return c
	}
	iam := func(p IAMProvider) Credentials { return Credentials{Type: CredentialsCallerIAM, IAM: &p} }
	both := oauthCredentials()
	both.APIKey = apiKeyCredentials().APIKey
	for _, c := range []struct {
		reason, field string
		credentials   Credentials
	}{
		{"required", at + "credentialProviderType", Credentials{}},
		{"enum", at + "credentialProviderType", Credentials{Type: "BASIC"}},
		{"required", at + "credentialProvider", Credentials{Type: CredentialsOAuth}},
		{"required", at + "credentialProvider", Credentials{Type: CredentialsAPIKey}},
		{"mismatch", at + "credentialProvider", Credentials{Type: CredentialsJWTPassthrough, IAM: &IAMProvider{Service: "x"}}},
		{"mismatch", at + "credentialProvider", Credentials{Type: CredentialsGatewayRole, OAuth: oauthCredentials().OAuth}},
		{"mismatch", at + "credentialProvider", both},
		{"pattern", at + "credentialProvider.oauthCredentialProvider.providerArn", oauth(func(p *OAuthProvider) { p.ProviderARN = "x" })},
		{"length", at + "credentialProvider.oauthCredentialProvider.scopes[0]", oauth(func(p *OAuthProvider) { p.Scopes[0] = strings.Repeat("x", 65) })},
		{"count", at + "credentialProvider.oauthCredentialProvider.scopes", oauth(func(p *OAuthProvider) { p.Scopes = make([]string, 101) })},
		{"required", at + "credentialProvider.oauthCredentialProvider.customParameters.k", oauth(func(p *OAuthProvider) { p.CustomParameters["k"] = "" })},
		{"enum", at + "credentialProvider.oauthCredentialProvider.grantType", oauth(func(p *OAuthProvider) { p.GrantType = "PASSWORD" })},
		{"pattern", at + "credentialProvider.oauthCredentialProvider.defaultReturnUrl", oauth(func(p *OAuthProvider) { p.DefaultReturnURL = "x" })},
		{"required", at + "credentialProvider.apiKeyCredentialProvider.providerArn", apiKey(func(p *APIKeyProvider) { p.ProviderARN = "" })},
		{"length", at + "credentialProvider.apiKeyCredentialProvider.credentialParameterName", apiKey(func(p *APIKeyProvider) { p.ParameterName = strings.Repeat("x", 65) })},
		{"length", at + "credentialProvider.apiKeyCredentialProvider.credentialPrefix", apiKey(func(p *APIKeyProvider) { p.Prefix = strings.Repeat("x", 65) })},
		{"enum", at + "credentialProvider.apiKeyCredentialProvider.credentialLocation", apiKey(func(p *APIKeyProvider) { p.Location = "BODY" })},
		{"required", at + "credentialProvider.iamCredentialProvider.service", iam(IAMProvider{})},
		{"pattern", at + "credentialProvider.iamCredentialProvider.region", iam(IAMProvider{Service: "s", Region: "us east"})},
	} {
		t.Run(c.reason+" "+c.field, func(t *testing.T) {
			wantInvalid(t, withCredentials(c.credentials).Validate(), c.reason, c.field)
		})
	}
	wantInvalid(t, withCredentials(apiKeyCredentials(), apiKeyCredentials()).Validate(), "count", "credentialProviderConfigurations")
}

func TestLambdaTakesOnlyTheGatewayRole(t *testing.T) {
	for _, c := range []Credentials{oauthCredentials(), apiKeyCredentials(), {Type: CredentialsCallerIAM}, {Type: CredentialsJWTPassthrough}} {
		d := lambdaTarget(validTool())
		d.Credentials = []Credentials{c}
		wantInvalid(t, d.Validate(), "mismatch", "credentialProviderConfigurations[0].credentialProviderType")
	}
}
