package snapshot_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

func TestParseJSONRefuses(t *testing.T) {
	for name, test := range map[string]struct{ text, message string }{
		"nothing":                   {"", "a value has to stand here"},
		"blanks":                    {" \n", "a value has to stand here"},
		"two values":                {"{} {}", "at byte 3, there is more"},
		"a word":                    {"nul", "a value has to stand here"},
		"a capital":                 {"True", "a value has to stand here"},
		"NaN":                       {"NaN", "a value has to stand here"},
		"no end of an object":       {`{"a": 1`, "a comma or '}'"},
		"no end of an array":        {`[1`, "a comma or ']'"},
		"no end of a string":        {`"a`, "no end"},
		"no name":                   {`{1: 2}`, "the name of a member"},
		"no colon":                  {`{"a" 1}`, "a colon"},
		"no value":                  {`{"a":}`, "a value has to stand here"},
		"comma at the end":          {`{"a":1,}`, "the name of a member"},
		"comma at the end of array": {`[1,]`, "a value has to stand here"},
		"duplicate":                 {`{"a":1,"b":2,"a":1}`, `two members "a"`},
		"duplicate by escape":       {`{"a":1,"\u0061":2}`, `two members "a"`},
		"deep duplicate":            {`{"x":[{"a":1,"a":2}]}`, `two members "a"`},
		"leading zero":              {`01`, "there is more"},
		"leading plus":              {`+1`, "a value has to stand here"},
		"no digit":                  {`-`, "a digit"},
		"no digit behind the point": {`1.`, "a digit"},
		"no digit in the exponent":  {`1e+`, "a digit"},
		"control character":         {"\"\n\"", "control character"},
		"NUL":                       {"\"\x00\"", "control character"},
		"unknown escape":            {`"\x"`, "no such escape"},
		"escape at the end":         {`"\`, "no such escape"},
		"short escape":              {`"\u12"`, "four hexadecimal digits"},
		"no hexadecimal":            {`"\u12g4"`, "four hexadecimal digits"},
		"signed hexadecimal":        {`"\u+123"`, "four hexadecimal digits"},
		"half a pair":               {`"\ud800"`, "surrogate"},
		"half a pair and a letter":  {`"\ud800\u0061"`, "surrogate"},
		"the other half":            {`"\udc00"`, "surrogate"},
		"invalid UTF-8":             {"\"a\xff\"", "at byte 2, the text is not valid UTF-8"},
		"surrogate in UTF-8":        {"\"\xed\xa0\x80\"", "not valid UTF-8"},
		"byte order mark":           {"\ufeff{}", "a value has to stand here"},
		"too deep":                  {strings.Repeat("[", snapshot.MaxDepth+1) + strings.Repeat("]", snapshot.MaxDepth+1), "nested more than 64 deep"},
		"too many":                  {"[" + strings.Repeat("0,", snapshot.MaxValues) + "0]", "more than 100000 values"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := snapshot.ParseJSON([]byte(test.text))
			wantRefusal(t, err, policy.ErrInvalid, "contextJson")
			if err != nil && !strings.Contains(err.Error(), test.message) {
				t.Errorf("got %v, want …%s…", err, test.message)
			}
			if v.Text() != "" {
				t.Errorf("got a value: %s", v.Text())
			}
		})
	}
}

func TestParseJSON(t *testing.T) {
	for text, want := range map[string]string{
		` null `: `null`, "true": "true", "false": "false", `""`: `""`, "[]": "[]", "{}": "{}", "\t[ ]\r\n": "[]", "{ }": "{}",
		`-0`: `-0`, `1.50e+3`: `1.50e+3`, `123456789012345678901234567890`: `123456789012345678901234567890`,
		`"\"\\\/\b\f\n\r\tä\u00e4\ud83d\ude00😀\u0000"`: `"\"\\/\u0008\u000c\u000a\u000d\u0009ää😀😀\u0000"`,
		`{"b":[1,{"d":null,"c":"x"}],"a":true}`:        `{"a":true,"b":[1,{"c":"x","d":null}]}`,
		`"a\u0062c"`:                                   `"abc"`,
		strings.Repeat("[", snapshot.MaxDepth) + strings.Repeat("]", snapshot.MaxDepth): strings.Repeat("[", snapshot.MaxDepth) + strings.Repeat("]", snapshot.MaxDepth),
	} {
		v, err := snapshot.ParseJSON([]byte(text))
		if err != nil || v.Text() != want {
			t.Errorf("%s: got %s, %v; want %s", text, v.Text(), err, want)
		}
	}
}

// ParseJSON accepts no more than encoding/json does, and reads the same.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{
		`{"input":{"a":[1,-2.5e-3,"x\ud83d\ude00"],"b":null,"c":true}}`, `{"a":1,"a":2}`, `"\ud800"`, "\"\xff\"", `[[[[]]]]`, `01`, ` 1 `, `{"a":{"a":1}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := snapshot.ParseJSON(text)
		if err != nil {
			wantRefusal(t, err, policy.ErrInvalid, "contextJson")
			return
		}
		if !json.Valid(text) {
			t.Fatalf("accepted %q", text)
		}
		again, err := snapshot.ParseJSON([]byte(v.Text()))
		if err != nil || again.Text() != v.Text() {
			t.Fatalf("%q became %s, and that %s, %v", text, v.Text(), again.Text(), err)
		}
		var want, got any
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.UseNumber()
		if err := decoder.Decode(&want); err != nil {
			t.Fatal(err)
		}
		decoder = json.NewDecoder(strings.NewReader(v.Text()))
		decoder.UseNumber()
		if err := decoder.Decode(&got); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if string(a) != string(b) {
			t.Fatalf("%q: encoding/json reads %s, ParseJSON %s", text, a, b)
		}
	})
}
