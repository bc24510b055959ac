package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Credentials are how one of our own programs makes itself known to another: an access key, or a file with a token. The form of
// their file is JSON.
type Credentials struct {
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	// TokenFile holds a bearer token, and is read again when it has become another, as Kubernetes does.
	TokenFile string `json:"tokenFile,omitempty"`
}

// ReadCredentials reads a file of them.
func ReadCredentials(name string) (Credentials, error) {
	var c Credentials
	if err := readJSON(name, &c); err != nil {
		return c, fmt.Errorf("credentials: %w", err)
	}
	key := c.AccessKeyID != "" && c.SecretAccessKey != ""
	if key == (c.TokenFile != "") || !key && (c.AccessKeyID != "" || c.SecretAccessKey != "") {
		return c, fmt.Errorf("credentials: %s needs either accessKeyId and secretAccessKey, or tokenFile", name)
	}
	return c, nil
}

// Transport sends requests through base with the credentials in them. It is for unary requests and for streams of answers: to be
// signed, a body is read to its end first. Zero Credentials are base itself.
func (c Credentials) Transport(base http.RoundTripper, region string) http.RoundTripper {
	switch {
	case c.AccessKeyID != "":
		return &signing{base: base, credentials: c, region: region, signer: v4.NewSigner()}
	case c.TokenFile != "":
		return &bearing{base: base, file: c.TokenFile}
	default:
		return base
	}
}

type signing struct {
	base        http.RoundTripper
	credentials Credentials
	region      string
	signer      *v4.Signer
}

// RoundTrip implements http.RoundTripper.
func (s *signing) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	signed := r.Clone(r.Context())
	if len(body) > 0 {
		signed.Body, signed.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		signed.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	} else {
		signed.Body, signed.ContentLength, signed.GetBody = http.NoBody, 0, nil
	}
	sum := sha256.Sum256(body)
	key := aws.Credentials{AccessKeyID: s.credentials.AccessKeyID, SecretAccessKey: s.credentials.SecretAccessKey}
	if err := s.signer.SignHTTP(context.WithoutCancel(r.Context()), key, signed, hex.EncodeToString(sum[:]), SigningName, s.region, time.Now()); err != nil {
		return nil, err
	}
	return s.base.RoundTrip(signed)
}

// tokenAge is how long a token is used before its file is read again.
const tokenAge = time.Minute

type bearing struct {
	base http.RoundTripper
	file string

	mu    sync.Mutex
	token string    // guarded by mu
	read  time.Time // guarded by mu
}

// RoundTrip implements http.RoundTripper.
func (b *bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.current()
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", schemeBearer+token)
	return b.base.RoundTrip(r)
}

func (b *bearing) current() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.token != "" && time.Since(b.read) < tokenAge {
		return b.token, nil
	}
	data, err := readBounded(b.file, maxToken)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \r\n") {
		return "", errors.New("token file: " + b.file + " does not hold one token")
	}
	b.token, b.read = token, time.Now()
	return token, nil
}
