package stream

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// filler sets every field of a message, picks one member of every union at random, and notes what it has set: members of
// unions and names of enum values.
type filler struct {
	rand *rand.Rand
	seen map[protoreflect.FullName]bool
}

func (f *filler) fill(m protoreflect.Message, depth int) {
	if !slices.Contains([]protoreflect.Name{"Schema", "Struct", "ListValue", "Value"}, m.Descriptor().Name()) {
		depth = 0 // only these hold themselves
	}
	deep := depth > 3
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if union := fd.ContainingOneof(); union != nil && !union.IsSynthetic() || fd.Message() != nil && deep {
			continue
		}
		f.set(m, fd, depth)
	}
	for i := range m.Descriptor().Oneofs().Len() {
		union := m.Descriptor().Oneofs().Get(i)
		if union.IsSynthetic() {
			continue
		}
		n := union.Fields().Len()
		if deep {
			n = 4 // the members that hold no other values
		}
		f.set(m, union.Fields().Get(f.rand.IntN(n)), depth)
	}
}

func (f *filler) set(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) {
	f.seen[fd.FullName()] = true
	switch {
	case fd.IsMap():
		for range 2 {
			m.Mutable(fd).Map().Set(f.text().MapKey(), f.value(m.Mutable(fd).Map().NewValue, fd.MapValue(), depth))
		}
	case fd.IsList():
		for range 2 {
			m.Mutable(fd).List().Append(f.value(m.Mutable(fd).List().NewElement, fd, depth))
		}
	default:
		m.Set(fd, f.value(func() protoreflect.Value { return m.NewField(fd) }, fd, depth))
	}
}

func (f *filler) value(fresh func() protoreflect.Value, fd protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		v := fresh()
		f.fill(v.Message(), depth+1)
		return v
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		picked := values.Get(min(1, values.Len()-1))
		if values.Len() > 2 {
			picked = values.Get(1 + f.rand.IntN(values.Len()-1))
		}
		f.seen[picked.FullName()] = true
		return protoreflect.ValueOfEnum(picked.Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1 + f.rand.Int32N(1000))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(f.rand.IntN(1000)) / 4)
	default:
		return f.text()
	}
}

func (f *filler) text() protoreflect.Value {
	b := make([]byte, 8)
	for i := range b {
		b[i] = 'a' + byte(f.rand.IntN(26))
	}
	return protoreflect.ValueOfString(string(b))
}

// reachable calls visit for every field and enum value name in a message and what it holds.
func reachable(d protoreflect.MessageDescriptor, done map[protoreflect.FullName]bool, visit func(protoreflect.FullName)) {
	if done[d.FullName()] || d.IsMapEntry() {
		return
	}
	done[d.FullName()] = true
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		visit(fd.FullName())
		if fd.IsMap() {
			fd = fd.MapValue()
		}
		if fd.Message() != nil {
			reachable(fd.Message(), done, visit)
		}
		if fd.Enum() != nil {
			for j := 1; j < fd.Enum().Values().Len(); j++ {
				visit(fd.Enum().Values().Get(j).FullName())
			}
		}
	}
}

// missing are the fields and enum values in reach of a message that have not been set yet.
func (f *filler) missing(d protoreflect.MessageDescriptor) (names []protoreflect.FullName) {
	reachable(d, map[protoreflect.FullName]bool{}, func(name protoreflect.FullName) {
		if !f.seen[name] {
			names = append(names, name)
		}
	})
	return names
}

// fieldsSet notes "Type.Field" for every field of a struct of package policy that is not zero, however deep.
func fieldsSet(v reflect.Value, set map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fieldsSet(v.Elem(), set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			fieldsSet(v.Index(i), set)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			fieldsSet(v.MapIndex(k), set)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			set[name] = set[name] || !v.Field(i).IsZero()
			fieldsSet(v.Field(i), set)
		}
	}
}

// keepsEverything turns filled messages into definitions and back until every member of every union and every enum value
// has had its turn, and wants nothing to be lost on either side.
func keepsEverything[M proto.Message, D any](t *testing.T, toProto func(*D) M, fromProto func(M) (*D, error)) {
	t.Helper()
	var zero M
	f := &filler{rand: rand.New(rand.NewPCG(1, 2)), seen: map[protoreflect.FullName]bool{}}
	set := map[string]bool{}
	missing := f.missing(zero.ProtoReflect().Descriptor())
	for i := 0; i < 1000 && len(missing) > 0; i++ {
		in := zero.ProtoReflect().New()
		f.fill(in, 0)
		d, err := fromProto(in.Interface().(M))
		if err != nil {
			t.Fatalf("%v\nfrom %s", err, prototext.Format(in.Interface()))
		}
		out := toProto(d)
		if !proto.Equal(in.Interface(), out) {
			t.Fatalf("message\n%s\ncame back as\n%s", prototext.Format(in.Interface()), prototext.Format(out))
		}
		again, err := fromProto(out)
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("definition %+v came back as %+v, %v", d, again, err)
		}
		fieldsSet(reflect.ValueOf(d), set)
		missing = f.missing(zero.ProtoReflect().Descriptor())
	}
	if len(missing) > 0 {
		t.Errorf("never set, so the test does not reach it: %v", missing)
	}
	for name, ok := range set {
		if !ok {
			t.Errorf("policy.%s has no place in the message", name)
		}
	}
}

func TestGatewayDefinitionKeepsEverything(t *testing.T) {
	keepsEverything(t, GatewayDefinitionToProto, GatewayDefinitionFromProto)
}

func TestTargetDefinitionKeepsEverything(t *testing.T) {
	keepsEverything(t, TargetDefinitionToProto, TargetDefinitionFromProto)
}

func TestToolKeepsEverything(t *testing.T) {
	keepsEverything(t, ToolToProto, ToolFromProto)
}

func TestSchemaKeepsEverything(t *testing.T) {
	keepsEverything(t, SchemaToProto, SchemaFromProto)
}

func TestNilDefinitions(t *testing.T) {
	if GatewayDefinitionToProto(nil) != nil || TargetDefinitionToProto(nil) != nil || ToolToProto(nil) != nil || SchemaToProto(nil) != nil {
		t.Error("a nil definition became a message")
	}
	if d, err := GatewayDefinitionFromProto(nil); err != nil || !reflect.DeepEqual(d, &policy.GatewayDefinition{}) {
		t.Errorf("nil gateway message: %+v, %v", d, err)
	}
	if d, err := TargetDefinitionFromProto(nil); err != nil || !reflect.DeepEqual(d, &policy.TargetDefinition{}) {
		t.Errorf("nil target message: %+v, %v", d, err)
	}
	if d, err := ToolFromProto(nil); err != nil || !reflect.DeepEqual(d, &policy.Tool{}) {
		t.Errorf("nil tool message: %+v, %v", d, err)
	}
	if s, err := SchemaFromProto(nil); err != nil || s != nil {
		t.Errorf("nil schema message: %+v, %v", s, err)
	}
}

// Members that are absent stay absent, also where the message has one level more than the definition.
func TestSparseDefinitions(t *testing.T) {
	for _, d := range []*policy.GatewayDefinition{
		{},
		{MCP: &policy.MCPConfiguration{}, JWT: &policy.JWTAuthorizer{}, CustomTransform: &policy.CustomTransform{}, WAF: &policy.WAFConfiguration{}},
		{MCP: &policy.MCPConfiguration{Session: &policy.SessionConfiguration{}, Streaming: &policy.StreamingConfiguration{}}},
		{JWT: &policy.JWTAuthorizer{PrivateEndpoint: &policy.PrivateEndpoint{}, AllowedWorkloads: &policy.AllowedWorkloads{}}},
		{Interceptors: []policy.Interceptor{{}, {Input: &policy.InterceptorInput{}}}, PolicyEngine: &policy.EngineAttachment{}},
	} {
		if again, err := GatewayDefinitionFromProto(GatewayDefinitionToProto(d)); err != nil || !reflect.DeepEqual(d, again) {
			t.Errorf("%+v came back as %+v, %v", d, again, err)
		}
	}
	for _, c := range []policy.TargetConfiguration{
		{},
		{Lambda: &policy.LambdaTarget{}},
		{MCPServer: &policy.MCPServerTarget{}},
		{Runtime: &policy.RuntimeTarget{}},
		{Passthrough: &policy.PassthroughTarget{Stickiness: &policy.Stickiness{}}},
		{InferenceProvider: &policy.InferenceProviderTarget{}},
		{InferenceProvider: &policy.InferenceProviderTarget{ModelMapping: &policy.ModelMapping{}}},
		{Connector: &policy.ConnectorTarget{Configurations: []policy.ConnectorTool{{ParameterValues: []byte("{}")}, {}}}},
	} {
		d := &policy.TargetDefinition{Configuration: c, Credentials: []policy.Credentials{{}}}
		if again, err := TargetDefinitionFromProto(TargetDefinitionToProto(d)); err != nil || !reflect.DeepEqual(d, again) {
			t.Errorf("%+v came back as %+v, %v", d, again, err)
		}
	}
}

// sameEnum wants the values of an enum of the domain and of the contract to be the same ones.
func sameEnum[E protoEnum, T ~string](t *testing.T, _ E, values ...T) {
	t.Helper()
	var zero E
	if got, want := len(values), zero.Descriptor().Values().Len()-1; got != want {
		t.Errorf("%s has %d values, the domain %d", zero.Descriptor().FullName(), want, got)
	}
	for _, v := range values {
		e := enumTo[E](v)
		if back := enumFrom[T](e); e == zero || back != v {
			t.Errorf("%s %q became %v and came back as %q", zero.Descriptor().FullName(), v, e, back)
		}
	}
	if enumTo[E](T("")) != zero || enumTo[E](T("UNSPECIFIED")) != zero || enumTo[E](T("NO_SUCH")) != zero || enumFrom[T](zero) != "" || enumFrom[T](zero+99) != "" {
		t.Errorf("%s: what is no value did not become absent", zero.Descriptor().FullName())
	}
}

func TestEnumsAreTheSame(t *testing.T) {
	sameEnum(t, eventv1.GatewayProtocolType(0), policy.ProtocolMCP)
	sameEnum(t, eventv1.SearchType(0), policy.SearchSemantic)
	sameEnum(t, eventv1.AuthorizerType(0), policy.AuthorizerJWT, policy.AuthorizerIAM, policy.AuthorizerNone, policy.AuthorizerAuthenticateOnly)
	sameEnum(t, eventv1.InboundTokenClaimValueType(0), policy.ClaimString, policy.ClaimStringArray)
	sameEnum(t, eventv1.ClaimMatchOperator(0), policy.ClaimEquals, policy.ClaimContains, policy.ClaimContainsAny)
	sameEnum(t, eventv1.EndpointIpAddressType(0), policy.IPv4, policy.IPv6)
	sameEnum(t, eventv1.GatewayInterceptionPoint(0), policy.InterceptRequest, policy.InterceptResponse)
	sameEnum(t, eventv1.InterceptorPayloadExclusion(0), policy.ExcludeResponseBody)
	sameEnum(t, eventv1.EngineMode(0), policy.ModeEnforce, policy.ModeLogOnly)
	sameEnum(t, eventv1.ExceptionLevel(0), policy.ExceptionDebug)
	sameEnum(t, eventv1.WafFailureMode(0), policy.WAFFailClose, policy.WAFFailOpen)
	sameEnum(t, eventv1.ListingMode(0), policy.ListingDefault, policy.ListingDynamic)
	sameEnum(t, eventv1.RestApiMethod(0), policy.RestGet, policy.RestDelete, policy.RestHead, policy.RestOptions, policy.RestPatch, policy.RestPut, policy.RestPost)
	sameEnum(t, eventv1.PassthroughProtocolType(0), policy.PassthroughMCP, policy.PassthroughA2A, policy.PassthroughInference, policy.PassthroughCustom)
	sameEnum(t, eventv1.StaticQueryParameterConflictResolution(0), policy.ClientOverride, policy.StaticOverride)
	sameEnum(t, eventv1.CredentialProviderType(0), policy.CredentialsGatewayRole, policy.CredentialsOAuth, policy.CredentialsAPIKey, policy.CredentialsCallerIAM, policy.CredentialsJWTPassthrough)
	sameEnum(t, eventv1.OauthGrantType(0), policy.GrantClientCredentials, policy.GrantAuthorizationCode, policy.GrantTokenExchange)
	sameEnum(t, eventv1.ApiKeyCredentialLocation(0), policy.APIKeyHeader, policy.APIKeyQueryParameter)
	var types []string
	for _, s := range []policy.SchemaType{policy.SchemaString, policy.SchemaNumber, policy.SchemaInteger, policy.SchemaBoolean, policy.SchemaObject, policy.SchemaArray} {
		types = append(types, strings.ToUpper(string(s)))
	}
	sameEnum(t, eventv1.SchemaType(0), types...)
}
