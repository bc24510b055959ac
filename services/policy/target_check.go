package policy

import (
	"cmp"
	"net/netip"
	"net/url"
	"regexp"
)

// maxInlineBytes is how much of an API description or tool list a target may hold itself (AgentCore: 1 MB).
const maxInlineBytes = 1 << 20

var (
	s3Text        = text{1, 2048, regexp.MustCompile(`^s3://.+$`)}
	accountText   = text{1, maxText, regexp.MustCompile(`^[0-9]{12}$`)}
	runtimeText   = text{1, maxText, regexp.MustCompile(`^arn:aws(-[^:]+)?:bedrock-agentcore:[a-z0-9-]+:[0-9]{12}:runtime/[a-zA-Z][a-zA-Z0-9_]{0,47}-[a-zA-Z0-9]{10}$`)}
	qualifierText = text{1, maxText, regexp.MustCompile(`^([1-9][0-9]{0,4}|[a-zA-Z][a-zA-Z0-9_]{0,47})$`)}
	secretText    = text{1, maxText, regexp.MustCompile(`^arn:aws(-[^:]+)?:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$`)}
	separatorText = text{1, 1, nil}
	pathText      = text{1, maxText, regexp.MustCompile(`^/.*$`)}
	pointerText   = text{1, maxText, regexp.MustCompile(`^(/([^~/]|~[01])*)+$`)}

	// A header name is a token of RFC 9110: anything else could not be sent, or would be more than a name.
	headerText = text{1, 100, regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")}
	queryText  = text{1, 40, nil}
)

// Validate refuses what no target can be. The first thing wrong, in the order of the members, is reported.
func (d *TargetDefinition) Validate() error {
	return cmp.Or(
		descriptionText.optional("description", d.Description),
		within("targetConfiguration", d.Configuration.validate()),
		d.validateCredentials(),
		within("metadataConfiguration", d.Metadata.validate()),
		within("privateEndpoint", d.PrivateEndpoint.validate()),
		checkCount("certificateConfigurations", len(d.Certificates), 0, 1),
		each("certificateConfigurations", d.Certificates, func(at string, c Certificate) error {
			return within(at, c.validate())
		}),
	)
}

func (c *TargetConfiguration) validate() error {
	var members []member
	var given targetKind
	for _, k := range c.kinds() {
		members = append(members, member{k.path, k.set})
		if k.set {
			given = k
		}
	}
	if err := checkUnion("", members...); err != nil {
		return err
	}
	return within(given.path, given.check())
}

func (s *APISchema) validate() error {
	err := checkUnion("", member{"s3", s.S3 != nil}, member{"inlinePayload", s.InlinePayload != ""})
	switch {
	case err != nil:
		return err
	case s.S3 != nil:
		return within("s3", s.S3.validate())
	case len(s.InlinePayload) > maxInlineBytes:
		return Invalid("size", "inlinePayload", "inlinePayload has %d bytes; at most %d are allowed, so keep it in S3",
			len(s.InlinePayload), maxInlineBytes)
	}
	return checkLength("inlinePayload", s.InlinePayload, 1, maxInlineBytes)
}

// validateOptional accepts nil.
func (s *APISchema) validateOptional(field string) error {
	if s == nil {
		return nil
	}
	return within(field, s.validate())
}

func (o *S3Object) validate() error {
	return cmp.Or(
		s3Text.required("uri", o.URI),
		accountText.optional("bucketOwnerAccountId", o.BucketOwnerAccountID),
	)
}

func (t *LambdaTarget) validate() error {
	return cmp.Or(
		lambdaText.required("lambdaArn", t.ARN),
		within("toolSchema", t.Tools.validate()),
	)
}

func (t *MCPServerTarget) validate() error {
	return cmp.Or(
		checkEndpoint(t.Endpoint),
		t.ToolSchema.validateOptional("mcpToolSchema"),
		checkOptionalEnum("listingMode", t.ListingMode, ListingDefault, ListingDynamic),
		checkRange("resourcePriority", t.ResourcePriority, 0, 1000),
	)
}

// checkEndpoint wants a URL with https, as AgentCore does; http is allowed to the own machine, which AgentCore does not
// have.
func checkEndpoint(value string) error {
	const field = "endpoint"
	if err := anyText.required(field, value); err != nil {
		return err
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.User != nil {
		return Invalid("pattern", field, "%s must be a URL such as https://host/path, without user; it is %s", field, quoted(value))
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return nil
	}
	return Invalid("pattern", field, "%s must begin with https://, or with http:// to a loopback address; it is %s", field, quoted(value))
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (t *APIGatewayTarget) validate() error {
	const config = "apiGatewayToolConfiguration"
	names := map[string]bool{}
	return cmp.Or(
		anyText.required("restApiId", t.RestAPIID),
		anyText.required("stage", t.Stage),
		checkCount(config+".toolFilters", len(t.ToolFilters), 1, maxEntries),
		each(config+".toolFilters", t.ToolFilters, func(at string, f APIGatewayToolFilter) error {
			return within(at, f.validate())
		}),
		checkCount(config+".toolOverrides", len(t.ToolOverrides), 0, maxTargetTools),
		each(config+".toolOverrides", t.ToolOverrides, func(at string, o APIGatewayToolOverride) error {
			return within(at, cmp.Or(o.validate(), checkNewName(names, o.Name)))
		}),
	)
}

func (f *APIGatewayToolFilter) validate() error {
	return cmp.Or(
		pathText.required("filterPath", f.Path),
		checkCount("methods", len(f.Methods), 1, len(restMethods)),
		each("methods", f.Methods, func(at string, m RestMethod) error { return checkEnum(at, m, restMethods...) }),
		checkUnique("methods", f.Methods),
	)
}

func (o *APIGatewayToolOverride) validate() error {
	return cmp.Or(
		toolNameText.required("name", o.Name),
		anyText.optional("description", o.Description),
		pathText.required("path", o.Path),
		checkEnum("method", o.Method, restMethods...),
	)
}

var restMethods = []RestMethod{RestGet, RestDelete, RestHead, RestOptions, RestPatch, RestPut, RestPost}

func (t *ConnectorTarget) validate() error {
	return cmp.Or(
		anyText.required("source.connectorId", t.ConnectorID),
		anyText.optional("source.version", t.Version),
		toolNameText.list("enabled", t.Enabled, maxTargetTools),
		checkUnique("enabled", t.Enabled),
		checkCount("configurations", len(t.Configurations), 0, maxTargetTools),
		each("configurations", t.Configurations, func(at string, c ConnectorTool) error { return within(at, c.validate()) }),
	)
}

func (c *ConnectorTool) validate() error {
	return cmp.Or(
		toolNameText.required("name", c.Name),
		anyText.optional("description", c.Description),
		checkCount("parameterOverrides", len(c.Parameters), 0, maxEntries),
		each("parameterOverrides", c.Parameters, func(at string, p ConnectorParameter) error {
			return within(at, cmp.Or(
				pointerText.required("path", p.Path),
				anyText.optional("description", p.Description)))
		}),
		checkJSONObject("parameterValues", c.ParameterValues),
	)
}

func (t *RuntimeTarget) validate() error {
	return cmp.Or(
		runtimeText.required("arn", t.ARN),
		qualifierText.optional("qualifier", t.Qualifier),
		t.Schema.validateOptional("schema.source"),
	)
}

func (t *PassthroughTarget) validate() error {
	return cmp.Or(
		checkEndpoint(t.Endpoint),
		checkEnum("protocolType", t.ProtocolType,
			PassthroughMCP, PassthroughA2A, PassthroughInference, PassthroughCustom),
		t.Schema.validateOptional("schema.source"),
		within("stickinessConfiguration", t.Stickiness.validate()),
		checkMap("staticQueryParameters", t.StaticQueryParameters, anyText, text{0, maxText, nil}, maxEntries),
		checkOptionalEnum("staticQueryParameterConflictResolution", t.QueryConflict, ClientOverride, StaticOverride),
	)
}

// validate accepts nil.
func (s *Stickiness) validate() error {
	if s == nil {
		return nil
	}
	return cmp.Or(
		anyText.required("identifier", s.Identifier),
		checkRange("timeout", s.TimeoutSeconds, 1, 86400),
		anyText.list("compositeIdentifier", s.CompositeIdentifier, maxEntries),
	)
}

func (t *HTTPConnectorTarget) validate() error {
	return cmp.Or(
		anyText.required("source.connectorId", t.ConnectorID),
		checkMap("parameters", t.Parameters, anyText, text{0, maxText, nil}, maxEntries),
	)
}

func (t *InferenceConnectorTarget) validate() error {
	return anyText.required("source.connectorId", t.ConnectorID)
}

func (t *InferenceProviderTarget) validate() error {
	separator := ""
	if t.ModelMapping != nil && t.ModelMapping.ProviderPrefix != nil {
		separator = t.ModelMapping.ProviderPrefix.Separator
	}
	return cmp.Or(
		checkEndpoint(t.Endpoint),
		separatorText.optional("modelMapping.providerPrefix.separator", separator),
		checkCount("operations", len(t.Operations), 0, maxEntries),
		each("operations", t.Operations, func(at string, o InferenceOperation) error { return within(at, o.validate()) }),
	)
}

func (o *InferenceOperation) validate() error {
	return cmp.Or(
		pathText.required("path", o.Path),
		pathText.optional("providerPath", o.ProviderPath),
		checkCount("models", len(o.Models), 0, maxEntries),
		each("models", o.Models, func(at, model string) error { return anyText.required(at+".model", model) }),
	)
}

// validate accepts nil.
func (m *MetadataConfiguration) validate() error {
	if m == nil {
		return nil
	}
	return cmp.Or(
		headerText.list("allowedRequestHeaders", m.AllowedRequestHeaders, 10),
		queryText.list("allowedQueryParameters", m.AllowedQueryParameters, 10),
		headerText.list("allowedResponseHeaders", m.AllowedResponseHeaders, 10),
	)
}

func (c *Certificate) validate() error {
	err := checkUnion("", member{"s3", c.S3 != nil}, member{"secretsManager", c.SecretARN != ""})
	switch {
	case err != nil:
		return err
	case c.S3 != nil:
		return within("s3", c.S3.validate())
	}
	return secretText.required("secretsManager.secretArn", c.SecretARN)
}
