package inbound_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/policy"
)

// signed is the request with the signature of an access key.
func signed(t testing.TB, r *http.Request, key, secret, body string) *http.Request {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, r, hex.EncodeToString(sum[:]),
		identity.SigningName, "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var iam = gatewayWith(policy.GatewayDefinition{AuthorizerType: policy.AuthorizerIAM})

const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`

func TestSigned(t *testing.T) {
	w := newWorld(t)
	for key, arn := range map[string]string{
		"agent":   "arn:aws:iam::123456789012:user/refunds",
		"session": "arn:aws:sts::123456789012:assumed-role/Agent",
		"role":    "arn:aws-cn:iam::123456789012:role/path/Agent",
	} {
		r := signed(t, post(call), key, secret, call)
		caller, refusal := w.ask(r, iam)
		if refusal != nil {
			t.Errorf("%s: %+v", key, refusal)
			continue
		}
		if p := caller.Principal; p.GetType() != "AgentCore::IamEntity" || p.GetId() != arn || len(p.GetTags()) > 0 || !caller.Expires.IsZero() {
			t.Errorf("%s: %v", key, p)
		}
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != call {
			t.Errorf("%s: the body is %q, %v", key, body, err)
		}
	}
}

func TestSignedRefused(t *testing.T) {
	secretOf := func(key, text string) *http.Request { return signed(t, post(call), key, text, call) }
	local := post(call)
	local.RemoteAddr = "127.0.0.1:45678"
	certified := post(call)
	leaf := &x509.Certificate{DNSNames: []string{"agent.example"}}
	certified.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
	changed := secretOf("agent", secret)
	changed.Body = io.NopCloser(strings.NewReader(strings.Replace(call, "1", "2", 1)))
	large := signed(t, post(call), "agent", secret, call)
	large.Body = http.MaxBytesReader(nil, large.Body, 3)
	broken := secretOf("agent", secret)
	broken.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{}))
	presigned := post(call)
	presigned.URL.RawQuery = "X-Amz-Signature=00"
	for name, tt := range map[string]struct {
		r      *http.Request
		status int
		says   string
	}{
		"nothing":            {post(call), http.StatusUnauthorized, "Missing signature"},
		"on the loopback":    {local, http.StatusUnauthorized, "Missing signature"},
		"a certificate":      {certified, http.StatusUnauthorized, "Missing signature"},
		"a bearer token":     {withToken("a.b.c"), http.StatusUnauthorized, "Missing signature"},
		"presigned":          {presigned, http.StatusUnauthorized, "Missing signature"},
		"a wrong secret":     {secretOf("agent", "guess"), http.StatusUnauthorized, "signature is not right"},
		"an unknown key":     {secretOf("nobody", secret), http.StatusUnauthorized, "signature is not right"},
		"another body":       {changed, http.StatusUnauthorized, "signature is not right"},
		"a body too large":   {large, http.StatusRequestEntityTooLarge, "more than 3 bytes"},
		"a body that breaks": {broken, http.StatusBadRequest, "could not be read"},
		"of another account": {secretOf("other", secret), http.StatusForbidden, "another account"},
		"without the role":   {secretOf("viewer", secret), http.StatusForbidden, "InvokeGateway takes the role agent or admin"},
	} {
		w := newWorld(t)
		caller, refusal := w.ask(tt.r, iam)
		if refusal == nil || refusal.Status != tt.status || refusal.Code != -32001 || !strings.Contains(refusal.Message, tt.says) || caller.Principal != nil {
			t.Errorf("%s: %v, %+v", name, caller, refusal)
			continue
		}
		if (refusal.Challenge != "") != (tt.status == http.StatusUnauthorized) || strings.Contains(w.said(), secret) {
			t.Errorf("%s: challenge %q; the log says %s", name, refusal.Challenge, w.said())
		}
	}
}

// Who read a signed call on its way cannot make it happen again; what only listens may be sent again.
func TestSignedOnce(t *testing.T) {
	w := newWorld(t)
	r := signed(t, post(call), "agent", secret, call)
	for i := range 3 {
		r.Body = io.NopCloser(strings.NewReader(call))
		_, refusal := w.ask(r, iam)
		if (refusal == nil) != (i == 0) || refusal != nil && (refusal.Status != http.StatusUnauthorized || !strings.Contains(refusal.Message, "sign every request anew")) {
			t.Errorf("time %d: %+v", i, refusal)
		}
	}
	listen := post("")
	listen.Method = http.MethodGet
	signed(t, listen, "agent", secret, "")
	for range 2 {
		if _, refusal := w.ask(listen, iam); refusal != nil {
			t.Errorf("%+v", refusal)
		}
	}
	end := post("")
	end.Method = http.MethodDelete
	signed(t, end, "agent", secret, "")
	for i := range 2 {
		if _, refusal := w.ask(end, iam); (refusal == nil) != (i == 0) {
			t.Errorf("the end of a session, time %d: %+v", i, refusal)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
