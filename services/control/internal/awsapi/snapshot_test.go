package awsapi

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// snapshots are the golden files of the SDK's module in a folder, by name without its ending.
func snapshots(t *testing.T, folder, ending string) map[string][]byte {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), folder, "*"+ending))
	if err != nil || len(files) == 0 {
		t.Fatalf("no snapshots: %v", err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		if out[strings.TrimSuffix(filepath.Base(file), ending)], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Every request that the SDK can send, with all its members, reaches its operation by its method and path. Those that Verdict
// offers are decoded when the members are taken out that it refuses, one after the other, by name.
func TestRequestSnapshots(t *testing.T) {
	routes := route(func(*operation) http.Handler { return http.NotFoundHandler() })
	decoded, without := 0, 0
	all := snapshots(t, "request_snapshot", ".request.snap")
	if len(all) != len(operations) {
		t.Errorf("%d snapshots, %d operations", len(all), len(operations))
	}
	for _, op := range operations {
		head, body, _ := bytes.Cut(all[op.name], []byte("\n\n"))
		method, target, _ := strings.Cut(strings.SplitN(string(head), "\n", 2)[0], " ")
		r := httptest.NewRequest(method, target, http.NoBody)
		if _, pattern := routes.Handler(r); strings.TrimSuffix(pattern, "{$}") != op.method+" "+op.path {
			t.Errorf("%s: %s %s is taken for %q", op.name, method, target, pattern)
		}
		in, offers := inputs[op.name]
		if !offers {
			continue
		}
		body = body[bytes.IndexByte(body, '{'):]
		without += len(strip(t, op.name, body, in.value, "not_offered"))
		decoded++
	}
	t.Logf("%d requests routed, %d bodies decoded, from which %d members were taken that are refused", len(all), decoded, without)
}

// strip takes the members out of a body that its type refuses for the given reasons, until it is decoded, and returns them.
func strip(t *testing.T, name string, body []byte, value any, reasons ...string) []string {
	t.Helper()
	var taken []string
	for range 100 {
		out := reflect.New(reflect.TypeOf(value))
		err := json.Unmarshal(body, out.Interface(), json.RejectUnknownMembers(true))
		if err == nil {
			again, err := json.Marshal(out.Interface(), json.Deterministic(true))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tree(t, body), tree(t, again)); diff != "" {
				t.Errorf("%s: decoded and encoded again: %s", name, diff)
			}
			return taken
		}
		var refused *rpc.Error
		e := explain(err)
		if !errors.As(e, &refused) {
			refused = &rpc.Error{Reason: "unknown", Field: fieldOf(e)}
		}
		if !slices.Contains(reasons, refused.Reason) || refused.Field == "" {
			t.Errorf("%s: %v", name, e)
			return taken
		}
		taken = append(taken, refused.Field)
		whole := tree(t, body)
		remove(whole, strings.Split(refused.Field, "."))
		if body, err = json.Marshal(whole, json.Deterministic(true)); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%s: there is no end to what is refused", name)
	return taken
}

func tree(t *testing.T, body []byte) any {
	t.Helper()
	var out any
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatal(err)
	}
	return prune(out)
}

// prune takes out what is empty: a union whose member was refused is left without one, which no request is.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member = prune(member); member == nil {
				delete(v, name)
			} else {
				v[name] = member
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		kept := v[:0]
		for _, item := range v {
			if item = prune(item); item != nil {
				kept = append(kept, item)
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	}
	return v
}

// remove takes a member out of v, and of all items of a list on the way.
func remove(v any, path []string) {
	switch v := v.(type) {
	case map[string]any:
		if len(path) == 1 {
			delete(v, path[0])
			return
		}
		remove(v[path[0]], path[1:])
	case []any:
		for _, item := range v {
			remove(item, path[1:])
		}
	}
}

// Every golden answer of an operation that Verdict offers is one that it could give, but for the members that it never has.
func TestResponseSnapshots(t *testing.T) {
	all := snapshots(t, "response_snapshot", ".response.snap")
	missing := map[string]bool{}
	for name, out := range outputs {
		_, body := answered(t, all[name]) // the status is 200 in all of them
		for _, member := range strip(t, name, body, out.value, "not_offered", "unknown") {
			missing[member[strings.LastIndexByte(member, '.')+1:]] = true
		}
	}
	known := append(slices.Clone(never), "openApiSchema", // the variant of a union that the snapshots show
		"credentialProvider", "allowedWorkloadConfiguration", "privateEndpointOverrides")
	for name := range missing {
		if !slices.Contains(known, name) {
			t.Errorf("no answer of Verdict has %s", name)
		}
	}
	t.Logf("%d answers; members that are never there: %s", len(outputs), strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
}

func answered(t *testing.T, snapshot []byte) (status string, body []byte) {
	t.Helper()
	head, rest, ok := bytes.Cut(snapshot, []byte("\n"))
	at := bytes.IndexByte(rest, '{')
	if !ok || at < 0 {
		t.Fatalf("not a snapshot: %q", snapshot)
	}
	return string(head), rest[at:]
}

// Every limit of an account is a quota, whatever it is called; what passes with time is not.
func TestLimitsAreQuotas(t *testing.T) {
	for reason, want := range map[string]class{
		"quota": quota, "tag_count": quota, "policy_bytes": quota, "schema_bytes": quota, "too_large": validation,
		"throttled": throttling, connect.CodeResourceExhausted.String(): throttling,
	} {
		if got := classOf(&rpc.Error{Code: connect.CodeResourceExhausted, Reason: reason}); got != want {
			t.Errorf("%s is %s, want %s", reason, got.name, want.name)
		}
	}
}

// Each class of errors has the status of the model, and its body the model's members.
func TestErrorSnapshots(t *testing.T) {
	all := snapshots(t, "response_snapshot", ".error.snap")
	for _, e := range []*rpc.Error{
		{Code: connect.CodeInvalidArgument, Field: "name"},
		{Code: connect.CodeUnauthenticated},
		{Code: connect.CodePermissionDenied},
		{Code: connect.CodeNotFound},
		{Code: connect.CodeAlreadyExists},
		{Code: connect.CodeResourceExhausted, Reason: "quota"},
		{Code: connect.CodeResourceExhausted, Reason: "throttled"},
		{Code: connect.CodeInternal},
	} {
		w := httptest.NewRecorder()
		(*API)(nil).Refuse(w, e)
		name := w.Header().Get("X-Amzn-Errortype")
		snapshot, ok := all[name]
		if !ok {
			t.Errorf("%v: the model has no %q", e.Code, name)
			continue
		}
		status, golden := answered(t, snapshot)
		if status != strconv.Itoa(w.Code) {
			t.Errorf("%s: %d, want %s", name, w.Code, status)
		}
		want, got := tree(t, golden).(map[string]any), tree(t, w.Body.Bytes()).(map[string]any)
		for member := range want {
			if _, has := got[member]; !has {
				t.Errorf("%s: no member %s: %s", name, member, w.Body)
			}
		}
		if got["__type"] != want["__type"] {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}

func fieldOf(err error) string {
	if e, ok := errors.AsType[*policy.Error](err); ok {
		return e.Field
	}
	return ""
}
