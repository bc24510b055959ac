package stream

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// Golden files are the bytes of events as this and earlier versions wrote them: logs in the world are made of such bytes.
// They are NEVER changed, only added: a new version of a type gets a file of its own beside the old one, and every file has
// to be read for ever as the event that goldenHistory says. What -update writes is therefore only what is not there yet.
var update = flag.Bool("update", false, "write the golden files that are missing")

// goldenDigest is the SHA-256 of the state that log.v1.bin amounts to, serialized. It changes only with stateFormat, or
// when the encoding of protobuf changes; what the log amounts to never does.
const goldenDigest = "0a30fc700b90aa8b8ff47f87bf2c8eec1301b5193d5df7a1203ed91f15880eb0"

// goldenDigest2 is that of log.v2.bin, which has changes.
const goldenDigest2 = "c6506aa56b90a626f6ec37d88ff1647556f2799c592a4de85463bc4005784a14"

const goldenAccount = "111122223333"

var goldenSigner = NewSigner(ed25519.NewKeyFromSeed([]byte("the seed of the golden files' key")[:ed25519.SeedSize]))

func goldenKeys() Keyring { return NewKeyring(goldenSigner.Public()) }

// step is the events of one command.
type step struct {
	account string
	events  []policy.Event
}

func one(events ...policy.Event) step { return step{goldenAccount, events} }

func goldenGateway() policy.GatewayDefinition {
	return policy.GatewayDefinition{
		Description: "Refunds", RoleARN: "arn:aws:iam::111122223333:role/gateway", ProtocolType: policy.ProtocolMCP,
		MCP: &policy.MCPConfiguration{
			SupportedVersions: []string{"2025-06-18"}, Instructions: "Ask first.", SearchType: policy.SearchSemantic,
			Session: &policy.SessionConfiguration{TimeoutSeconds: new(int32(900))}, Streaming: &policy.StreamingConfiguration{EnableResponseStreaming: new(false)},
			DisableListToolsPagination: new(true),
		},
		AuthorizerType: policy.AuthorizerJWT,
		JWT: &policy.JWTAuthorizer{
			DiscoveryURL:    "https://issuer.example/.well-known/openid-configuration",
			AllowedAudience: []string{"a"}, AllowedClients: []string{"c"}, AllowedScopes: []string{"s"}, AdvertisedScopeMapping: map[string]string{"s": "t"},
			CustomClaims: []policy.CustomClaim{
				{Name: "team", ValueType: policy.ClaimString, Operator: policy.ClaimEquals, MatchValue: "refunds"},
				{Name: "roles", ValueType: policy.ClaimStringArray, Operator: policy.ClaimContainsAny, MatchValues: []string{"x", "y"}},
			},
			PrivateEndpoint: &policy.PrivateEndpoint{LatticeResource: "rcfg-0123456789abcdefg"},
			PrivateEndpointOverrides: []policy.PrivateEndpointOverride{{Domain: "issuer.example", Endpoint: &policy.PrivateEndpoint{ManagedVPC: &policy.ManagedVPC{
				VPCID: "vpc-12345678", SubnetIDs: []string{"subnet-12345678"}, IPAddressType: policy.IPv4,
				SecurityGroupIDs: []string{"sg-12345678"}, Tags: map[string]string{"k": "v"}, RoutingDomain: "lb.example",
			}}}},
			AllowedWorkloads: &policy.AllowedWorkloads{HostingEnvironments: []string{"arn:aws:x:y::z"}, WorkloadIdentities: []string{"w"}},
		},
		KMSKeyARN:       "arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef",
		CustomTransform: &policy.CustomTransform{LambdaARN: "arn:aws:lambda:us-east-1:111122223333:function:t"},
		Interceptors: []policy.Interceptor{{
			LambdaARN: "arn:aws:lambda:us-east-1:111122223333:function:i", Points: []policy.InterceptionPoint{policy.InterceptRequest},
			Input: &policy.InterceptorInput{PassRequestHeaders: new(false), PayloadFilter: &policy.PayloadFilter{Exclude: []policy.PayloadExclusion{policy.ExcludeResponseBody}}},
		}},
		PolicyEngine:   &policy.EngineAttachment{EngineID: "Refunds-a1b2c3d4e5", Mode: policy.ModeLogOnly},
		ExceptionLevel: policy.ExceptionDebug, WAF: &policy.WAFConfiguration{FailureMode: policy.WAFFailOpen},
	}
}

func goldenLambda() policy.TargetDefinition {
	return policy.TargetDefinition{
		Description: "Refund tools",
		Configuration: policy.TargetConfiguration{Lambda: &policy.LambdaTarget{
			ARN: "arn:aws:lambda:us-east-1:111122223333:function:refund",
			Tools: policy.ToolSchema{Inline: []policy.Tool{{
				Name: "process_refund", Description: "Pays back.",
				InputSchema: &policy.Schema{Type: policy.SchemaObject, Required: []string{"amount"}, Properties: map[string]*policy.Schema{
					"amount":    {Type: policy.SchemaInteger, Description: "In cents."},
					"rate":      {Type: policy.SchemaNumber},
					"confirmed": {Type: policy.SchemaBoolean},
					"lines":     {Type: policy.SchemaArray, Items: &policy.Schema{Type: policy.SchemaObject, Properties: map[string]*policy.Schema{"sku": {Type: policy.SchemaString}}}},
				}},
				OutputSchema: &policy.Schema{Type: policy.SchemaBoolean},
			}}},
		}},
		Credentials: []policy.Credentials{{Type: policy.CredentialsGatewayRole, IAM: &policy.IAMProvider{Service: "lambda", Region: "us-east-1"}}},
	}
}

func goldenServer() policy.TargetDefinition {
	return policy.TargetDefinition{
		Configuration: policy.TargetConfiguration{MCPServer: &policy.MCPServerTarget{
			Endpoint: "https://mcp.example/mcp", ToolSchema: &policy.APISchema{InlinePayload: "{}"},
			ListingMode: policy.ListingDynamic, ResourcePriority: new(int32(0)),
		}},
		Credentials: []policy.Credentials{{Type: policy.CredentialsOAuth, OAuth: &policy.OAuthProvider{
			ProviderARN: "arn:aws:x:y::z", Scopes: []string{"s"}, CustomParameters: map[string]string{"k": "v"},
			GrantType: policy.GrantClientCredentials, DefaultReturnURL: "https://app.example/",
		}}},
		Metadata: &policy.MetadataConfiguration{
			AllowedRequestHeaders: []string{"X-Id"}, AllowedQueryParameters: []string{"q"}, AllowedResponseHeaders: []string{"X-Id"},
		},
		PrivateEndpoint: &policy.PrivateEndpoint{LatticeResource: "rcfg-0123456789abcdefg"},
		Certificates:    []policy.Certificate{{S3: &policy.S3Object{URI: "s3://bucket/ca.pem", BucketOwnerAccountID: "111122223333"}}},
	}
}

func goldenConnector() policy.TargetDefinition {
	return policy.TargetDefinition{Configuration: policy.TargetConfiguration{Connector: &policy.ConnectorTarget{
		ConnectorID: "kb", Version: "1.1.0", Enabled: []string{"retrieve"},
		Configurations: []policy.ConnectorTool{{
			Name: "retrieve", Description: "d", Parameters: []policy.ConnectorParameter{{Path: "/filter", Description: "d", Visible: new(false)}},
			ParameterValues: json.RawMessage(`{"list":[null,true,"x",{}],"n":1.5}`),
		}},
	}}}
}

func goldenBody(change func(*policy.Body)) policy.Body {
	b := policy.Body{
		Language: policy.LanguageCedar, Statement: "permit(principal, action, resource is AgentCore::Gateway);",
		Enforcement: policy.EnforcementActive, Validation: policy.FailOnAnyFindings,
	}
	change(&b)
	return b
}

// goldenHistory has every type of event, and leaves a state with things of most statuses. It may be added to only in a file
// of another name, as goldenChanges is (log.v2.bin).
func goldenHistory() []step {
	engine, gone := policy.EngineRef("Refunds-a1b2c3d4e5"), policy.EngineRef("Gone-a1b2c3d4e5")
	gateway, goneGateway := policy.GatewayRef("refund-gw-a1b2c3d4e5"), policy.GatewayRef("gone-a1b2c3d4e5")
	target, goneTarget := policy.TargetRef(gateway.ID, "Target0001"), policy.TargetRef(gateway.ID, "Target0002")
	limit, gonePolicy := policy.PolicyRef(engine.ID, "limit-a1b2c3d4e5"), policy.PolicyRef(engine.ID, "gone-a1b2c3d4e5")
	statement := `forbid(principal, action, resource == AgentCore::Gateway::"arn:aws:bedrock-agentcore:us-east-1:111122223333:gateway/refund-gw-a1b2c3d4e5");`
	tags := map[string]string{"team": "payments", "stage": ""}
	settings := policy.Settings{
		StalenessBound: new(1500 * time.Millisecond), OnStale: policy.OnStaleDeny, StrictForbids: new(false),
		RedactedPaths: new([]string{"/context/input/card", "/principal/tags/email"}),
	}
	failedAndGone := func(create policy.Event) []step {
		ref := create.Ref()
		return []step{
			one(create), one(policy.Failed{Of: ref, Reasons: []string{"first: “é”", "second"}}),
			one(policy.DeleteRequested{Of: ref}, policy.Deleted{Of: ref}),
		}
	}
	steps := []step{
		{policy.LogAccount, []policy.Event{policy.LogCreated{LogID: "5f0c2d1e-8a4b-4c6d-9e0f-112233445566", Region: "eu-central-1"}}},
		one(policy.AccountSettingsChanged{Account: goldenAccount, Settings: settings}),
		one(policy.EngineCreated{ID: engine.ID, Name: "Refunds", Tags: tags, Definition: policy.EngineDefinition{
			Description: "Decides refunds.", EncryptionKeyARN: "arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef",
		}}, policy.Activated{Of: engine}),
		one(policy.EngineUpdateRequested{ID: engine.ID, Definition: policy.EngineDefinition{Description: "Decides refunds: “all”."}}, policy.Activated{Of: engine}),
		one(policy.EngineSettingsChanged{ID: engine.ID, Settings: policy.Settings{StrictForbids: new(true), RedactedPaths: new([]string{})}}),
		one(policy.TagsChanged{Of: engine, Tags: map[string]string{"team": "refunds"}}),
		one(policy.GatewayCreated{ID: gateway.ID, Name: "Refund-gw", Definition: goldenGateway(), Tags: tags}, policy.Activated{Of: gateway}),
		one(policy.GatewayUpdateRequested{ID: gateway.ID, Definition: policy.GatewayDefinition{
			AuthorizerType: policy.AuthorizerIAM, PolicyEngine: &policy.EngineAttachment{EngineID: engine.ID, Mode: policy.ModeEnforce},
		}}, policy.Activated{Of: gateway}),
		one(policy.TagsChanged{Of: gateway}),
		one(policy.TargetCreated{GatewayID: gateway.ID, ID: target.ID, Name: "RefundTarget", Definition: goldenLambda()}, policy.Activated{Of: target}),
		one(policy.TargetUpdateRequested{GatewayID: gateway.ID, ID: target.ID, Definition: goldenServer()}, policy.Activated{Of: target}),
		one(policy.TargetUpdateRequested{GatewayID: gateway.ID, ID: target.ID, Definition: goldenConnector()}, policy.Activated{Of: target}),
		one(policy.TagsChanged{Of: target, Tags: tags}),
		one(policy.PolicyCreated{EngineID: engine.ID, ID: limit.ID, Name: "limit", Tags: tags, Body: goldenBody(func(b *policy.Body) { b.Description = "All." })}),
		one(policy.Activated{Of: limit}),
		one(policy.PolicyUpdateRequested{EngineID: engine.ID, ID: limit.ID, Body: goldenBody(func(b *policy.Body) {
			b.Language, b.Statement, b.Enforcement, b.Validation = policy.LanguagePolicy, statement, policy.EnforcementLogOnly, policy.IgnoreAllFindings
			b.Resource = "arn:aws:bedrock-agentcore:us-east-1:111122223333:gateway/refund-gw-a1b2c3d4e5"
		})}),
		one(policy.Failed{Of: limit, Reasons: []string{"overly restrictive"}}),
		one(policy.TagsChanged{Of: limit, Tags: map[string]string{}}),
		one(policy.PolicyCreated{EngineID: engine.ID, ID: "waits-a1b2c3d4e5", Name: "waits", Body: goldenBody(func(*policy.Body) {})}),
		{"444455556666", []policy.Event{policy.AccountSettingsChanged{Account: "444455556666"}}},
		{"444455556666", []policy.Event{policy.EngineCreated{ID: "Refunds-b1b2c3d4e5", Name: "Refunds"}, policy.Activated{Of: policy.EngineRef("Refunds-b1b2c3d4e5")}}},
	}
	for _, create := range []policy.Event{
		policy.EngineCreated{ID: gone.ID, Name: "Gone"},
		policy.GatewayCreated{ID: goneGateway.ID, Name: "gone", Definition: policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone}},
		policy.TargetCreated{GatewayID: gateway.ID, ID: goneTarget.ID, Name: "gone", Definition: goldenLambda()},
		policy.PolicyCreated{EngineID: engine.ID, ID: gonePolicy.ID, Name: "gone", Body: goldenBody(func(*policy.Body) {})},
	} {
		steps = append(steps, failedAndGone(create)...)
	}
	return steps
}

// goldenChanges goes on after goldenHistory, and leaves a change that waits, with every kind of event that one carries.
func goldenChanges() []step {
	engine, gateway, limit := "Refunds-a1b2c3d4e5", "refund-gw-a1b2c3d4e5", "limit-a1b2c3d4e5"
	proposed := func(id string, events ...policy.Event) policy.ChangeProposed {
		basis := policy.Versioned{Of: events[0].Ref(), Version: 7}
		return policy.ChangeProposed{ID: id, Description: "In the way: “é”.", Weakens: "detach engine E from gateway g", Events: events, Basis: []policy.Versioned{basis}}
	}
	settings := policy.Settings{StrictForbids: new(false), OnStale: policy.OnStaleServe}
	detached := policy.GatewayUpdateRequested{ID: gateway, Definition: policy.GatewayDefinition{AuthorizerType: policy.AuthorizerIAM}}
	return []step{
		one(policy.AccountSettingsChanged{Account: goldenAccount, Settings: settings, SecondPerson: true}),
		one(proposed("a1b2c3d4e5", detached, policy.Activated{Of: detached.Ref()})),
		one(policy.ChangeApproved{ID: "a1b2c3d4e5"}, detached, policy.Activated{Of: detached.Ref()}),
		one(proposed("b1b2c3d4e5", policy.EngineSettingsChanged{ID: engine, Settings: settings})),
		one(policy.ChangeRejected{ID: "b1b2c3d4e5", Reason: "Not now: “é”."}),
		one(proposed("c1b2c3d4e5",
			policy.PolicyUpdateRequested{EngineID: engine, ID: limit, Body: goldenBody(func(b *policy.Body) { b.Enforcement = policy.EnforcementLogOnly })},
			policy.Activated{Of: policy.PolicyRef(engine, limit)}, policy.DeleteRequested{Of: policy.PolicyRef(engine, limit)}, policy.Deleted{Of: policy.PolicyRef(engine, limit)},
			policy.GatewayUpdateRequested{ID: gateway, Definition: goldenGateway()}, policy.EngineSettingsChanged{ID: engine, Settings: settings},
			policy.AccountSettingsChanged{Account: goldenAccount, Settings: settings},
		)),
	}
}

// goldenRecords are the events of both histories in their places, and the sealed ones; a hash is that of the sealed one.
func goldenRecords(t testing.TB) (records []policy.Recorded, sealed []*eventv1.PolicyEvent) {
	t.Helper()
	return recordsOf(t, append(goldenHistory(), goldenChanges()...))
}

func recordsOf(t testing.TB, history []step) (records []policy.Recorded, sealed []*eventv1.PolicyEvent) {
	t.Helper()
	s := policy.Empty()
	for n, step := range history {
		for i, ev := range step.events {
			r := s.Next(step.account, ev, 1_700_000_000_000_000+int64(s.Position)*1_000_003)
			r.Commits = i == len(step.events)-1
			r.EventID = fmt.Sprintf("018f0000-0000-7000-8000-%012d", r.Position)
			r.Cause = policy.Cause{
				Actor:     policy.Actor{Account: step.account, ID: "AKIAEXAMPLE", Method: "sigv4", SourceAddress: "2001:db8::1"},
				RequestID: fmt.Sprintf("request-%d", n),
			}
			if n%2 == 0 {
				r.Cause.ClientToken, r.Cause.RequestHash = fmt.Sprintf("token-%033d", n), sha256.Sum256([]byte(r.Cause.RequestID))
			}
			ev, err := Seal(r, goldenSigner)
			if err != nil {
				t.Fatal(err)
			}
			r.Hash = policy.Hash(ev.GetHash())
			if s, err = s.Apply(r); err != nil {
				t.Fatal(err)
			}
			records, sealed = append(records, r), append(sealed, ev)
		}
	}
	return records, sealed
}

// golden is the content of a file; with -update it is written when there is none.
func golden(t testing.TB, name string, missing func() []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *update {
		data = missing()
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return data
	}
	if err != nil {
		t.Fatalf("%v; write it with `go test ./internal/stream -run Golden -update`", err)
	}
	return data
}

func goldenName(typ string, version int) string { return fmt.Sprintf("%s.v%d.bin", typ, version) }

// wantRecord compares but for the tags, which are nil for none.
func wantRecord(t *testing.T, want, got policy.Recorded) {
	t.Helper()
	if e, ok := want.Event.(policy.TagsChanged); ok && len(e.Tags) == 0 {
		e.Tags = nil
		want.Event = e
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s at %d (-want +got):\n%s", want.Event.Type(), want.Position, diff)
	}
}

// Every golden file is read as what it says.
func TestGoldenEvents(t *testing.T) {
	t.Parallel()
	records, sealed := goldenRecords(t)
	done := map[string]bool{}
	for i, r := range records {
		typ := r.Event.Type()
		if done[typ] {
			continue
		}
		done[typ] = true
		data := golden(t, goldenName(typ, 1), func() []byte { return mustMarshal(t, sealed[i]) })
		var ev eventv1.PolicyEvent
		if err := proto.Unmarshal(data, &ev); err != nil {
			t.Fatal(err)
		}
		got, err := Open(&ev, goldenKeys())
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		want := r // of which the hash and what it hangs on are the file's: bytes, not meaning
		want.Hash, want.PrevHash = policy.Hash(ev.GetHash()), got.PrevHash
		wantRecord(t, want, got)
	}
}

// A type that can be read has a golden file, and there is no file of a type that cannot be read.
func TestGoldenOfEveryType(t *testing.T) {
	t.Parallel()
	if *update {
		t.Skip("the files are being written")
	}
	want := map[string]bool{"log.v1.bin": true, "state.v1.bin": true, "log.v2.bin": true, "state.v2.bin": true}
	for of := range changeDecoders {
		want[goldenName(of.name, int(of.version))] = true
	}
	for of := range decoders {
		if !strings.HasPrefix(of.name, ".") {
			want[goldenName(of.name, int(of.version))] = true
			continue
		}
		for kind := range shared {
			want[goldenName(string(kind)+of.name, int(of.version))] = true
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); !want[name] {
			t.Errorf("%s is of no type that is known", name)
		} else {
			delete(want, name)
		}
	}
	for name := range want {
		t.Errorf("there is no testdata/golden/%s", name)
	}
}

// The logs of the golden files amount to the states that they always did.
func TestGoldenLog(t *testing.T) {
	t.Parallel()
	for version, c := range map[string]struct {
		history []step
		digest  string
	}{
		"v1": {goldenHistory(), goldenDigest},
		"v2": {append(goldenHistory(), goldenChanges()...), goldenDigest2},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			testGoldenLog(t, version, c.history, c.digest)
		})
	}
}

func testGoldenLog(t *testing.T, version string, history []step, want string) {
	t.Helper()
	records, sealed := recordsOf(t, history)
	log := golden(t, "log."+version+".bin", func() []byte {
		var b bytes.Buffer
		for _, ev := range sealed {
			if _, err := protodelim.MarshalTo(&b, ev); err != nil {
				t.Fatal(err)
			}
		}
		return b.Bytes()
	})
	s := policy.Empty()
	for r := bytes.NewReader(log); ; {
		var ev eventv1.PolicyEvent
		err := protodelim.UnmarshalFrom(r, &ev)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		recorded, err := Open(&ev, goldenKeys())
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.Apply(recorded); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	if s.Position != uint64(len(records)) {
		t.Errorf("it ends at %d, want %d", s.Position, len(records))
	}
	data, err := EncodeState(s)
	if err != nil {
		t.Fatal(err)
	}
	if digest := sha256.Sum256(data); hex.EncodeToString(digest[:]) != want {
		t.Errorf("the digest of the state is %x", digest)
	}
	stored, err := DecodeState(golden(t, "state."+version+".bin", func() []byte { return data }))
	if err != nil {
		t.Fatal(err)
	}
	if err := stored.Verify(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(s.Parts(), stored.Parts()); diff != "" {
		t.Errorf("state.%s.bin is another state (-log +file):\n%s", version, diff)
	}
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
