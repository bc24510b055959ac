package stream

import (
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

func httpTargetToProto(c *policy.TargetConfiguration) *eventv1.HttpTargetConfiguration {
	m := &eventv1.HttpTargetConfiguration{}
	switch {
	case c.Runtime != nil:
		m.Configuration = &eventv1.HttpTargetConfiguration_AgentcoreRuntime{AgentcoreRuntime: runtimeToProto(c.Runtime)}
	case c.Passthrough != nil:
		m.Configuration = &eventv1.HttpTargetConfiguration_Passthrough{Passthrough: passthroughToProto(c.Passthrough)}
	case c.HTTPConnector != nil:
		m.Configuration = &eventv1.HttpTargetConfiguration_Connector{Connector: httpConnectorToProto(c.HTTPConnector)}
	}
	return m
}

func inferenceTargetToProto(c *policy.TargetConfiguration) *eventv1.InferenceTargetConfiguration {
	m := &eventv1.InferenceTargetConfiguration{}
	switch {
	case c.InferenceConnector != nil:
		m.Configuration = &eventv1.InferenceTargetConfiguration_Connector{Connector: inferenceConnectorToProto(c.InferenceConnector)}
	case c.InferenceProvider != nil:
		m.Configuration = &eventv1.InferenceTargetConfiguration_Provider{Provider: providerToProto(c.InferenceProvider)}
	}
	return m
}

func httpSchemaToProto(s *policy.APISchema) *eventv1.HttpApiSchemaConfiguration {
	return &eventv1.HttpApiSchemaConfiguration{Source: apiSchemaToProto(s)}
}

// httpSchemaFromProto makes an empty description of one without a source, so that Validate refuses it.
func httpSchemaFromProto(m *eventv1.HttpApiSchemaConfiguration) *policy.APISchema {
	return apiSchemaFromProto(m.GetSource())
}

func runtimeToProto(t *policy.RuntimeTarget) *eventv1.RuntimeTargetConfiguration {
	return &eventv1.RuntimeTargetConfiguration{
		Arn:       t.ARN,
		Qualifier: t.Qualifier,
		Schema:    convertIf(t.Schema, httpSchemaToProto),
	}
}

func runtimeFromProto(m *eventv1.RuntimeTargetConfiguration) *policy.RuntimeTarget {
	return &policy.RuntimeTarget{
		ARN:       m.GetArn(),
		Qualifier: m.GetQualifier(),
		Schema:    convertIf(m.GetSchema(), httpSchemaFromProto),
	}
}

func passthroughToProto(t *policy.PassthroughTarget) *eventv1.PassthroughTargetConfiguration {
	m := &eventv1.PassthroughTargetConfiguration{
		Endpoint:              t.Endpoint,
		ProtocolType:          enumTo[eventv1.PassthroughProtocolType](t.ProtocolType),
		Schema:                convertIf(t.Schema, httpSchemaToProto),
		StaticQueryParameters: t.StaticQueryParameters,
		StaticQueryParameterConflictResolution: enumTo[eventv1.StaticQueryParameterConflictResolution](
			t.QueryConflict),
	}
	if s := t.Stickiness; s != nil {
		m.StickinessConfiguration = &eventv1.StickinessConfiguration{
			Identifier:          s.Identifier,
			Timeout:             s.TimeoutSeconds,
			CompositeIdentifier: s.CompositeIdentifier,
		}
	}
	return m
}

func passthroughFromProto(m *eventv1.PassthroughTargetConfiguration) *policy.PassthroughTarget {
	t := &policy.PassthroughTarget{
		Endpoint:              m.GetEndpoint(),
		ProtocolType:          enumFrom[policy.PassthroughProtocol](m.GetProtocolType()),
		Schema:                convertIf(m.GetSchema(), httpSchemaFromProto),
		StaticQueryParameters: m.GetStaticQueryParameters(),
		QueryConflict:         enumFrom[policy.QueryConflict](m.GetStaticQueryParameterConflictResolution()),
	}
	if s := m.GetStickinessConfiguration(); s != nil {
		t.Stickiness = &policy.Stickiness{
			Identifier:          s.GetIdentifier(),
			TimeoutSeconds:      s.Timeout,
			CompositeIdentifier: s.GetCompositeIdentifier(),
		}
	}
	return t
}

func httpConnectorToProto(t *policy.HTTPConnectorTarget) *eventv1.HttpConnectorTargetConfiguration {
	return &eventv1.HttpConnectorTargetConfiguration{
		Source:     &eventv1.HttpConnectorSource{ConnectorId: t.ConnectorID},
		Parameters: t.Parameters,
	}
}

func httpConnectorFromProto(m *eventv1.HttpConnectorTargetConfiguration) *policy.HTTPConnectorTarget {
	return &policy.HTTPConnectorTarget{ConnectorID: m.GetSource().GetConnectorId(), Parameters: m.GetParameters()}
}

func inferenceConnectorToProto(t *policy.InferenceConnectorTarget) *eventv1.InferenceConnectorTargetConfiguration {
	return &eventv1.InferenceConnectorTargetConfiguration{
		Source: &eventv1.InferenceConnectorSource{ConnectorId: t.ConnectorID},
	}
}

func inferenceConnectorFromProto(m *eventv1.InferenceConnectorTargetConfiguration) *policy.InferenceConnectorTarget {
	return &policy.InferenceConnectorTarget{ConnectorID: m.GetSource().GetConnectorId()}
}

func providerToProto(t *policy.InferenceProviderTarget) *eventv1.InferenceProviderTargetConfiguration {
	m := &eventv1.InferenceProviderTargetConfiguration{
		Endpoint:   t.Endpoint,
		Operations: convertAll(t.Operations, operationToProto),
	}
	if t.ModelMapping == nil {
		return m
	}
	m.ModelMapping = &eventv1.ModelMapping{}
	if p := t.ModelMapping.ProviderPrefix; p != nil {
		m.ModelMapping.ProviderPrefix = &eventv1.ProviderPrefix{Separator: p.Separator, Strip: p.Strip}
	}
	return m
}

func providerFromProto(m *eventv1.InferenceProviderTargetConfiguration) *policy.InferenceProviderTarget {
	t := &policy.InferenceProviderTarget{
		Endpoint:   m.GetEndpoint(),
		Operations: convertAll(m.GetOperations(), operationFromProto),
	}
	if m.GetModelMapping() == nil {
		return t
	}
	t.ModelMapping = &policy.ModelMapping{}
	if p := m.GetModelMapping().GetProviderPrefix(); p != nil {
		t.ModelMapping.ProviderPrefix = &policy.ProviderPrefix{Separator: p.GetSeparator(), Strip: p.GetStrip()}
	}
	return t
}

func operationToProto(o policy.InferenceOperation) *eventv1.InferenceOperationConfiguration {
	return &eventv1.InferenceOperationConfiguration{
		Path:         o.Path,
		ProviderPath: o.ProviderPath,
		Models: convertAll(o.Models, func(model string) *eventv1.ModelEntry {
			return &eventv1.ModelEntry{Model: model}
		}),
	}
}

func operationFromProto(m *eventv1.InferenceOperationConfiguration) policy.InferenceOperation {
	return policy.InferenceOperation{
		Path:         m.GetPath(),
		ProviderPath: m.GetProviderPath(),
		Models:       convertAll(m.GetModels(), (*eventv1.ModelEntry).GetModel),
	}
}
