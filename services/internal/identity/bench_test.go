package identity_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// What recognising the caller adds to a decision, by method.
func BenchmarkAuthenticate(b *testing.B) {
	const body = `{"principal":{"type":"AgentCore::OAuthUser","id":"u-1","tags":{"role":"refund-agent"}},"action":{"type":"AgentCore::Action",` +
		`"id":"RefundTarget___process_refund"},"resource":{"type":"AgentCore::Gateway","id":"arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/refund-gw-a1b2c3d4e5"},` +
		`"context":{"input":{"orderId":"12345","amount":450}}}`
	ca := newAuthority(b)
	is := newIssuer(b, public("rsa", rsaKey()))
	callers := strings.Join([]string{twoKeys[1 : len(twoKeys)-1], certificates[1 : len(certificates)-1], is.callers("")[1:]}, ",")
	auth, err := identity.New(identity.Config{LoopbackAccount: "000000000000", CallersFile: write(b, "callers.json", "{"+callers)})
	if err != nil {
		b.Fatal(err)
	}
	c := is.claims().with("exp", time.Now().Add(time.Hour).Unix()).with("iat", nil).with("nbf", nil)
	request := func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:7402/verdict.decision.v1.DecisionService/Authorize", nil)
		r.Header.Set("Content-Type", "application/json")
		r.RemoteAddr = "127.0.0.1:45678"
		r.ContentLength = int64(len(body))
		return r
	}
	signed := sign(b, request(), body, signing{at: time.Now()})
	bearer := request()
	bearer.Header.Set("Authorization", "Bearer "+token(b, jose.RS256, "rsa", rsaKey(), c))
	mtls := request()
	mtls.TLS = handshake(b, &tls.Config{ClientCAs: ca.pool(), ClientAuth: tls.VerifyClientCertIfGiven},
		ca.issue(b, names{uris: []string{"spiffe://example/gateway"}}, x509.ExtKeyUsageClientAuth)).TLS
	for _, bb := range []struct {
		name string
		r    *http.Request
	}{{"loopback", request()}, {"sigv4", signed}, {"oidc", bearer}, {"mtls", mtls}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			reader := bytes.NewReader([]byte(body))
			closer := io.NopCloser(reader)
			for b.Loop() {
				_, _ = reader.Seek(0, io.SeekStart)
				bb.r.Body = closer
				if _, err := auth.Authenticate(bb.r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	var texts []string
	for i := range 500 {
		texts = append(texts, "Bearer "+token(b, jose.RS256, "rsa", rsaKey(), c.with("jti", fmt.Sprint(i))))
	}
	b.Run("oidc-new-token", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%len(texts) == 0 {
				b.StopTimer()
				if err := auth.Reload(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			bearer.Header["Authorization"] = texts[i%len(texts) : i%len(texts)+1]
			if _, err := auth.Authenticate(bearer); err != nil {
				b.Fatal(err)
			}
		}
	})
}
