package extauthz

import (
	"encoding/json"
	"testing"

	extauthzv1 "github.com/verdict-io/verdict/proto/gen/verdict/extauthz/v1"
	"github.com/verdict-io/verdict/services/snapshot"
)

// Whatever a body is: what passes for calling no tool calls none for Go's encoding/json either, which takes the last of two members, and
// any letters for their names; and what calls a tool calls the same one for it, with arguments that the node can read or refuses.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"t","arguments":{"a":1}}}`,
		`{"jsonrpc":"2.0","method":"ping","Method":"tools/call"}`, `{"jsonrpc":"2.0","method":"ping","method":"tools/call"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","NAME":"u","_meta":{}}}`, `{"jsonrpc":"2.0","id":1,"result":{}}`,
		`{"jsonrpc":"2.0","method":"tools\/call","params":{"name":"\u0074"}}`, `{"jsonrpc":"2.0","id":null,"method":"notifications/x","params":null}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		m, err := readMessage(&extauthzv1.HttpRequest{Body: body})
		if err != nil {
			if err.Error() == "" {
				t.Fatalf("%q is refused without a word", body)
			}
			return
		}
		var theirs struct {
			Method string
			Params json.RawMessage
		}
		if err := json.Unmarshal([]byte(body), &theirs); err != nil {
			return // no server that reads so does anything
		}
		if m.callsTool() != (theirs.Method == toolsCall) {
			t.Fatalf("%q is taken for %q, and for %q", body, m.method, theirs.Method)
		}
		if !m.callsTool() {
			return
		}
		var call struct {
			Name      string
			Arguments json.RawMessage
		}
		if err := json.Unmarshal(theirs.Params, &call); err == nil && (call.Name != m.tool || string(call.Arguments) != string(m.arguments) && string(call.Arguments) != "null") {
			t.Fatalf("%q calls %q with %s, and %q with %s", body, m.tool, m.arguments, call.Name, call.Arguments)
		}
		if len(m.arguments) > 0 {
			_, _ = snapshot.ParseJSON(m.arguments)
		}
	})
}
