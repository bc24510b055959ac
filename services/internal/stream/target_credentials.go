package stream

import (
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

func credentialsToProto(c policy.Credentials) *eventv1.CredentialProviderConfiguration {
	m := &eventv1.CredentialProviderConfiguration{
		CredentialProviderType: enumTo[eventv1.CredentialProviderType](c.Type),
	}
	switch {
	case c.OAuth != nil:
		m.CredentialProvider = &eventv1.CredentialProvider{
			Provider: &eventv1.CredentialProvider_OauthCredentialProvider{OauthCredentialProvider: oauthToProto(c.OAuth)},
		}
	case c.APIKey != nil:
		m.CredentialProvider = &eventv1.CredentialProvider{
			Provider: &eventv1.CredentialProvider_ApiKeyCredentialProvider{ApiKeyCredentialProvider: apiKeyToProto(c.APIKey)},
		}
	case c.IAM != nil:
		m.CredentialProvider = &eventv1.CredentialProvider{
			Provider: &eventv1.CredentialProvider_IamCredentialProvider{
				IamCredentialProvider: &eventv1.IamCredentialProvider{Service: c.IAM.Service, Region: c.IAM.Region},
			},
		}
	}
	return m
}

func credentialsFromProto(m *eventv1.CredentialProviderConfiguration) policy.Credentials {
	p := m.GetCredentialProvider()
	c := policy.Credentials{
		Type:   enumFrom[policy.CredentialsType](m.GetCredentialProviderType()),
		OAuth:  convertIf(p.GetOauthCredentialProvider(), oauthFromProto),
		APIKey: convertIf(p.GetApiKeyCredentialProvider(), apiKeyFromProto),
	}
	if iam := p.GetIamCredentialProvider(); iam != nil {
		c.IAM = &policy.IAMProvider{Service: iam.GetService(), Region: iam.GetRegion()}
	}
	return c
}

func oauthToProto(p *policy.OAuthProvider) *eventv1.OauthCredentialProvider {
	return &eventv1.OauthCredentialProvider{
		ProviderArn:      p.ProviderARN,
		Scopes:           p.Scopes,
		CustomParameters: p.CustomParameters,
		GrantType:        enumTo[eventv1.OauthGrantType](p.GrantType),
		DefaultReturnUrl: p.DefaultReturnURL,
	}
}

func oauthFromProto(m *eventv1.OauthCredentialProvider) *policy.OAuthProvider {
	return &policy.OAuthProvider{
		ProviderARN:      m.GetProviderArn(),
		Scopes:           m.GetScopes(),
		CustomParameters: m.GetCustomParameters(),
		GrantType:        enumFrom[policy.OAuthGrant](m.GetGrantType()),
		DefaultReturnURL: m.GetDefaultReturnUrl(),
	}
}

func apiKeyToProto(p *policy.APIKeyProvider) *eventv1.ApiKeyCredentialProvider {
	return &eventv1.ApiKeyCredentialProvider{
		ProviderArn:             p.ProviderARN,
		CredentialParameterName: p.ParameterName,
		CredentialPrefix:        p.Prefix,
		CredentialLocation:      enumTo[eventv1.ApiKeyCredentialLocation](p.Location),
	}
}

func apiKeyFromProto(m *eventv1.ApiKeyCredentialProvider) *policy.APIKeyProvider {
	return &policy.APIKeyProvider{
		ProviderARN:   m.GetProviderArn(),
		ParameterName: m.GetCredentialParameterName(),
		Prefix:        m.GetCredentialPrefix(),
		Location:      enumFrom[policy.APIKeyLocation](m.GetCredentialLocation()),
	}
}
