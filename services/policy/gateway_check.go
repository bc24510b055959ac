package policy

import (
	"cmp"
	"regexp"
	"slices"
)

// Texts of gateways and targets. Bounds are AgentCore's; where it has none, 2048 characters and 1,000 entries keep one
// member from filling an event.
const (
	maxText    = 2048
	maxEntries = 1000
)

var (
	anyText         = text{1, maxText, nil}
	descriptionText = text{1, 200, nil}
	arnText         = text{1, maxText, regexp.MustCompile(`^arn:[^:]*:[^:]*:[^:]*:([0-9]{12})?:.+$`)}
	roleText        = text{1, 2048, regexp.MustCompile(`^arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+$`)}
	lambdaText      = text{1, 170, regexp.MustCompile(`^arn:(aws[a-zA-Z-]*)?:lambda:[a-z]{2}(-gov)?-[a-z]+-\d:\d{12}:function:[a-zA-Z0-9_.-]+(:(\$LATEST|[a-zA-Z0-9-]+))?$`)}
	engineIDText    = text{12, 59, policyIDPattern}

	// OpenID Connect puts its document below the issuer; RFC 8414 puts the issuer's path behind the document's.
	discoveryText = text{1, maxText, regexp.MustCompile(`^https?://.+/\.well-known/(openid-configuration|oauth-authorization-server(/.*)?)$`)}
	scopeText     = text{1, 255, regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]+$`)}
	claimText     = text{1, 255, regexp.MustCompile(`^[A-Za-z0-9_.-:]+$`)}
	matchText     = text{1, 255, regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)}
	versionText   = text{1, 64, nil}

	latticeText       = text{20, 2048, regexp.MustCompile(`^(rcfg-[0-9a-z]{17}|arn:[a-z0-9-]+:vpc-lattice:[a-zA-Z0-9-]+:\d{12}:resourceconfiguration/rcfg-[0-9a-z]{17})$`)}
	vpcText           = text{1, maxText, regexp.MustCompile(`^vpc-([0-9a-z]{8}|[0-9a-z]{17})$`)}
	subnetText        = text{1, maxText, regexp.MustCompile(`^subnet-[0-9a-zA-Z]{8,17}$`)}
	securityGroupText = text{1, maxText, regexp.MustCompile(`^sg-([0-9a-z]{8}|[0-9a-z]{17})$`)}
	routingDomainText = text{3, 255, nil}
	domainText        = text{1, 253, nil}
)

// Validate refuses what no gateway can be. The first thing wrong, in the order of the members, is reported.
func (d *GatewayDefinition) Validate() error {
	return cmp.Or(
		descriptionText.optional("description", d.Description),
		roleText.optional("roleArn", d.RoleARN),
		checkOptionalEnum("protocolType", d.ProtocolType, ProtocolMCP),
		within("protocolConfiguration.mcp", d.MCP.validate()),
		checkEnum("authorizerType", d.AuthorizerType,
			AuthorizerJWT, AuthorizerIAM, AuthorizerNone, AuthorizerAuthenticateOnly),
		d.validateAuthorizer(),
		keyARN.optional("kmsKeyArn", d.KMSKeyARN),
		within("customTransformConfiguration", d.CustomTransform.validate()),
		d.validateInterceptors(),
		within("policyEngineConfiguration", d.PolicyEngine.validate()),
		checkOptionalEnum("exceptionLevel", d.ExceptionLevel, ExceptionDebug),
		within("wafConfiguration", d.WAF.validate()),
	)
}

// validateAuthorizer wants a configuration for CUSTOM_JWT, and for nothing else: a gateway that looks restricted and is
// not would be worse than a refusal.
func (d *GatewayDefinition) validateAuthorizer() error {
	switch {
	case d.AuthorizerType == AuthorizerJWT && d.JWT == nil:
		return Invalid("required", "authorizerConfiguration.customJWTAuthorizer",
			"authorizerConfiguration.customJWTAuthorizer is required with authorizerType %s", AuthorizerJWT)
	case d.AuthorizerType != AuthorizerJWT && d.JWT != nil:
		return Invalid("unexpected", "authorizerConfiguration",
			"authorizerConfiguration goes only with authorizerType %s; leave it out or change the type, which is %s",
			AuthorizerJWT, quoted(string(d.AuthorizerType)))
	}
	return within("authorizerConfiguration.customJWTAuthorizer", d.JWT.validate())
}

// validateInterceptors wants one or two, each point taken once.
func (d *GatewayDefinition) validateInterceptors() error {
	const field = "interceptorConfigurations"
	if err := checkCount(field, len(d.Interceptors), 0, 2); err != nil {
		return err
	}
	var taken []InterceptionPoint
	return each(field, d.Interceptors, func(at string, i Interceptor) error {
		if err := within(at, i.validate()); err != nil {
			return err
		}
		for _, p := range i.Points {
			if slices.Contains(taken, p) {
				return Invalid("duplicate", at+".interceptionPoints",
					"another interceptor is called at %s already; a gateway has at most one for REQUEST and one for RESPONSE", p)
			}
		}
		taken = append(taken, i.Points...)
		return nil
	})
}

func (i *Interceptor) validate() error {
	err := cmp.Or(
		lambdaText.required("interceptor.lambda.arn", i.LambdaARN),
		checkCount("interceptionPoints", len(i.Points), 1, 2),
		each("interceptionPoints", i.Points, func(at string, p InterceptionPoint) error {
			return checkEnum(at, p, InterceptRequest, InterceptResponse)
		}),
		checkUnique("interceptionPoints", i.Points),
	)
	if err != nil || i.Input == nil {
		return err
	}
	return within("inputConfiguration", i.Input.validate())
}

func (i *InterceptorInput) validate() error {
	if i.PassRequestHeaders == nil {
		return Invalid("required", "passRequestHeaders", "passRequestHeaders is required; say true or false")
	}
	if i.PayloadFilter == nil {
		return nil
	}
	return cmp.Or(
		checkCount("payloadFilter.exclude", len(i.PayloadFilter.Exclude), 1, maxEntries),
		each("payloadFilter.exclude", i.PayloadFilter.Exclude, func(at string, e PayloadExclusion) error {
			return checkEnum(at+".field", e, ExcludeResponseBody)
		}),
	)
}

// validate accepts nil.
func (m *MCPConfiguration) validate() error {
	if m == nil {
		return nil
	}
	var timeout *int32
	if m.Session != nil {
		timeout = m.Session.TimeoutSeconds
	}
	return cmp.Or(
		versionText.list("supportedVersions", m.SupportedVersions, maxEntries),
		anyText.optional("instructions", m.Instructions),
		checkOptionalEnum("searchType", m.SearchType, SearchSemantic),
		checkRange("sessionConfiguration.sessionTimeoutInSeconds", timeout, 900, 28800),
	)
}

// validate accepts nil.
func (a *JWTAuthorizer) validate() error {
	if a == nil {
		return nil
	}
	return cmp.Or(
		discoveryText.required("discoveryUrl", a.DiscoveryURL),
		anyText.list("allowedAudience", a.AllowedAudience, maxEntries),
		anyText.list("allowedClients", a.AllowedClients, maxEntries),
		scopeText.list("allowedScopes", a.AllowedScopes, maxEntries),
		checkMap("advertisedScopeMapping", a.AdvertisedScopeMapping, scopeText, scopeText, maxEntries),
		a.validateScopeMapping(),
		checkCount("customClaims", len(a.CustomClaims), 0, maxEntries),
		each("customClaims", a.CustomClaims, func(at string, c CustomClaim) error { return within(at, c.validate()) }),
		within("privateEndpoint", a.PrivateEndpoint.validate()),
		checkCount("privateEndpointOverrides", len(a.PrivateEndpointOverrides), 0, 5),
		each("privateEndpointOverrides", a.PrivateEndpointOverrides, func(at string, o PrivateEndpointOverride) error {
			return within(at, o.validate())
		}),
		within("allowedWorkloadConfiguration", a.AllowedWorkloads.validate()),
	)
}

// validateScopeMapping wants every scope that is advertised under another name to be an allowed one: what it maps would
// otherwise never be told to anybody.
func (a *JWTAuthorizer) validateScopeMapping() error {
	var unknown []string
	for scope := range a.AdvertisedScopeMapping {
		if !slices.Contains(a.AllowedScopes, scope) {
			unknown = append(unknown, scope)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	return Invalid("reference", "advertisedScopeMapping",
		"advertisedScopeMapping maps %s, which is not in allowedScopes", quoted(slices.Min(unknown)))
}

func (c *CustomClaim) validate() error {
	const match = "authorizingClaimMatchValue."
	return cmp.Or(
		claimText.required("inboundTokenClaimName", c.Name),
		checkEnum("inboundTokenClaimValueType", c.ValueType, ClaimString, ClaimStringArray),
		checkEnum(match+"claimMatchOperator", c.Operator, ClaimEquals, ClaimContains, ClaimContainsAny),
		checkUnion(match+"claimMatchValue",
			member{"matchValueString", c.MatchValue != ""},
			member{"matchValueStringList", len(c.MatchValues) > 0}),
		matchText.optional(match+"claimMatchValue.matchValueString", c.MatchValue),
		matchText.list(match+"claimMatchValue.matchValueStringList", c.MatchValues, maxEntries),
		c.validateOperator(),
	)
}

// validateOperator refuses the combinations that compare unlike things. CONTAINS takes one value in either form.
func (c *CustomClaim) validateOperator() error {
	const field = "authorizingClaimMatchValue.claimMatchOperator"
	switch {
	case (c.ValueType == ClaimString) != (c.Operator == ClaimEquals):
		return Invalid("mismatch", field, "%s does not go with inboundTokenClaimValueType %s; use EQUALS with STRING, "+
			"and CONTAINS or CONTAINS_ANY with STRING_ARRAY", c.Operator, c.ValueType)
	case c.Operator == ClaimContainsAny && len(c.MatchValues) == 0:
		return Invalid("mismatch", field, "CONTAINS_ANY needs matchValueStringList")
	case c.Operator != ClaimContainsAny && len(c.MatchValues) > 1,
		c.Operator == ClaimEquals && c.MatchValue == "":
		return Invalid("mismatch", field, "%s compares with one value; give matchValueString", c.Operator)
	}
	return nil
}

// validate accepts nil.
func (w *AllowedWorkloads) validate() error {
	if w == nil {
		return nil
	}
	return cmp.Or(
		checkCount("hostingEnvironments", len(w.HostingEnvironments), 0, maxEntries),
		each("hostingEnvironments", w.HostingEnvironments, func(at, arn string) error {
			return arnText.required(at+".arn", arn)
		}),
		anyText.list("workloadIdentities", w.WorkloadIdentities, maxEntries),
	)
}

// validate accepts nil.
func (e *PrivateEndpoint) validate() error {
	if e == nil {
		return nil
	}
	return cmp.Or(
		checkUnion("",
			member{"selfManagedLatticeResource", e.LatticeResource != ""},
			member{"managedVpcResource", e.ManagedVPC != nil}),
		latticeText.optional("selfManagedLatticeResource.resourceConfigurationIdentifier", e.LatticeResource),
		within("managedVpcResource", e.ManagedVPC.validate()),
	)
}

// validate accepts nil.
func (v *ManagedVPC) validate() error {
	if v == nil {
		return nil
	}
	return cmp.Or(
		vpcText.required("vpcIdentifier", v.VPCID),
		checkCount("subnetIds", len(v.SubnetIDs), 1, maxEntries),
		subnetText.list("subnetIds", v.SubnetIDs, maxEntries),
		checkEnum("endpointIpAddressType", v.IPAddressType, IPv4, IPv6),
		securityGroupText.list("securityGroupIds", v.SecurityGroupIDs, 5),
		checkMap("tags", v.Tags, tagKey, tagValue, maxTags),
		routingDomainText.optional("routingDomain", v.RoutingDomain),
	)
}

func (o *PrivateEndpointOverride) validate() error {
	if err := domainText.required("domain", o.Domain); err != nil {
		return err
	}
	if o.Endpoint == nil {
		return Invalid("required", "privateEndpoint", "privateEndpoint is required")
	}
	return within("privateEndpoint", o.Endpoint.validate())
}

// validate accepts nil.
func (t *CustomTransform) validate() error {
	if t == nil {
		return nil
	}
	return lambdaText.optional("lambda.arn", t.LambdaARN)
}

// validate accepts nil.
func (a *EngineAttachment) validate() error {
	if a == nil {
		return nil
	}
	return cmp.Or(
		engineIDText.required("policyEngineId", a.EngineID),
		checkEnum("mode", a.Mode, ModeEnforce, ModeLogOnly),
	)
}

// validate accepts nil.
func (w *WAFConfiguration) validate() error {
	if w == nil {
		return nil
	}
	return checkOptionalEnum("failureMode", w.FailureMode, WAFFailClose, WAFFailOpen)
}
