package awsapi

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// Refused stands for a member of AgentCore's requests that Verdict would have to ignore: a request that has it is refused.
// null is an absent member, as everywhere.
type Refused struct{}

var errRefused = errors.New("refused")

// UnmarshalJSONFrom is part of json.UnmarshalerFrom.
func (*Refused) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil || v.Kind() == 'n' {
		return err
	}
	return errRefused
}

// decode reads the body of a request: one JSON object, whose members are all known, each once, spelled as the model spells
// them. No body is an object without members.
func decode[T any](a *API, r *request) (*T, error) {
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, a.cfg.MaxBody))
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, rpc.Errorf(connect.CodeResourceExhausted, "too_large", "the request has more than %d bytes", large.Limit)
	}
	if err != nil {
		return nil, rpc.Errorf(connect.CodeInvalidArgument, "unreadable", "the body of the request could not be read")
	}
	var in T
	if len(data) == 0 {
		return &in, nil
	}
	if err := json.Unmarshal(data, &in, json.RejectUnknownMembers(true)); err != nil {
		return nil, explain(err)
	}
	return &in, nil
}

// explain is what is wrong with the JSON of a request.
func explain(err error) error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return rpc.Errorf(connect.CodeInvalidArgument, "json", "the body is not the JSON it has to be: %s at byte %d", strings.TrimPrefix(syntax.Err.Error(), "jsontext: "), syntax.ByteOffset)
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return rpc.Errorf(connect.CodeInvalidArgument, "json", "the body is not the JSON it has to be: it ends too early")
	}
	at := memberPath(semantic.JSONPointer)
	switch {
	case errors.Is(semantic.Err, errRefused):
		return refuse(at, "Verdict does not act on %s: leave it out", at)
	case errors.Is(semantic.Err, errNull):
		return policy.Invalid("type", at, "a value in %s is null: give a string, which may be empty", at)
	case errors.Is(semantic.Err, json.ErrUnknownName):
		return policy.Invalid("unknown", at, "there is no member %s", at)
	}
	return policy.Invalid("type", at, "%s is not of the type it has to be: it is %s", orBody(at), kindNames[semantic.JSONKind])
}

func orBody(member string) string {
	if member == "" {
		return "the body"
	}
	return member
}

var kindNames = map[jsontext.Kind]string{'n': "null", 't': "a boolean", 'f': "a boolean", '"': "a string", '0': "a number out of place or range", '{': "an object", '[': "an array"}

// memberPath is a JSON Pointer as this API names members, cut where it is longer than a message should be.
func memberPath(p jsontext.Pointer) string {
	const most = 256
	var b strings.Builder
	for token := range p.Tokens() {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
		if b.Len() > most {
			return strings.ToValidUTF8(b.String()[:most], "") + "…"
		}
	}
	return b.String()
}

// token is the client token of a request that makes something.
type token struct {
	ClientToken *string `json:"clientToken,omitzero"`
}

func (t *token) take() *string {
	out := t.ClientToken
	t.ClientToken = nil
	return out
}

// tokenCall is call for a request with a client token, which it takes out of in: what is left is what the request asks for.
func (a *API) tokenCall(r *request, in interface{ take() *string }) (app.Call, error) {
	call := a.cfg.App.Call(r.Context())
	switch token := in.take(); {
	case token == nil:
		return call, nil
	case *token == "": // which app takes for none, and the caller for one
		return call, policy.Invalid("client_token", "clientToken", "clientToken must not be empty: leave it out, or send a UUID")
	default:
		call.ClientToken = *token
	}
	asked := sha256.New()
	fmt.Fprintf(asked, "%s %s\n", r.op.name, strings.TrimSuffix(r.URL.EscapedPath(), "/"))
	if err := json.MarshalWrite(asked, in, json.Deterministic(true)); err != nil {
		return call, err
	}
	asked.Sum(call.RequestHash[:0])
	return call, nil
}

// tagMap is tags by key. null is no value of a tag.
type tagMap map[string]string

// UnmarshalJSONFrom is part of json.UnmarshalerFrom.
func (m *tagMap) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var given map[string]*string
	if err := json.UnmarshalDecode(d, &given); err != nil || given == nil {
		return err
	}
	*m = make(tagMap, len(given))
	for key, value := range given {
		if value == nil {
			return errNull
		}
		(*m)[key] = *value
	}
	return nil
}

var errNull = errors.New("null")

// optional is a member of an update that may be absent, or be cleared.
type optional struct {
	Value string `json:"optionalValue,omitzero"`
}

func (o *optional) pointer() *string {
	if o == nil {
		return nil
	}
	return &o.Value
}

// timestamp is a time as the model wants it: RFC 3339 with milliseconds, in UTC.
func timestamp(us int64) string {
	return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// reasons is never nil: the model has the list always.
func reasons(given []string) []string {
	if given == nil {
		return []string{}
	}
	return given
}
