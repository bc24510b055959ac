package identity_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/verdict-io/verdict/services/internal/identity"
)

const certificates = `{"certificates": [
	{"subject": "spiffe://example/gateway", "account": "123456789012", "id": "by-uri", "roles": ["gateway"]},
	{"subject": "spiffe://example/same", "account": "123456789012", "id": "by-uri", "roles": ["gateway"]},
	{"subject": "spiffe://example/other", "account": "123456789012", "id": "by-other-uri", "roles": ["gateway"]},
	{"subject": "Node-1.example", "account": "123456789012", "id": "by-dns", "roles": ["node"]},
	{"subject": "CN=node-1.example", "account": "123456789012", "id": "by-cn", "roles": ["viewer"]}]}`

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: ecKey(), cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// names are what a certificate is for.
type names struct {
	cn   string
	uris []string
	dns  []string
}

func (a *authority) issue(t testing.TB, n names, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: n.cn}, DNSNames: n.dns,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	for _, text := range n.uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	key := ecKey()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// handshake is a request as a server gets it over TLS from a client with the certificate.
func handshake(t testing.TB, config *tls.Config, cert tls.Certificate) *http.Request {
	t.Helper()
	requests := make(chan *http.Request, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { requests <- r }))
	server.TLS = config
	server.StartTLS()
	defer server.Close()
	client := server.Client()
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert}
	response, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return <-requests
}

func TestCertificate(t *testing.T) {
	ca := newAuthority(t)
	auth, err := identity.New(identity.Config{LoopbackAccount: "000000000000", CallersFile: write(t, "callers.json", certificates)})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		names
		id string // "": forbidden
	}{
		"URI":                        {names{uris: []string{"spiffe://example/gateway"}}, "by-uri"},
		"URI before the others":      {names{cn: "node-1.example", dns: []string{"node-1.example"}, uris: []string{"spiffe://example/gateway"}}, "by-uri"},
		"URIs of one caller":         {names{uris: []string{"spiffe://example/gateway", "spiffe://example/same"}}, "by-uri"},
		"URIs of two callers":        {names{uris: []string{"spiffe://example/gateway", "spiffe://example/other"}}, ""},
		"a longer URI":               {names{uris: []string{"spiffe://example/gateway/x"}}, ""},
		"DNS":                        {names{dns: []string{"node-1.example"}}, "by-dns"},
		"DNS in another case":        {names{dns: []string{"NODE-1.EXAMPLE"}}, "by-dns"},
		"DNS before CN":              {names{cn: "node-1.example", dns: []string{"x.example", "node-1.example"}}, "by-dns"},
		"CN":                         {names{cn: "node-1.example"}, "by-cn"},
		"CN in another case":         {names{cn: "Node-1.example"}, ""},
		"CN that looks like a URI":   {names{cn: "spiffe://example/gateway"}, ""},
		"DNS that looks like a CN":   {names{dns: []string{"CN=node-1.example"}}, ""},
		"DNS that looks like a URI":  {names{dns: []string{"spiffe://example/gateway"}}, ""},
		"wildcard":                   {names{dns: []string{"*.example"}}, ""},
		"nobody whom the file names": {names{cn: "x", dns: []string{"x.example"}, uris: []string{"spiffe://x/y"}}, ""},
		"no name":                    {names{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := handshake(t, &tls.Config{ClientCAs: ca.pool(), ClientAuth: tls.VerifyClientCertIfGiven},
				ca.issue(t, tt.names, x509.ExtKeyUsageClientAuth))
			caller, err := auth.Authenticate(r)
			if tt.id == "" {
				if !errors.Is(err, identity.ErrForbidden) {
					t.Errorf("caller %+v, error %v", caller, err)
				}
				return
			}
			if err != nil || caller.ID != tt.id || caller.Method != "mtls" || caller.SourceAddress != "127.0.0.1" {
				t.Errorf("caller %+v, error %v, want %s", caller, err, tt.id)
			}
		})
	}
}

// A certificate that the server asked for and did not verify proves nothing, not even that loopback decides.
func TestCertificateNotVerified(t *testing.T) {
	auth, err := identity.New(identity.Config{LoopbackAccount: "000000000000", CallersFile: write(t, "callers.json", certificates)})
	if err != nil {
		t.Fatal(err)
	}
	cert := newAuthority(t).issue(t, names{uris: []string{"spiffe://example/gateway"}}, x509.ExtKeyUsageClientAuth)
	r := handshake(t, &tls.Config{ClientAuth: tls.RequestClientCert}, cert)
	if len(r.TLS.PeerCertificates) != 1 {
		t.Fatal("no certificate arrived")
	}
	if caller, err := auth.Authenticate(r); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("caller %+v, error %v", caller, err)
	}
}

// An issuer with a certificate of a private authority is believed where the file names the authority.
func TestIssuerWithPrivateAuthority(t *testing.T) {
	ca, ec := newAuthority(t), ecKey()
	is := newIssuer(t, public("ec", ec))
	server := httptest.NewUnstartedServer(is.Config.Handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	cert := ca.issue(t, names{dns: []string{"localhost"}}, x509.ExtKeyUsageServerAuth)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	defer server.Close()
	is.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	caFile := write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})))
	for more, want := range map[string]error{`, "caFile": "` + caFile + `"`: nil, "": identity.ErrUnavailable} {
		auth, _ := at(knows(t, is.callers(more)))
		if _, err := auth.Authenticate(withToken(token(t, jose.ES256, "ec", ec, is.claims()))); !errors.Is(err, want) {
			t.Errorf("with %q: %v", more, err)
		}
	}
}

// What a request presents decides alone; what is bad is never passed over.
func TestOrderOfMethods(t *testing.T) {
	ca := newAuthority(t)
	auth, err := identity.New(identity.Config{LoopbackAccount: "000000000000", CallersFile: write(t, "callers.json",
		strings.TrimSuffix(certificates, "}")+`, `+strings.TrimPrefix(twoKeys, "{"))})
	if err != nil {
		t.Fatal(err)
	}
	named := func(uri string) *http.Request {
		return handshake(t, &tls.Config{ClientCAs: ca.pool(), ClientAuth: tls.VerifyClientCertIfGiven},
			ca.issue(t, names{uris: []string{uri}}, x509.ExtKeyUsageClientAuth))
	}
	local := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "http://localhost:7401/", nil)
		r.RemoteAddr = "127.0.0.1:5000"
		return r
	}
	now := signing{at: time.Now()}
	with := func(r *http.Request, header string) *http.Request {
		r.Header.Set("Authorization", header)
		return r
	}
	for name, tt := range map[string]struct {
		r    *http.Request
		want string
	}{
		"nothing":                             {local(), "loopback"},
		"nothing, from elsewhere":             {post(""), ""},
		"signature":                           {sign(t, local(), "", now), "dev@example"},
		"bad signature over loopback":         {sign(t, local(), "", signing{at: now.at, secret: "guess"}), ""},
		"bad token over loopback":             {with(local(), "Bearer x"), ""},
		"unknown scheme over loopback":        {with(local(), "Basic x"), ""},
		"empty header over loopback":          {with(local(), ""), ""},
		"certificate":                         {named("spiffe://example/gateway"), "by-uri"},
		"certificate of nobody over loopback": {named("spiffe://example/nobody"), ""},
		"signature and certificate":           {sign(t, named("spiffe://example/gateway"), "", now), "dev@example"},
		"bad signature and certificate":       {sign(t, named("spiffe://example/gateway"), "", signing{at: now.at, secret: "guess"}), ""},
	} {
		caller, err := auth.Authenticate(tt.r)
		if caller.ID != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: caller %q, error %v, want %q", name, caller.ID, err, tt.want)
		}
	}
	r := local()
	r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=abc"
	if _, err := auth.Authenticate(r); err == nil || !strings.Contains(err.Error(), "presigned") {
		t.Errorf("a presigned request: %v", err)
	}
}
