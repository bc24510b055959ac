package identity_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/verdict-io/verdict/services/internal/identity"
)

func TestCallersFileRefused(t *testing.T) {
	key := func(before, after string) string {
		return `{"accessKeys": [` + strings.Replace(`{"accessKeyId": "dev", "secretAccessKey": "s3cr3t", "account": "123456789012", "id": "dev", "roles": ["admin"]}`, before, after, 1) + `]}`
	}
	cert := func(subject string) string {
		return `{"certificates": [{"subject": ` + subject + `, "account": "123456789012", "id": "x", "roles": ["admin"]}]}`
	}
	issuer := func(before, after string) string {
		return `{"issuers": [` + strings.Replace(`{"issuer": "https://login.example", "audiences": ["verdict"], "jwksUrl": "https://login.example/keys",
			"rules": [{"claims": {"a": "b"}, "account": "123456789012", "roles": ["admin"]}]}`, before, after, 1) + `]}`
	}
	for name, tt := range map[string]struct{ text, says string }{
		"empty":                      {"", "line 1, column 1: the JSON ends too early"},
		"no JSON":                    {"accessKeys: []", "line 1, column 2: this is not JSON"},
		"cut off":                    {"{\n\"accessKeys\": [", "line 2, column 16: the JSON ends too early"},
		"comma too many":             {"{\n  \"accessKeys\": [],\n}", "line 3, column 1: this is not JSON"},
		"something behind":           {"{}\n{}", "behind the JSON"},
		"an array":                   {"[]", "must be an object"},
		"unknown section":            {`{"keys": []}`, `unknown field "keys"`},
		"unknown field":              {key(`"roles"`, `"role"`), `unknown field "role"`},
		"field twice":                {key(`"id": "dev"`, `"id": "dev", "id": "root"`), `field "id" is there twice`},
		"field twice, in other case": {key(`"roles"`, `"Roles": ["viewer"], "roles"`), `field "roles" is there twice`},
		"section twice":              {`{"accessKeys": [], "accessKeys": []}`, `field "accessKeys" is there twice`},
		"wrong kind":                 {key(`["admin"]`, `"admin"`), `must be an array`},
		"secret of a wrong kind":     {key(`"s3cr3t"`, `31415926`), `must be a string`},
		"no key id":                  {key(`"dev"`, `""`), "accessKeyId must be"},
		"key id with a slash":        {key(`"dev"`, `"a/b"`), "accessKeyId must be"},
		"no secret":                  {key(`"s3cr3t"`, `""`), "secretAccessKey of dev is missing"},
		"no id":                      {key(`"id": "dev"`, `"id": ""`), "id must be"},
		"ARN of another account":     {key(`"id": "dev"`, `"id": "arn:aws:iam::210987654321:user/dev"`), "is none of account 123456789012"},
		"ARN of no account":          {key(`"id": "dev"`, `"id": "arn:aws:iam:::user/dev"`), "is none of account 123456789012"},
		"half an ARN":                {key(`"id": "dev"`, `"id": "arn:aws"`), "is none of account 123456789012"},
		"id with a line's end":       {key(`"id": "dev"`, `"id": "a\nb"`), "id must be"},
		"no account":                 {key(`"123456789012"`, `""`), "12 digits"},
		"short account":              {key(`"123456789012"`, `"12345"`), "12 digits"},
		"no roles":                   {key(`["admin"]`, `[]`), "roles of \"dev\" are missing"},
		"unknown role":               {key(`["admin"]`, `["root"]`), "\"root\" is none of viewer, author, enforcer, gateway, agent, auditor, node, admin"},
		"every role":                 {key(`["admin"]`, `["*"]`), "is none of"},
		"role twice":                 {key(`["admin"]`, `["admin", "admin"]`), "admin is there twice"},
		"key twice":                  {strings.Replace(twoKeys, `"other"`, `"dev"`, 1), "accessKeys[1]: accessKeyId dev is there twice"},
		"no subject":                 {cert(`""`), "neither a URI"},
		"subject with a wildcard":    {cert(`"*.example"`), "neither a URI"},
		"subject that is an address": {cert(`"10.0.0.1"`), "neither a URI"},
		"subject of another form":    {cert(`"O=Example"`), "neither a URI"},
		"empty common name":          {cert(`"CN="`), "no name behind"},
		"subject twice": {`{"certificates": [
			{"subject": "a.example", "account": "123456789012", "id": "x", "roles": ["admin"]},
			{"subject": "A.example", "account": "123456789012", "id": "y", "roles": ["admin"]}]}`, "certificates[1]: subject \"A.example\" is there twice"},
		"issuer by http":          {issuer("https://login.example\",", "http://login.example\","), "must begin with https"},
		"issuer with a query":     {issuer("https://login.example\",", "https://login.example?x=1\","), "not a URL"},
		"no issuer":               {issuer("https://login.example\",", "\","), "not a URL"},
		"keys by http":            {issuer("https://login.example/keys", "http://login.example/keys"), "must begin with https"},
		"no audience":             {issuer(`["verdict"]`, `[]`), "audiences of issuer"},
		"empty audience":          {issuer(`["verdict"]`, `[""]`), "audiences of issuer"},
		"no rule":                 {issuer(`{"claims": {"a": "b"}, "account": "123456789012", "roles": ["admin"]}`, ``), "rules of issuer"},
		"rule without claims":     {issuer(`"claims": {"a": "b"}, `, ``), "claims are missing"},
		"rule with claims null":   {issuer(`{"a": "b"}`, `null`), "claims are missing"},
		"claim that is null":      {issuer(`"b"`, `null`), "issuers.rules.claims"},
		"claim that is empty":     {issuer(`"b"`, `[]`), "must be a string, number or boolean"},
		"claim in an array":       {issuer(`"b"`, `[["b"]]`), "must be a string, number or boolean"},
		"rule with unknown role":  {issuer(`["admin"]`, `["root"]`), "rules[0]: roles of"},
		"rule without an account": {issuer(`"123456789012"`, `""`), "rules[0]: account of"},
		"ca that is not there":    {issuer(`"audiences"`, `"caFile": "no.pem", "audiences"`), "no.pem"},
		"huge":                    {`{"accessKeys": [` + strings.Repeat(" ", 1<<20) + `]}`, "larger than"},
	} {
		_, err := identity.New(identity.Config{CallersFile: write(t, "callers.json", tt.text)})
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "callers.json") && !strings.Contains(err.Error(), "no.pem") {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.says)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "31415926")) {
			t.Errorf("%s: %v gives a secret away", name, err)
		}
	}
	if _, err := identity.New(identity.Config{CallersFile: filepath.Join(t.TempDir(), "gone.json")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestReload(t *testing.T) {
	path := write(t, "callers.json", twoKeys)
	auth, err := identity.New(identity.Config{CallersFile: path})
	if err != nil {
		t.Fatal(err)
	}
	auth.SetClock(func() time.Time { return noon })
	is := func(secret, want string) {
		t.Helper()
		caller, err := auth.Authenticate(sign(t, post("{}"), "{}", signing{secret: secret}))
		if caller.ID != want {
			t.Errorf("with secret %s: caller %q, error %v, want %q", secret, caller.ID, err, want)
		}
	}
	is("s3cr3t", "dev@example")
	put := func(text string) error {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return auth.Reload()
	}
	if err := put("{"); err == nil {
		t.Error("half a file was taken")
	}
	is("s3cr3t", "dev@example")
	if err := put(strings.Replace(twoKeys, "s3cr3t", "new", 1)); err != nil {
		t.Fatal(err)
	}
	is("new", "dev@example")
	is("s3cr3t", "")
	if err := put("{}"); err != nil {
		t.Fatal(err)
	}
	is("new", "")
}

func TestNobody(t *testing.T) {
	for name, cfg := range map[string]identity.Config{
		"nothing configured": {}, "an empty file": {CallersFile: write(t, "callers.json", "{}")},
	} {
		auth, err := identity.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
		r.RemoteAddr = "127.0.0.1:5000"
		if _, err := auth.Authenticate(r); !errors.Is(err, identity.ErrUnauthenticated) || !strings.Contains(err.Error(), "recognises no callers") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCounters(t *testing.T) {
	registry := prometheus.NewRegistry()
	cfg := identity.Config{LoopbackAccount: "000000000000", CallersFile: write(t, "callers.json", twoKeys), Registerer: registry}
	auth, err := identity.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	auth.SetClock(func() time.Time { return noon })
	good, err := auth.Authenticate(sign(t, post(""), "", signing{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(auth.Once(good), auth.Once(good)); err == nil {
		t.Error("a signature was taken twice")
	}
	for _, r := range []*http.Request{
		sign(t, post(""), "", signing{secret: "guess"}), sign(t, post(""), "", signing{id: "nobody"}), post(""), withToken("x"),
	} {
		if _, err := auth.Authenticate(r); err == nil {
			t.Error("taken")
		}
	}
	want := `
# HELP verdict_identity_signatures_refused_total Signatures of changes that were refused because they had been taken before, or could not be told from such.
# TYPE verdict_identity_signatures_refused_total counter
verdict_identity_signatures_refused_total{reason="repeated"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "verdict_identity_signatures_refused_total"); err != nil {
		t.Error(err)
	}
	counts := map[string]float64{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "verdict_identity_authentications_total" {
			for _, m := range family.GetMetric() {
				counts[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	for label, n := range map[string]float64{
		"sigv4 accepted": 1, "sigv4 unauthenticated": 2, "loopback unauthenticated": 1, "oidc unauthenticated": 1, "mtls accepted": 0,
	} {
		if counts[label] != n {
			t.Errorf("%s: %v, want %v", label, counts[label], n)
		}
	}
	if _, err := identity.New(cfg); err == nil {
		t.Error("two in one registry")
	}
}

// Whatever the file is, New answers; what it takes it takes again, and nothing of the file's secrets is in its errors.
func FuzzCallersFile(f *testing.F) {
	for _, seed := range []string{
		twoKeys, certificates, "{}", "", "[", `{"issuers": [{"issuer": "https://login.example", "audiences": ["verdict"],
		"rules": [{"claims": {"a": ["b", 1, true], "c": {"d": "e"}}, "account": "123456789012", "roles": ["admin"]}]}]}`,
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "callers.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		auth, err := identity.New(identity.Config{CallersFile: path})
		if err != nil {
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%v gives a secret away", err)
			}
			return
		}
		if err := auth.Reload(); err != nil {
			t.Errorf("taken once, and then: %v", err)
		}
	})
}
