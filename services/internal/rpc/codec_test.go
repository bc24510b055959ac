package rpc

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestStrictJSONRefuses(t *testing.T) {
	t.Parallel()
	c := codec{name: codecJSON, maxDepth: 10}
	for _, tt := range []struct{ name, in, want string }{
		{"unknown field", `{"nam":"x"}`, `line 1, column 2: unknown field "nam"`},
		{"unknown field within", `{"methods":[` + "\n" + `{"name":"a"},{"nope":1}]}`, `line 2, column 15: unknown field "nope"`},
		{"unknown enum value", `{"syntax":"SYNTAX_PROTO9"}`, `line 1, column 11: invalid value for enum field syntax: "SYNTAX_PROTO9"`},
		{"trailing object", `{} {}`, `line 1, column 4: syntax error: unexpected token {`},
		{"trailing comma", `{"name":"x",}`, `line 1, column 13: syntax error: unexpected token }`},
		{"repeated field", `{"name":"x","name":"y"}`, `line 1, column 13: duplicate field "name"`},
		{"both names of a field", `{"sourceContext":{},"source_context":{}}`, `line 1, column 21: duplicate field "source_context"`},
		{"wrong type", `{"name":1}`, `line 1, column 9: invalid value for string field name: 1`},
		{"no object", `[]`, `line 1, column 1: syntax error: unexpected token [`},
		{"cut off", `{"name":"x"`, `unexpected EOF`},
		{"not JSON", `name: x`, `line 1, column 1: syntax error: invalid value name`},
		{"nothing", ``, `the body is empty: send a JSON object, {} at least`},
		{"space", ` `, `syntax error: unexpected token`},
	} {
		err := c.Unmarshal([]byte(tt.in), new(apipb.Api))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "proto:") {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestErrorsOfJSONAreShortText(t *testing.T) {
	t.Parallel()
	c := codec{name: codecJSON, maxDepth: 10}
	for _, in := range []string{
		`{"` + strings.Repeat("x", 1<<20) + `":1}`,
		`{"name":` + strings.Repeat("[", 1<<20),
		"{\"na\xffme\":1}",
	} {
		err := c.Unmarshal([]byte(in), new(apipb.Api))
		if err == nil || len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") || !utf8.ValidString(err.Error()) {
			t.Errorf("%.400v", err)
		}
	}
}

func TestDepthOfJSON(t *testing.T) {
	t.Parallel()
	c := codec{name: codecJSON, maxDepth: 50}
	for _, brackets := range []string{"[]", "{}"} {
		for depth, ok := range map[int]bool{40: true, 60: false, 20_000: false, 2_000_000: false} {
			open := brackets[:1]
			if open == "{" {
				open = `{"a":`
			}
			in := `{"a":` + strings.Repeat(open, depth) + "1" + strings.Repeat(brackets[1:], depth) + "}"
			err := c.Unmarshal([]byte(in), new(structpb.Struct))
			if (err == nil) != ok {
				t.Errorf("%d of %s: %v", depth, brackets, err)
			}
			if err != nil && !strings.Contains(err.Error(), "nested deeper than the 50 levels") {
				t.Errorf("%d of %s: %v", depth, brackets, err)
			}
		}
	}
}

func TestWrittenJSONIsCompleteAndCompact(t *testing.T) {
	t.Parallel()
	c := codec{name: codecJSON, maxDepth: 10}
	got, err := c.MarshalAppend([]byte("before, "), &apipb.Method{Name: "a b, c"})
	if err != nil {
		t.Fatal(err)
	}
	want := `before, {"name":"a b, c","requestTypeUrl":"","requestStreaming":false,"responseTypeUrl":"",` +
		`"responseStreaming":false,"options":[],"syntax":"SYNTAX_PROTO2","edition":""}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// Absent messages stay absent.
	if got, err := c.Marshal(&apipb.Api{}); err != nil || bytes.Contains(got, []byte("sourceContext")) {
		t.Errorf("%s %v", got, err)
	}
	if _, err := c.Marshal("no message"); err == nil {
		t.Error("a string is not a message")
	}
	if err := c.Unmarshal([]byte("{}"), "no message"); err == nil {
		t.Error("a string is not a message")
	}
}

func TestSqueeze(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``:                             ``,
		`{"a": 1, "b": [1, 2]}`:        `{"a":1,"b":[1,2]}`,
		`{"a b": "c , d"}`:             `{"a b":"c , d"}`,
		`{"q": "\" , \\", "r": "x y"}`: `{"q":"\" , \\","r":"x y"}`,
		`["\\", " "]`:                  `["\\"," "]`,
	} {
		if got := string(squeeze([]byte(in))); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

// What this build of protojson does not do, another does: squeeze is right for both.
func FuzzSqueeze(f *testing.F) {
	f.Add([]byte(`{"a": ["x \" y", 1, {"b": null}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if !json.Valid(in) || bytes.ContainsAny(in, "\n\t\r") {
			return
		}
		var want bytes.Buffer
		if err := json.Compact(&want, in); err != nil {
			t.Fatal(err)
		}
		if got := squeeze(bytes.Clone(in)); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s became %s, want %s", in, got, want.Bytes())
		}
	})
}

// Whatever comes in, the codec neither panics nor accepts what it does not write again.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"x","methods":[{"name":"m","requestStreaming":true}],"sourceContext":{"fileName":"f"}}`,
		`{"a":[1,2.5e3,null,true,"x",{"b":[]}]}`, `{"a":1e999}`, `{"a":"\ud800"}`, `{"options":[{"name":"o","value":` +
			`{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}]}`, `[[[[`, `{"a":{"a":{"a":`, "\x00", `"`,
	} {
		f.Add([]byte(seed))
	}
	c := codec{name: codecJSON, maxDepth: DefaultMaxDepth}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, m := range []proto.Message{&apipb.Api{}, &structpb.Struct{}, &wrapperspb.Int64Value{}} {
			if err := c.Unmarshal(in, m); err != nil {
				if len(err.Error()) > 300 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				continue
			}
			out, err := c.Marshal(m)
			if err != nil {
				t.Fatalf("read but not written: %v", err)
			}
			again := m.ProtoReflect().New().Interface()
			if err := c.Unmarshal(out, again); err != nil {
				t.Fatalf("%s written but not read: %v", out, err)
			}
			if !proto.Equal(m, again) {
				t.Fatalf("%s and back is another message", out)
			}
		}
	})
}

// Connect reads what is too large to its end, to tell its size. Ours ends one byte behind the limit.
func TestGzipStopsBehindTheLimit(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := &boundedReader{most: 1001}
	for range 2 { // from a pool
		if err := r.Reset(bytes.NewReader(zipped.Bytes())); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != 1001 || !errors.Is(err, errExpands) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}
