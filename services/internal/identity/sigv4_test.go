package identity_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/verdict-io/verdict/services/internal/identity"
)

const twoKeys = `{"accessKeys": [
	{"accessKeyId": "dev", "secretAccessKey": "s3cr3t", "account": "123456789012", "id": "dev@example", "roles": ["author", "viewer"]},
	{"accessKeyId": "other", "secretAccessKey": "0th3r", "account": "222222222222", "id": "other", "roles": ["viewer"]}]}`

// write is a file in a folder of the test.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// knows is an Authenticator for the callers of the text.
func knows(t testing.TB, callers string) *identity.Authenticator {
	t.Helper()
	auth, err := identity.New(identity.Config{CallersFile: write(t, "callers.json", callers)})
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// clock is one that stands still until it is set.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// signing is what a request is signed with; the zero value's fields have the defaults of sign.
type signing struct {
	id, secret, service, region, hash string
	at                                time.Time
}

// sign signs with AWS's signer.
func sign(t testing.TB, r *http.Request, body string, s signing) *http.Request {
	t.Helper()
	def := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	sum := sha256.Sum256([]byte(body))
	def(&s.id, "dev")
	def(&s.secret, "s3cr3t")
	def(&s.service, "bedrock-agentcore")
	def(&s.region, "us-east-1")
	def(&s.hash, hex.EncodeToString(sum[:]))
	if s.at.IsZero() {
		s.at = noon
	}
	credentials := aws.Credentials{AccessKeyID: s.id, SecretAccessKey: s.secret}
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, s.hash, s.service, s.region, s.at); err != nil {
		t.Fatal(err)
	}
	return r
}

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://verdict.example/verdict.control.v1.ControlService/Get?b=2&a=1&a=0&c", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr = "10.1.2.3:4567"
	return r
}

func TestSignature(t *testing.T) {
	auth := knows(t, twoKeys)
	auth.SetClock(func() time.Time { return noon })
	r := sign(t, post(`{"x":1}`), `{"x":1}`, signing{})
	got, err := auth.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	want := identity.Caller{
		Account: "123456789012", ID: "dev@example", Roles: []string{"author", "viewer"}, Method: "sigv4", SourceAddress: "10.1.2.3",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(identity.Caller{})); diff != "" {
		t.Error(diff)
	}
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"x":1}` {
		t.Errorf("the body afterwards: %q, %v", body, err)
	}
}

// wrongSignature is the text for everything that must not be told apart.
const wrongSignature = "the signature is not right"

// edit changes the Authorization header.
func edit(before, after string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), before, after, 1))
	}
}

func TestSignatureRefused(t *testing.T) {
	const body = `{"x":1}`
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, tt := range []struct {
		name   string
		s      signing
		before func(*http.Request) // signing
		after  func(*http.Request)
		says   string
	}{
		{name: "wrong secret", s: signing{secret: "guess"}, says: wrongSignature},
		{name: "unknown key", s: signing{id: "nobody"}, says: wrongSignature},
		{name: "another's key", s: signing{id: "other"}, says: wrongSignature},
		{name: "key id changed", after: edit("=dev/", "=other/"), says: wrongSignature},
		{name: "forged", after: func(r *http.Request) {
			h := r.Header.Get("Authorization")
			r.Header.Set("Authorization", h[:len(h)-64]+strings.Repeat("0", 64))
		}, says: wrongSignature},
		{name: "body changed", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"x":2}`)) }, says: wrongSignature},
		{name: "body gone", after: func(r *http.Request) { r.Body = http.NoBody }, says: wrongSignature},
		{name: "body changed, and its hash said", before: set("X-Amz-Content-Sha256", hashOf(body)), after: func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"x":2}`))
		}, says: "the body is not the one that was signed"},
		{name: "hash changed too", before: set("X-Amz-Content-Sha256", hashOf(body)), after: func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"x":2}`))
			r.Header.Set("X-Amz-Content-Sha256", hashOf(`{"x":2}`))
		}, says: wrongSignature},
		{name: "method changed", after: func(r *http.Request) { r.Method = http.MethodPut }, says: wrongSignature},
		{name: "host changed", after: func(r *http.Request) { r.Host = "other.example" }, says: wrongSignature},
		{name: "path changed", after: func(r *http.Request) { r.URL.Path += "s" }, says: wrongSignature},
		{name: "query changed", after: func(r *http.Request) { r.URL.RawQuery += "&d=1" }, says: wrongSignature},
		{name: "repeated parameter changed", after: func(r *http.Request) { r.URL.RawQuery += "&a=3" }, says: wrongSignature},
		{name: "content type changed", after: set("Content-Type", "application/proto"), says: wrongSignature},
		{name: "date changed", after: set("X-Amz-Date", "20261129T120001Z"), says: wrongSignature},
		{name: "wrong secret and late", s: signing{secret: "guess", at: noon.Add(-time.Hour)}, says: wrongSignature},
		{name: "late", s: signing{at: noon.Add(-5*time.Minute - time.Second)}, says: "signed at 2026-11-29T11:54:59Z and here it is 2026-11-29T12:00:00Z"},
		{name: "early", s: signing{at: noon.Add(5*time.Minute + time.Second)}, says: "set the clock"},
		{name: "yesterday", s: signing{at: noon.Add(-24 * time.Hour)}, says: "set the clock"},
		{name: "wrong region", s: signing{region: "eu-west-1"}, says: "must be signed for region us-east-1 and service bedrock-agentcore"},
		{name: "wrong service", s: signing{service: "bedrock-agentcore-control"}, says: "service bedrock-agentcore"},
		{name: "date of another day", after: set("X-Amz-Date", "20261130T000000Z"), says: "on the day of the Credential"},
		{name: "date of no form", after: set("X-Amz-Date", "20261129"), says: "X-Amz-Date must be a time"},
		{name: "no date", after: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, says: "one X-Amz-Date header, and has 0"},
		{name: "two dates", after: func(r *http.Request) { r.Header.Add("X-Amz-Date", "20261129T120000Z") }, says: "has 2"},
		{name: "host not signed", after: edit("host;", ""), says: "host must be among"},
		{name: "date not signed", after: edit(";x-amz-date", ""), says: "x-amz-date must be among"},
		{name: "content type not signed", after: edit("content-type;", ""), says: "content-type must be among"},
		{name: "an amz header not signed", after: set("X-Amz-Target", "x"), says: "x-amz-target must be among"},
		{name: "an encoding not signed", after: set("Content-Encoding", "gzip"), says: "content-encoding must be among"},
		{name: "signed and not there", before: set("X-Gone", "1"), after: func(r *http.Request) { r.Header.Del("X-Gone") }, says: "x-gone is among"},
		{name: "agent signed", after: func(r *http.Request) {
			edit(";x-amz-date", ";user-agent;x-amz-date")(r)
			r.Header.Set("User-Agent", "x")
		}, says: "leave it out"},
		{name: "unsigned body", s: signing{hash: "UNSIGNED-PAYLOAD"}, before: set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), says: "the body must be signed"},
		{name: "streamed body", before: set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), says: "the body must be signed"},
		{name: "session token", before: set("X-Amz-Security-Token", "abc"), says: "without a session token"},
		{name: "two headers", after: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, says: "2 Authorization headers"},
		{name: "and presigned", after: func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=00" }, says: "presigned"},
		{name: "unreadable query", before: func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, says: "query of the request cannot be read"},
		{name: "semicolon in the query", after: func(r *http.Request) { r.URL.RawQuery += ";d=1" }, says: "query of the request cannot be read"},
		{name: "huge", after: func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 "+strings.Repeat("a", 20000))
		}, says: "longer than"},
		{name: "another scheme", after: set("Authorization", "Basic ZGV2OmRldg=="), says: "use AWS Signature Version 4 for region us-east-1"},
		{name: "asymmetric", after: edit("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), says: "scheme"},
		{name: "empty", after: set("Authorization", ""), says: "scheme"},
		{name: "bearer", after: set("Authorization", "Bearer abc"), says: "no bearer tokens"},
		{name: "scheme alone", after: set("Authorization", "AWS4-HMAC-SHA256"), says: "cannot be read"},
		{name: "field missing", after: edit("SignedHeaders=", "Headers="), says: "SignedHeaders"},
		{name: "field twice", after: edit("SignedHeaders=", "Signature="), says: "cannot be read"},
		{name: "one field more", after: edit("SignedHeaders=", "X=1, SignedHeaders="), says: "cannot be read"},
		{name: "short scope", after: edit("/aws4_request", ""), says: "cannot be read"},
		{name: "other terminator", after: edit("/aws4_request", "/aws5_request"), says: "cannot be read"},
		{name: "signature too long", after: func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")+"00")
		}, says: "cannot be read"},
		{name: "signature no hex", after: func(r *http.Request) {
			h := r.Header.Get("Authorization")
			r.Header.Set("Authorization", h[:len(h)-2]+"zz")
		}, says: "cannot be read"},
		{name: "header signed twice", after: edit("host;", "host;host;"), says: "each once"},
		{name: "headers out of order", after: edit("content-type;host", "host;content-type"), says: "in order"},
		{name: "header in upper case", after: edit("host", "Host"), says: "lower case"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			auth := knows(t, twoKeys)
			auth.SetClock(func() time.Time { return noon })
			r := post(body)
			r.Header.Del("Content-Length")
			if tt.before != nil {
				tt.before(r)
			}
			query := r.URL.RawQuery
			sign(t, r, body, tt.s)
			r.URL.RawQuery = query // the signer sorts it
			if tt.after != nil {
				tt.after(r)
			}
			caller, err := auth.Authenticate(r)
			if !errors.Is(err, identity.ErrUnauthenticated) || !strings.Contains(err.Error(), tt.says) || caller.Account != "" {
				t.Fatalf("caller %+v, error %v, want one with %q", caller, err, tt.says)
			}
			if tt.says == wrongSignature && err.Error() != wholeWrongSignature(t) {
				t.Errorf("%v tells what is wrong", err)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Error("the secret is in the error")
			}
		})
	}
}

// wholeWrongSignature is the text for a key that is not known.
func wholeWrongSignature(t *testing.T) string {
	auth := knows(t, twoKeys)
	auth.SetClock(func() time.Time { return noon })
	_, err := auth.Authenticate(sign(t, post(""), "", signing{id: "nobody"}))
	if err == nil {
		t.Fatal("nobody was taken")
	}
	return err.Error()
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// A body that cannot be read is not a matter of who sends it.
func TestSignatureOfLargeBody(t *testing.T) {
	auth := knows(t, twoKeys)
	auth.SetClock(func() time.Time { return noon })
	r := sign(t, post("0123456789"), "0123456789", signing{})
	r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 5)
	_, err := auth.Authenticate(r)
	if _, large := errors.AsType[*http.MaxBytesError](err); !large || errors.Is(err, identity.ErrUnauthenticated) {
		t.Fatalf("error %v", err)
	}
}

// What AWS's signer signs is taken, whatever the request looks like; one byte of it changed is not.
func TestSignatureOfRandomRequests(t *testing.T) {
	auth := knows(t, twoKeys)
	auth.SetClock(func() time.Time { return noon })
	dice := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "B", "7", "/", ":", " ", "%", "+", "&", "=", "é", "~", "*", "!", "'", "(", ";", ".", "-"}
	word := func(most int) string {
		var text strings.Builder
		for range dice.IntN(most + 1) {
			text.WriteString(alphabet[dice.IntN(len(alphabet))])
		}
		return text.String()
	}
	for i := range 2000 {
		target := "http://h.example:7401/" + url.PathEscape(word(12)) + "/" + url.PathEscape(word(5))
		query := url.Values{}
		for range dice.IntN(4) {
			query.Add(word(3), word(6))
		}
		if len(query) > 0 {
			target += "?" + query.Encode()
		}
		body := word(40)
		r := httptest.NewRequest([]string{"GET", "POST", "DELETE", "PUT"}[i%4], target, strings.NewReader(body))
		if i%3 > 0 {
			r.Header.Set("Content-Type", "application/json")
			r.Header["X-Amz-Meta"] = []string{"  two   words ", "another"}
		}
		asSent := r.URL.RawQuery
		sign(t, r, body, signing{})
		r.URL.RawQuery = asSent
		if _, err := auth.Authenticate(r); err != nil {
			t.Fatalf("%s %s: %v", r.Method, target, err)
		}
		if got, _ := io.ReadAll(r.Body); string(got) != body {
			t.Fatalf("body %q is %q afterwards", body, got)
		}
		r.Body = io.NopCloser(strings.NewReader(body))
		switch dice.IntN(3) {
		case 0:
			r.Body = io.NopCloser(strings.NewReader(body + "x"))
		case 1:
			r.URL.Path, r.URL.RawPath = r.URL.Path+"x", ""
		case 2:
			r.URL.RawQuery = "zz=1&" + r.URL.RawQuery
		}
		if _, err := auth.Authenticate(r); !errors.Is(err, identity.ErrUnauthenticated) {
			t.Fatalf("%s %s, changed: %v", r.Method, target, err)
		}
	}
}

// recorder is a server that answers 200 to those whom auth knows.
func recorder(t *testing.T, auth *identity.Authenticator) (*httptest.Server, *[]string) {
	t.Helper()
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := auth.Authenticate(r)
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, fmt.Sprintf("%s %s %s %d %v", r.Method, r.URL.EscapedPath(), caller.ID, len(body), err))
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{"__type": "AccessDeniedException", "message": err.Error()})
			return
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	return server, &seen
}

func TestAWSClient(t *testing.T) {
	server, seen := recorder(t, knows(t, twoKeys))
	client := bedrockagentcorecontrol.New(bedrockagentcorecontrol.Options{
		BaseEndpoint: aws.String(server.URL), Region: "us-east-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "dev", SecretAccessKey: "s3cr3t"}, nil
		}),
	})
	ctx := t.Context()
	_, err := client.CreatePolicyEngine(ctx, &bedrockagentcorecontrol.CreatePolicyEngineInput{Name: aws.String("Refunds")})
	if err != nil {
		t.Error(err)
	}
	_, err = client.ListPolicies(ctx, &bedrockagentcorecontrol.ListPoliciesInput{
		PolicyEngineId: aws.String("Refunds-a1b2c3d4e5"), MaxResults: aws.Int32(7), NextToken: aws.String("a b/c+d=e&f"),
		TargetResourceScope: aws.String("arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/refund-gw-a1b2c3d4e5"),
	})
	if err != nil {
		t.Error(err)
	}
	arn := aws.String("arn:aws:bedrock-agentcore:us-east-1:000000000000:policy-engine/Refunds-a1b2c3d4e5")
	if _, err := client.ListTagsForResource(ctx, &bedrockagentcorecontrol.ListTagsForResourceInput{ResourceArn: arn}); err != nil {
		t.Error(err)
	}
	_, err = client.UntagResource(ctx, &bedrockagentcorecontrol.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"z k", "a", "a"}})
	if err != nil {
		t.Error(err)
	}
	_, err = client.DeleteGateway(ctx, &bedrockagentcorecontrol.DeleteGatewayInput{GatewayIdentifier: aws.String("refund-gw-a1b2c3d4e5")})
	if err != nil {
		t.Error(err)
	}
	if len(*seen) != 5 || !strings.Contains((*seen)[2], "%3Apolicy-engine%2F") {
		t.Errorf("the server saw\n%s", strings.Join(*seen, "\n"))
	}
}

// curl's way of signing is what the manual shows.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("curl is missing: install it (Debian: apt-get install curl)")
	}
	server, seen := recorder(t, knows(t, twoKeys))
	run := func(secret string) string {
		out, err := exec.CommandContext(t.Context(), curl, "-sS", "--noproxy", "*", "-w", " %{http_code}",
			"--aws-sigv4", "aws:amz:us-east-1:bedrock-agentcore", "--user", "dev:"+secret,
			"-H", "Content-Type: application/json", "-d", `{"policyEngineId": "Refunds"}`,
			server.URL+"/verdict.control.v1.ControlService/GetPolicyEngine").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := run("s3cr3t"); out != "{} 200" {
		t.Errorf("curl got %s; the server saw %v", out, *seen)
	}
	if out := run("wrong"); !strings.HasSuffix(out, " 403") || !strings.Contains(out, wrongSignature) {
		t.Errorf("curl with a wrong secret got %s", out)
	}
}

func TestOnce(t *testing.T) {
	path := write(t, "callers.json", twoKeys)
	auth, err := identity.New(identity.Config{CallersFile: path})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{noon}
	auth.SetClock(c.now)
	caller := func(s signing) identity.Caller {
		t.Helper()
		caller, err := auth.Authenticate(sign(t, post("{}"), "{}", s))
		if err != nil {
			t.Fatal(err)
		}
		return caller
	}
	ahead := signing{at: noon.Add(5 * time.Minute)}
	first := caller(ahead)
	if err := auth.Once(first); err != nil {
		t.Fatal(err)
	}
	repeated := func(s signing) {
		t.Helper()
		if err := auth.Once(caller(s)); !errors.Is(err, identity.ErrUnauthenticated) || !strings.Contains(err.Error(), "taken before") {
			t.Errorf("a repeat: %v", err)
		}
	}
	repeated(ahead)
	if err := auth.Once(caller(signing{id: "other", secret: "0th3r", at: ahead.at})); err != nil {
		t.Errorf("another key's: %v", err)
	}
	if err := auth.Reload(); err != nil {
		t.Fatal(err)
	}
	repeated(ahead)
	auth.GiveBack(first) // nothing came of it
	if err := auth.Once(caller(ahead)); err != nil {
		t.Errorf("given back: %v", err)
	}
	repeated(ahead)
	c.Time = noon.Add(10 * time.Minute) // the last moment at which the signature is good
	repeated(ahead)
	if err := auth.Once(identity.Caller{Method: identity.MethodLoopback}); err != nil {
		t.Errorf("a caller without signature: %v", err)
	}
}

// A signature from before the start may have been taken by the process that ran then.
func TestOnceAfterRestart(t *testing.T) {
	auth := knows(t, twoKeys)
	auth.SetClock(func() time.Time { return noon.Add(900 * time.Millisecond) })
	for at, ok := range map[time.Time]bool{noon.Add(-time.Second): false, noon: true} {
		caller, err := auth.Authenticate(sign(t, post("{}"), "{}", signing{at: at}))
		if err != nil {
			t.Fatal(err)
		}
		if err := auth.Once(caller); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "before this service started") {
			t.Errorf("signed at %s: %v", at, err)
		}
	}
}

func TestOnceIsBounded(t *testing.T) {
	auth := knows(t, twoKeys)
	c := &clock{noon}
	auth.SetClock(c.now)
	next := uint64(0)
	caller := func(keyID string) identity.Caller {
		next++
		return auth.SignedCaller(keyID, next, c.Time)
	}
	first := caller("dev")
	if err := auth.Once(first); err != nil {
		t.Fatal(err)
	}
	for range identity.MaxMemory - 1 {
		if err := auth.Once(caller("dev")); err != nil {
			t.Fatal(err)
		}
	}
	if err := auth.Once(caller("dev")); !errors.Is(err, identity.ErrExhausted) {
		t.Errorf("one more than is remembered: %v", err)
	}
	if err := auth.Once(first); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("the first, again: %v", err)
	}
	if err := auth.Once(caller("other")); err != nil {
		t.Errorf("another key's, meanwhile: %v", err)
	}
	c.Time = noon.Add(12 * time.Minute)
	if err := auth.Once(caller("dev")); err != nil {
		t.Errorf("when the others are old: %v", err)
	}
}

// A service says how many its callers may sign.
func TestSignatures(t *testing.T) {
	auth, err := identity.New(identity.Config{CallersFile: write(t, "callers.json", twoKeys), Signatures: 2})
	if err != nil {
		t.Fatal(err)
	}
	auth.SetClock(func() time.Time { return noon })
	for n := range uint64(3) {
		if err := auth.Once(auth.SignedCaller("dev", n, noon)); (err == nil) != (n < 2) {
			t.Errorf("signature %d: %v", n, err)
		}
	}
}

// Whatever the header is: no panic, and nobody is taken for somebody.
func FuzzAuthorization(f *testing.F) {
	auth := knows(f, twoKeys)
	auth.SetClock(func() time.Time { return noon })
	good := sign(f, post("{}"), "{}", signing{}).Header.Get("Authorization")
	for _, seed := range []string{
		good, "Bearer a.b.c", "Basic x", "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
		strings.ReplaceAll(good, " ", ""), strings.ReplaceAll(good, "host", "host;host"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := sign(t, post("{}"), "{}", signing{})
		r.Header["Authorization"] = []string{header}
		caller, err := auth.Authenticate(r)
		if err == nil && !slices.Equal(fields(header), fields(good)) {
			t.Fatalf("%q is taken for %s", header, caller.ID)
		}
		if err != nil && !errors.Is(err, identity.ErrUnauthenticated) {
			t.Fatal(err)
		}
	})
}

// fields are the parts of an Authorization header, in order, since their order and the blanks between do not matter; nor
// does the case of the signature's digits.
func fields(header string) []string {
	scheme, rest, _ := strings.Cut(header, " ")
	parts := []string{scheme}
	for part := range strings.SplitSeq(rest, ",") {
		part = strings.TrimSpace(part)
		if strings.HasPrefix(part, "Signature=") {
			part = "Signature=" + strings.ToLower(part[len("Signature="):])
		}
		parts = append(parts, part)
	}
	slices.Sort(parts)
	return parts
}
