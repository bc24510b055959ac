package access_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
)

// operations are those of AgentCore's API that are no procedures, and Envoy's procedure.
var operations = []string{
	"GetPolicyEngineSummary", "ListPolicyEngineSummaries", "GetPolicySummary", "ListPolicySummaries", "StartPolicyGeneration",
	"GetPolicyGeneration", "ListPolicyGenerations", "ListPolicyGenerationAssets", "GetPolicyGenerationSummary",
	"ListPolicyGenerationSummaries", "SynchronizeGatewayTargets", "PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy",
	"Check",
}

// procedures are those of all services, as their descriptors have them.
func procedures() []string {
	var out []string
	for _, file := range []protoreflect.FileDescriptor{
		controlv1.File_verdict_control_v1_control_service_proto, eventv1.File_verdict_event_v1_event_service_proto,
		decisionv1.File_verdict_decision_v1_decision_service_proto, auditv1.File_verdict_audit_v1_audit_service_proto,
	} {
		services := file.Services()
		for i := range services.Len() {
			methods := services.Get(i).Methods()
			for j := range methods.Len() {
				out = append(out, string(methods.Get(j).Name()))
			}
		}
	}
	return out
}

func caller(roles ...string) identity.Caller {
	return identity.Caller{Account: "111111111111", ID: "u-1", Roles: roles, Method: "sigv4", SourceAddress: "10.1.2.3"}
}

// Every procedure that there is has a place in this table: a new one is refused to everybody until it has one.
func TestRoles(t *testing.T) {
	t.Parallel()
	rules, err := access.New("")
	if err != nil {
		t.Fatal(err)
	}
	const weakeners, readers, writers, deciders, auditors = "enforcer admin", "viewer author enforcer auditor admin", "author enforcer admin", "gateway admin", "auditor admin"
	may := map[string]string{
		access.Weaken: weakeners, "ProposeChange": weakeners, "ApproveChange": weakeners, "RejectChange": weakeners,
		"Authorize": deciders, "BatchAuthorize": deciders, "ListPermittedActions": deciders, "Check": deciders,
		"Query": auditors, "GetDecision": auditors, "Tail": auditors, "Completeness": "admin",
		"WaitForRevision": readers, "Propagation": "admin",
		access.Invoke: "agent admin",
		"ReadEvents":  "node", "Head": "node", "ReadState": "node",
	}
	names := procedures()
	if len(names) < 35 {
		t.Fatalf("only %d procedures", len(names))
	}
	slices.Sort(names)
	if unique := slices.Compact(slices.Clone(names)); len(unique) != len(names) {
		t.Fatal("two services have a procedure of the same name: an action is known by it alone")
	}
	for _, name := range slices.Concat(names, operations, []string{access.Weaken, access.Invoke}) {
		want, special := may[name]
		if !special {
			want = writers
			if strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") {
				want = readers
			}
		}
		for _, role := range []string{"viewer", "author", "enforcer", "gateway", "agent", "auditor", "node", "admin", ""} {
			allowed := rules.Allows(caller(role), name)
			if allowed != slices.Contains(strings.Fields(want), role) {
				t.Errorf("%s as %q: %v, want %q", name, role, allowed, want)
			}
			if err := rules.Check(caller(role), name); allowed != (err == nil) || err != nil && !errors.Is(err, access.ErrForbidden) {
				t.Errorf("%s as %q: %v, %v", name, role, allowed, err)
			}
		}
		if !rules.Allows(caller(identity.RoleAny), name) {
			t.Errorf("%s as all roles is refused", name)
		}
		if changes := want == writers || want == weakeners; rules.Changes(name) != changes {
			t.Errorf("%s changes something: %v", name, !changes)
		}
	}
	if rules.Allows(caller(identity.RoleAny), "Unheard") {
		t.Error("an action that nobody has heard of is allowed")
	}
}

// The text says which roles would do.
func TestCheckSays(t *testing.T) {
	t.Parallel()
	rules, err := access.New("")
	if err != nil {
		t.Fatal(err)
	}
	for text, err := range map[string]error{
		"forbidden: u-1 has the role viewer, and CreatePolicy takes the role author or enforcer or admin": rules.Check(caller("viewer"), "CreatePolicy"),
		"forbidden: u-1 has no role, and Head takes the role node":                                        rules.Check(caller(), "Head"),
		"forbidden: no rule lets u-1, which has the role node, do Unheard":                                rules.Check(caller("node"), "Unheard"),
	} {
		if err == nil || err.Error() != text {
			t.Errorf("%v, want %s", err, text)
		}
	}
}

// An operator's rules take the place of the product's, see where a caller comes from, and stay in force when what the file has
// become is wrong.
func TestOperatorsRules(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.cedar")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := access.New(file); err == nil {
		t.Error("a file that is not there")
	}
	write(`@id("near") permit (principal, action in Verdict::Action::"read", resource == Verdict::Account::"111111111111")
		when { context has sourceAddress && context.sourceAddress.isInRange(ip("10.0.0.0/8")) && principal.method == "sigv4" };
		@id("never") forbid (principal, action == Verdict::Action::"GetGateway", resource) when { principal.id == "u-1" };`)
	rules, err := access.New(file)
	if err != nil {
		t.Fatal(err)
	}
	wantNear := func() {
		t.Helper()
		far, elsewhere, nowhere, token := caller(), caller(), caller(), caller()
		far.SourceAddress, elsewhere.Account, nowhere.SourceAddress, token.Method = "192.0.2.1", "222222222222", "", "oidc"
		for name, got := range map[string]bool{
			"near": rules.Allows(caller(), "GetPolicy"), "far": !rules.Allows(far, "GetPolicy"), "another account": !rules.Allows(elsewhere, "GetPolicy"),
			"without an address": !rules.Allows(nowhere, "GetPolicy"), "another method": !rules.Allows(token, "GetPolicy"),
			"a group that no rule permits": !rules.Allows(caller("admin"), "CreatePolicy"), "forbidden": !rules.Allows(caller("admin"), "GetGateway"),
		} {
			if !got {
				t.Error(name)
			}
		}
	}
	wantNear()
	for says, text := range map[string]string{
		"Role":                  `@id("a") permit (principal, action, resource) when { principal has id && principal in Verdict::Role::"auhtor" };`,
		`no Verdict::Role::"x"`: `@id("a") permit (principal in Verdict::Role::"x", action, resource);`,
		"GetPolice":             `@id("a") permit (principal, action == Verdict::Action::"GetPolice", resource);`,
		"claims":                `@id("a") permit (principal, action, resource) when { principal.claims == "x" };`,
		"has no name":           `permit (principal, action, resource);`,
		`two policies`:          `@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);`,
		"parse error":           `permit (`,
		"bytes of policies":     strings.Repeat("//\n", 1<<19),
		"no such file":          "",
	} {
		if write(text); text == "" {
			_ = os.Remove(file)
		}
		if err := rules.Reload(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
		wantNear()
	}
	write(`@id("all") permit (principal, action, resource);`)
	if err := rules.Reload(); err != nil || !rules.Allows(caller(), "CreatePolicy") {
		t.Errorf("%v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	rules, err := access.New("")
	if err != nil {
		b.Fatal(err)
	}
	c := caller("gateway")
	for b.Loop() {
		if err := rules.Check(c, "Authorize"); err != nil {
			b.Fatal(err)
		}
	}
}
