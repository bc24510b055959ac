package extauthz

import (
	"math"
	"strings"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json"
	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	extauthzv1 "github.com/verdict-io/verdict/proto/gen/verdict/extauthz/v1"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// settings are what the operator says of a route, in context_extensions.
type settings struct {
	gateway       string // verdict.gateway: the ARN
	target        string // verdict.target: whose tools these are, when their names do not say it
	principalType string // verdict.principal_type
	principalID   string // verdict.principal_id: everybody on this route is this one
	header        string // verdict.principal_header: what the client, or something before Envoy, writes here is believed
	payload       string // verdict.jwt_payload: under which key jwt_authn has the claims, its payload_in_metadata
}

const (
	extensionPrefix = "verdict."
	jwtAuthn        = "envoy.filters.http.jwt_authn"
	defaultPayload  = "jwt_payload"
)

// misconfigured is what an operator has to mend.
func misconfigured(format string, args ...any) *rpc.Error {
	return rpc.Errorf(connect.CodeFailedPrecondition, "envoy_configuration", format, args...)
}

// readSettings refuses what it does not know: a name that is misspelled must not be a setting that is not there.
func readSettings(extensions map[string]string) (*settings, error) {
	s := &settings{}
	fields := map[string]*string{
		"gateway": &s.gateway, "target": &s.target, "principal_type": &s.principalType, "principal_id": &s.principalID,
		"principal_header": &s.header, "jwt_payload": &s.payload,
	}
	for key, value := range extensions {
		name, ours := strings.CutPrefix(key, extensionPrefix)
		if !ours {
			continue
		}
		field := fields[name]
		if field == nil || value == "" {
			return nil, misconfigured("context_extensions of Envoy's ext_authz: there is no setting %.60q, or it is empty", key)
		}
		*field = value
	}
	return s, s.check()
}

func (s *settings) check() error {
	ways := 0
	for _, way := range []string{s.principalID, s.header, s.payload} {
		if way != "" {
			ways++
		}
	}
	switch {
	case s.gateway == "":
		return misconfigured("context_extensions of Envoy's ext_authz name no gateway: set verdict.gateway to its ARN")
	case ways > 1:
		return misconfigured("context_extensions of Envoy's ext_authz: of verdict.principal_id, verdict.principal_header and verdict.jwt_payload only one may be set")
	}
	if s.principalType == "" {
		s.principalType = policy.TypeOAuthUser
	}
	if ways == 0 {
		s.payload = defaultPayload
	}
	if s.payload != "" && s.principalType != policy.TypeOAuthUser {
		return misconfigured("context_extensions of Envoy's ext_authz: a token is an %s; set verdict.principal_id or verdict.principal_header too, or leave verdict.principal_type out", policy.TypeOAuthUser)
	}
	return nil
}

// principal is who calls.
func (s *settings) principal(attributes *extauthzv1.AttributeContext) (*decisionv1.Principal, error) {
	switch {
	case s.principalID != "":
		return &decisionv1.Principal{Type: s.principalType, Id: s.principalID}, nil
	case s.header != "":
		id := header(attributes.GetRequest().GetHttp(), strings.ToLower(s.header))
		if id == "" {
			return nil, unknown("the request has no header %s, which says who calls", s.header)
		}
		return &decisionv1.Principal{Type: s.principalType, Id: id}, nil
	}
	claims := attributes.GetMetadataContext().GetFilterMetadata()[jwtAuthn].GetFields()[s.payload].GetStructValue()
	id := claims.GetFields()["sub"].GetStringValue()
	if id == "" {
		return nil, unknown("no token with a sub was verified: let jwt_authn stand before ext_authz, with payload_in_metadata: %s, and name "+
			"%s in metadata_context_namespaces of ext_authz", s.payload, jwtAuthn)
	}
	tags, err := tagsOf(claims)
	return &decisionv1.Principal{Type: s.principalType, Id: id, Tags: tags}, err
}

func unknown(format string, args ...any) *rpc.Error {
	return rpc.Errorf(connect.CodeUnauthenticated, "principal", format, args...)
}

// tagsOf are claims as tags: strings as they are, everything else as its JSON.
func tagsOf(claims *structpb.Struct) (map[string]string, error) {
	tags := make(map[string]string, len(claims.GetFields()))
	for name, claim := range claims.GetFields() {
		if !exact(claim) {
			return nil, refuse("claim", "the claim %.60q holds a number that Envoy cannot hand on as it is: those below 2^53 can be", name)
		}
		switch kind := claim.GetKind().(type) {
		case *structpb.Value_NullValue:
		case *structpb.Value_StringValue:
			tags[name] = kind.StringValue
		default:
			text, err := json.Marshal(claim.AsInterface(), json.Deterministic(true))
			if err != nil {
				return nil, refuse("claim", "the claim %.60q is no JSON", name)
			}
			tags[name] = string(text)
		}
	}
	return tags, nil
}

// maxExact is 2^53: from there on a float64 need not be the integer that was sent.
const maxExact = 1 << 53

// exact tells claims whose numbers are those of the token.
func exact(v *structpb.Value) bool {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		return math.Abs(kind.NumberValue) < maxExact // false for NaN
	case *structpb.Value_StructValue:
		for _, field := range kind.StructValue.GetFields() {
			if !exact(field) {
				return false
			}
		}
	case *structpb.Value_ListValue:
		for _, elem := range kind.ListValue.GetValues() {
			if !exact(elem) {
				return false
			}
		}
	}
	return true
}
