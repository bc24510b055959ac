package identity

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// SigningTransport signs each request with an access key and hands it to base, http.DefaultTransport when nil. It holds
// the whole body in memory, which is what is signed, so it is not for streams of requests. "" is DefaultRegion.
func SigningTransport(base http.RoundTripper, keyID, secret, region string) http.RoundTripper {
	return &signingTransport{
		base: orDefault(base), region: cmp.Or(region, DefaultRegion), signer: v4.NewSigner(),
		credentials: aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret},
	}
}

func orDefault(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		return http.DefaultTransport
	}
	return base
}

type signingTransport struct {
	base        http.RoundTripper
	signer      *v4.Signer
	credentials aws.Credentials
	region      string
}

// RoundTrip signs a copy of the request.
func (t *signingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		if closeErr := r.Body.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, fmt.Errorf("reading the body to sign: %w", err)
		}
	}
	signed := r.Clone(r.Context())
	signed.Body, signed.ContentLength, signed.GetBody = http.NoBody, 0, nil
	if len(body) > 0 {
		signed.ContentLength = int64(len(body))
		signed.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		signed.Body, _ = signed.GetBody()
	}
	sum := sha256.Sum256(body)
	err := t.signer.SignHTTP(r.Context(), t.credentials, signed, hex.EncodeToString(sum[:]), SigningName, t.region, time.Now())
	if err != nil {
		return nil, fmt.Errorf("signing the request: %w", err)
	}
	return t.base.RoundTrip(signed)
}

// Credentials are what a program of ours shows to a service. The zero value is none.
type Credentials struct {
	keyID, secret string
	tokenFile     string
}

// maxCredentialsFile bounds a file of credentials, and one with a token.
const maxCredentialsFile = maxAuthorization

// ReadCredentials reads a file of the form {"accessKeyId": "…", "secretAccessKey": "…"} or {"tokenFile": "…"}, whose
// name is relative to the folder of the first. No error repeats a secret.
func ReadCredentials(name string) (*Credentials, error) {
	data, err := readBounded(name, maxCredentialsFile)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	var file struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
		TokenFile       string `json:"tokenFile"`
	}
	if err := decodeStrictly(data, &file); err != nil {
		return nil, fmt.Errorf("credentials %s: %w", name, err)
	}
	key := file.AccessKeyID != "" && file.SecretAccessKey != ""
	if key == (file.TokenFile != "") || !key && file.AccessKeyID+file.SecretAccessKey != "" {
		return nil, fmt.Errorf(`credentials %s: either "accessKeyId" and "secretAccessKey" are needed, or "tokenFile"`, name)
	}
	c := &Credentials{keyID: file.AccessKeyID, secret: file.SecretAccessKey, tokenFile: file.TokenFile}
	if c.tokenFile != "" && !filepath.IsAbs(c.tokenFile) {
		c.tokenFile = filepath.Join(filepath.Dir(name), c.tokenFile)
	}
	if c.tokenFile != "" {
		if _, err := c.token(); err != nil {
			return nil, fmt.Errorf("credentials %s: %w", name, err)
		}
	}
	return c, nil
}

// Transport shows the credentials with each request that it hands to base, http.DefaultTransport when nil. A token is
// read from its file for each request, since whoever keeps it there puts a new one before the old one ends.
func (c *Credentials) Transport(base http.RoundTripper, region string) http.RoundTripper {
	if c.tokenFile != "" {
		return bearerTransport{base: orDefault(base), credentials: c}
	}
	return SigningTransport(base, c.keyID, c.secret, region)
}

// Present is base with the credentials of a file in each request that it is handed, and base alone for no file.
func Present(file string, base http.RoundTripper, region string) (http.RoundTripper, error) {
	if file == "" {
		return base, nil
	}
	c, err := ReadCredentials(file)
	if err != nil {
		return nil, err
	}
	return c.Transport(base, region), nil
}

// token is what the file of the token holds now.
func (c *Credentials) token() (string, error) {
	data, err := readBounded(c.tokenFile, maxCredentialsFile)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if token == "" || strings.ContainsFunc(token, odd) {
		return "", errors.New("token file: " + c.tokenFile + " must hold a token and nothing else")
	}
	return token, nil
}

type bearerTransport struct {
	base        http.RoundTripper
	credentials *Credentials
}

// RoundTrip sends a copy of the request, with the token.
func (t bearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := t.credentials.token()
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper must, and the error that counts is the other
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return t.base.RoundTrip(r)
}
