package example

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// IssuerConfig is what an issuer needs.
type IssuerConfig struct {
	// URL is the issuer's name and where it is found, "http://127.0.0.1:7405".
	URL string
	// KeyFile keeps the key that signs, so that tokens outlive a restart. It is made when it is not there. "" keeps none.
	KeyFile string
	Clients []Client
}

// Client may ask for tokens, with its id and secret.
type Client struct {
	ID, Secret string
	// Scopes are those that it may ask for; it gets all when it asks for none.
	Scopes []string
	// Claims are those that it may ask for; nil allows any.
	Claims []string
}

// tokenLife is how long a token counts.
const tokenLife = time.Hour

// maxForm is how large a request for a token may be.
const maxForm = 64 << 10

// Issuer hands out access tokens by the grant client_credentials: JWTs, signed with ES256, with the client's id as subject. The
// parameter "claims", a JSON object, says what else is to be in one, or instead of that.
type Issuer struct {
	http.Handler

	url     string
	clients map[string]Client
	signer  jose.Signer
	public  jose.JSONWebKeySet
}

// NewIssuer reads the key, or makes it.
func NewIssuer(config IssuerConfig) (*Issuer, error) {
	u, err := url.Parse(config.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !isLoopback(u.Host) {
		return nil, fmt.Errorf("issuer: %q is not a URL on the loopback interface, as http://127.0.0.1:7405", config.URL)
	}
	key, err := loadKey(config.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	is := &Issuer{url: strings.TrimSuffix(config.URL, "/"), clients: map[string]Client{}}
	for _, c := range config.Clients {
		if c.ID == "" || c.Secret == "" {
			return nil, errors.New("issuer: a client needs an id and a secret")
		}
		is.clients[c.ID] = c
	}
	if err := is.use(key); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", is.discover)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", is.discover)
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, is.public) })
	mux.HandleFunc("POST /token", is.token)
	is.Handler = onLoopback(http.StripPrefix(strings.TrimSuffix(u.Path, "/"), mux))
	return is, nil
}

// use makes a key the one that signs. Its id is its thumbprint, so that another key has another.
func (is *Issuer) use(key *ecdsa.PrivateKey) error {
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(jose.ES256), Use: "sig"}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return err
	}
	public.KeyID = fmt.Sprintf("%x", thumbprint[:8])
	is.public = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}
	options := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", public.KeyID)
	is.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
	return err
}

func (is *Issuer) discover(w http.ResponseWriter, _ *http.Request) {
	var scopes []string
	for _, c := range is.clients {
		scopes = append(scopes, c.Scopes...)
	}
	slices.Sort(scopes)
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": is.url, "jwks_uri": is.url + "/jwks", "token_endpoint": is.url + "/token",
		"grant_types_supported":                 []string{"client_credentials"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
		"scopes_supported":                      append([]string{}, slices.Compact(scopes)...),
		"response_types_supported":              []string{"token"}, "subject_types_supported": []string{"public"},
	})
}

// token answers as RFC 6749 wants it, sections 4.4 and 5.
func (is *Issuer) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	refuse := func(status int, code, why string) {
		writeJSON(w, status, map[string]string{"error": code, "error_description": why})
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		refuse(http.StatusBadRequest, "invalid_request", "the form cannot be read")
		return
	}
	client, ok := is.client(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="issuer"`)
		refuse(http.StatusUnauthorized, "invalid_client", "there is no such client, or its secret is another")
		return
	}
	if grant := r.PostForm.Get("grant_type"); grant != "client_credentials" {
		refuse(http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials")
		return
	}
	scope, ok := client.scope(r.PostForm.Get("scope"))
	if !ok {
		refuse(http.StatusBadRequest, "invalid_scope", "the client may ask for: "+strings.Join(client.Scopes, " "))
		return
	}
	claims, err := client.claims(r.PostForm.Get("claims"))
	if err != nil {
		refuse(http.StatusBadRequest, "invalid_request", err.Error())
		return
	}
	signed, err := is.sign(client, scope, claims)
	if err != nil {
		refuse(http.StatusInternalServerError, "server_error", "the token could not be signed")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": signed, "token_type": "Bearer", "expires_in": int(tokenLife.Seconds()), "scope": scope,
	})
}

// client is who asks: by HTTP Basic, whose parts are form-encoded, or by the form.
func (is *Issuer) client(r *http.Request) (Client, bool) {
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if name, password, basic := r.BasicAuth(); basic {
		var err, secretErr error
		id, err = url.QueryUnescape(name)
		secret, secretErr = url.QueryUnescape(password)
		if err != nil || secretErr != nil {
			return Client{}, false
		}
	}
	client, known := is.clients[id]
	return client, known && subtle.ConstantTimeCompare([]byte(secret), []byte(client.Secret)) == 1
}

// scope is what a client gets of what it asks for: all of it or nothing.
func (c *Client) scope(asked string) (string, bool) {
	if asked == "" {
		return strings.Join(c.Scopes, " "), true
	}
	for one := range strings.FieldsSeq(asked) {
		if !slices.Contains(c.Scopes, one) {
			return "", false
		}
	}
	return asked, true
}

// claims are those that a client asks for.
func (c *Client) claims(asked string) (map[string]any, error) {
	claims := map[string]any{}
	if asked == "" {
		return claims, nil
	}
	decoder := json.NewDecoder(strings.NewReader(asked))
	decoder.UseNumber()
	if err := decoder.Decode(&claims); err != nil || claims == nil || decoder.More() {
		return nil, errors.New("claims must be a JSON object")
	}
	for name := range claims {
		if c.Claims != nil && !slices.Contains(c.Claims, name) {
			return nil, fmt.Errorf("the client may not ask for claim %s", name)
		}
	}
	return claims, nil
}

func (is *Issuer) sign(client Client, scope string, asked map[string]any) (string, error) {
	now := time.Now()
	claims := map[string]any{
		"iss": is.url, "sub": client.ID, "client_id": client.ID, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(tokenLife).Unix(),
	}
	if scope != "" {
		claims["scope"] = scope
	}
	maps.Copy(claims, asked)
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := is.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// loadKey is the key of a file, a new one where there is none.
func loadKey(name string) (*ecdsa.PrivateKey, error) {
	if name == "" {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(name)
	}
	if err != nil {
		return nil, err
	}
	bad := fmt.Errorf("%s must hold an ECDSA key on P-256, as PKCS #8 in PEM; remove it, and a new one is made", name)
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, bad
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil, bad
	}
	return key, nil
}

// makeKey makes a key and keeps it. A file is there whole or not at all, and its first writer wins.
func makeKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // nobody else may read it
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // the name that stays is the other
	err = pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(file.Name(), name); errors.Is(err, fs.ErrExist) {
		return loadKey(name)
	} else if err != nil {
		return nil, err
	}
	return key, nil
}
