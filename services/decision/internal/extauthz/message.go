package extauthz

import (
	"mime"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	extauthzv1 "github.com/verdict-io/verdict/proto/gen/verdict/extauthz/v1"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// message is one message of MCP.
type message struct {
	method    string         // "" for a client's answer
	id        jsontext.Value // as it was written; empty when there is none that can be echoed
	tool      string
	arguments jsontext.Value // as they were written; empty when there are none
}

const toolsCall = "tools/call"

func (m *message) callsTool() bool { return m.method == toolsCall }

// harmless are the methods of MCP, of all its versions, that call no tool. One that is not here is denied: it may be a way to call one.
var harmless = []string{
	"initialize", "server/discover", "ping", "tools/list", "prompts/list", "prompts/get", "resources/list", "resources/read",
	"resources/templates/list", "resources/subscribe", "resources/unsubscribe", "completion/complete", "logging/setLevel",
	"tasks/get", "tasks/result", "tasks/list", "tasks/cancel",
}

// notifications need no answer, and call nothing.
const notifications = "notifications/"

// members are those of JSON-RPC, and of the parameters of tools/call those that say what is called. What is behind Envoy may take a
// name in other letters for the same, as encoding/json of Go does, so that the same message would call something else.
var (
	members   = []string{"jsonrpc", "id", "method", "params", "result", "error"}
	toolCalls = []string{"name", "arguments", "_meta", "task", "inputResponses", "requestState"}
)

func refuse(reason, format string, args ...any) *rpc.Error {
	return rpc.Errorf(connect.CodeInvalidArgument, reason, format, args...)
}

// readMessage is the message that a request carries. With an error it is what is known of it, or nil.
func readMessage(r *extauthzv1.HttpRequest) (*message, error) {
	text, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	switch text.Kind() {
	case '{':
	case '[':
		return nil, refuse("batch", "several messages at once are not taken: send each by itself")
	default:
		return nil, refuse("json", "the body is no message of MCP: it has to be a JSON object")
	}
	var parts map[string]jsontext.Value
	if err := json.Unmarshal(text, &parts); err != nil {
		return nil, refuse("json", "the body is not the JSON it has to be: a message of MCP, each of whose members is there once")
	}
	for name := range parts {
		if !slices.Contains(members, name) {
			return nil, refuse("json", "the body is no message of JSON-RPC: it may have the members %s", strings.Join(members, ", "))
		}
	}
	m := &message{}
	if kind := parts["id"].Kind(); kind == '"' || kind == '0' {
		m.id = parts["id"]
	}
	return m, m.read(parts)
}

// read is an error for what may not pass.
func (m *message) read(parts map[string]jsontext.Value) error {
	if version := text(parts["jsonrpc"]); version != "2.0" {
		return refuse("json", "the body is no message of JSON-RPC 2.0: its member jsonrpc has to be \"2.0\"")
	}
	_, result := parts["result"]
	_, failure := parts["error"]
	given, asks := parts["method"]
	switch method := text(given); {
	case !asks && result != failure:
		return nil // the answer to something that the server asked
	case method == "" || result || failure:
		return refuse("json", "the body is no message of JSON-RPC: it has either a method, which is a string, or a result, or an error")
	case method == toolsCall:
		m.method = method
		return m.readCall(parts["params"])
	case !slices.Contains(harmless, method) && !strings.HasPrefix(method, notifications):
		return refuse("method", "there is no method %.60q that is known to call no tool", method)
	default:
		m.method = method
		return nil
	}
}

// readCall reads the parameters of a tool's call.
func (m *message) readCall(params jsontext.Value) error {
	var parts map[string]jsontext.Value
	if params.Kind() != '{' || json.Unmarshal(params, &parts) != nil {
		return refuse("params", "the params of tools/call have to be an object")
	}
	for name := range parts {
		if !slices.Contains(toolCalls, name) {
			return refuse("params", "the params of tools/call may have the members %s: another one could be taken for one of them", strings.Join(toolCalls, ", "))
		}
	}
	if m.tool = text(parts["name"]); m.tool == "" {
		return refuse("params", "the params of tools/call have to name the tool in name")
	}
	if given := parts["arguments"]; len(given) > 0 && given.Kind() != 'n' {
		m.arguments = given
	}
	return nil
}

// text is what a string says, "" for what is none.
func text(v jsontext.Value) string {
	if v.Kind() != '"' {
		return ""
	}
	out, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(out)
}

// bodyOf is the whole body of a request.
func bodyOf(r *extauthzv1.HttpRequest) (jsontext.Value, error) {
	raw, body := r.GetRawBody(), r.GetBody()
	switch partial := header(r, "x-envoy-auth-partial-body"); {
	case partial != "" && partial != "false":
		return nil, refuse("partial_body", "only a part of the body came, which may be another message than the whole: "+
			"raise max_request_bytes of with_request_body, and leave allow_partial_message out")
	case len(raw) > 0 && body != "":
		return nil, refuse("two_bodies", "the request came with two bodies")
	case len(raw) == 0 && body == "":
		return nil, refuse("no_body", "no body came: set with_request_body of Envoy's ext_authz. What has none in MCP, GET and DELETE, "+
			"goes past ext_authz on a route that disables it")
	}
	switch header(r, "content-encoding") {
	case "", "identity":
	default:
		return nil, refuse("content_encoding", "a body that is compressed is not read")
	}
	if !isUTF8JSON(header(r, "content-type")) {
		return nil, refuse("content_type", "the content type has to be application/json, in UTF-8: in another encoding the same bytes are another message")
	}
	if len(raw) > 0 {
		return raw, nil
	}
	return jsontext.Value(body), nil
}

// isUTF8JSON reports whether a body of this type is read here as every server reads it.
func isUTF8JSON(contentType string) bool {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/json" {
		return false
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// header is what the request has under a name, which is in lower case; several of a name are joined, as Envoy joins them.
func header(r *extauthzv1.HttpRequest, name string) string {
	var values []string
	for _, h := range r.GetHeaderMap().GetHeaders() {
		if strings.EqualFold(h.GetKey(), name) {
			values = append(values, h.GetValue()+string(h.GetRawValue()))
		}
	}
	if len(values) > 0 {
		return strings.Join(values, ",")
	}
	return r.GetHeaders()[name]
}
