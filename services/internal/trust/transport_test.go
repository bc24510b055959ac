package trust_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// HTTP in TLS with HTTP/2, with the certificate that the server asks for, and after Reload with the new roots.
func TestTransport(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	serverCert, serverKey := ca.Issue(t, "127.0.0.1")
	server.TLS = open(t, trust.Files{Cert: serverCert, Key: serverKey, ClientCA: ca.File}).Server()
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	cert, key := ca.Issue(t, "node-1")
	roots := t.TempDir() + "/roots.pem"
	write(t, roots, read(t, other.File))
	tr := open(t, trust.Files{Cert: cert, Key: key, CA: roots})
	transport := tr.Transport()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	if _, err := get(t, client, server.URL); !unknownAuthority(err) {
		t.Fatal(err)
	}
	write(t, roots, read(t, ca.File))
	if _, err := tr.Reload(); err != nil {
		t.Fatal(err)
	}
	if body, err := get(t, client, server.URL); err != nil || body != "HTTP/2.0 node-1" {
		t.Error(body, err)
	}
}

// Neither a URL nor a redirect leads off this machine in the clear.
func TestTransportDoesNotLeaveInTheClear(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	server := httptest.NewUnstartedServer(http.RedirectHandler("http://service.example/", http.StatusTemporaryRedirect))
	cert, key := ca.Issue(t, "127.0.0.1")
	server.TLS = open(t, trust.Files{Cert: cert, Key: key}).Server()
	server.StartTLS()
	defer server.Close()
	tr := open(t, trust.Files{CA: ca.File})
	transport := tr.Transport()
	defer transport.CloseIdleConnections()
	for _, url := range []string{"http://service.example/", server.URL} {
		if _, err := get(t, &http.Client{Transport: transport}, url); err == nil || !strings.Contains(err.Error(), "refusing to connect") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, ok := range map[string]bool{
		"https://service.example": true, "http://127.0.0.1:7401": true, "http://localhost:7401": true, "http://[::1]:7401": true,
		"http://service.example": false, "http://10.0.0.1:7401": false, "http://%": false,
	} {
		if err := tr.URL(url); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func get(t *testing.T, client *http.Client, url string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
