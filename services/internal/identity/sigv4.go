package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// SigningName is the service that requests are signed for: that of AgentCore, so that its SDKs work unchanged.
const SigningName = "bedrock-agentcore"

const (
	schemeSigV4 = "AWS4-HMAC-SHA256"
	amzDate     = "20060102T150405Z"
	// signatureWindow is how far the time of a signature may be from ours, as with AWS.
	signatureWindow = 5 * time.Minute
	// maxAuthorization bounds the header; one of the SDKs has less than 500 bytes.
	maxAuthorization = 4 << 10
)

// signer keeps the keys derived for a day. Only requests of known access keys for our own region get to it: what it keeps grows
// with their number.
var signer = v4.NewSigner()

// signature is what a request was signed with.
type signature [sha256.Size]byte

// authorization is the header of a signed request, taken apart.
type authorization struct {
	keyID, date, region, service string
	headers                      []string // lower case, sorted
	signature                    signature
}

// errHeader: it was not written by a program that signs.
var errHeader = refuse("the Authorization header is not one of AWS Signature Version 4, which is " +
	"AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/" + SigningName + "/aws4_request, SignedHeaders=…, Signature=…")

func parseAuthorization(header string) (authorization, error) {
	var a authorization
	if len(header) > maxAuthorization {
		return a, errHeader
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(header[len(schemeSigV4):], ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := parts[name]; !ok || twice {
			return a, errHeader
		}
		parts[name] = value
	}
	scope := strings.Split(parts["Credential"], "/")
	given, err := hex.DecodeString(parts["Signature"])
	a.headers = strings.Split(parts["SignedHeaders"], ";")
	if len(parts) != 3 || len(scope) != 5 || scope[4] != "aws4_request" || err != nil || len(given) != len(a.signature) ||
		!slices.IsSorted(a.headers) || slices.Contains(a.headers, "") || strings.ToLower(parts["SignedHeaders"]) != parts["SignedHeaders"] {
		return a, errHeader
	}
	a.keyID, a.date, a.region, a.service, a.signature = scope[0], scope[1], scope[2], scope[3], signature(given)
	return a, nil
}

// errSignature is one text for whatever does not fit, so that nobody learns what would.
var errSignature = refuse("the signature is not right for this request: check the access key and its secret, that the body and the " +
	"signed headers arrive as they were signed, and that the request is signed for the service " + SigningName)

// sigV4 knows a caller by signing the request again, as the caller must have.
func (a *Authenticator) sigV4(r *http.Request, header string, known *callers) (Caller, error) {
	auth, err := parseAuthorization(header)
	if err != nil {
		return Caller{}, err
	}
	at, err := auth.complete(r)
	if err != nil {
		return Caller{}, err
	}
	key, ok := known.keys[auth.keyID]
	if !ok {
		return Caller{}, errSignature
	}
	hash, err := hashBody(r)
	if err != nil {
		return Caller{}, err
	}
	ours := auth.region == a.cfg.Region && auth.service == SigningName
	with := signer
	if !ours {
		with = v4.NewSigner()
	}
	if right, err := auth.verify(r, with, key, hash, at); err != nil || !right {
		return Caller{}, errSignature
	}
	// From here on it is the owner of the key who asks, and may know what is wrong.
	now := a.now()
	switch {
	case !ours:
		return Caller{}, refuse("the request is signed for service %q in region %q: this is %s in %s", auth.service, auth.region, SigningName, a.cfg.Region)
	case at.Sub(now).Abs() > signatureWindow:
		return Caller{}, refuse("the request was signed at %s, and here it is %s: more than %v apart. Sign it anew, with a clock that is right",
			at.Format(amzDate), now.UTC().Format(amzDate), signatureWindow)
	}
	return Caller{Account: key.Account, ID: key.ID, Roles: key.Roles, signature: auth.signature}, nil
}

// complete refuses a signature that leaves out what AWS wants in it, and is the time that it was made at.
func (auth *authorization) complete(r *http.Request) (time.Time, error) {
	at, err := time.Parse(amzDate, r.Header.Get("X-Amz-Date"))
	if err != nil || at.Format("20060102") != auth.date || len(r.Header["X-Amz-Date"]) != 1 {
		return at, refuse("a signed request has one X-Amz-Date header of the form %s, of the day in its Credential", amzDate)
	}
	if r.Header.Get("X-Amz-Security-Token") != "" {
		return at, refuse("temporary credentials are not known here: sign with an access key that was made for this service")
	}
	must := []string{"host"}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			must = append(must, name)
		}
	}
	for _, name := range must {
		if !slices.Contains(auth.headers, name) {
			return at, refuse("the header %s is not among the signed headers: it must be", name)
		}
	}
	return at, nil
}

// hashBody reads the whole body, puts it back, and checks what the request says of it.
func hashBody(r *http.Request) (string, error) {
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return "", fmt.Errorf("%w: the body could not be read: %w", ErrUnauthenticated, err)
		}
		_ = r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if said := r.Header.Get("X-Amz-Content-Sha256"); said != "" && said != hash {
		return "", refuse("X-Amz-Content-Sha256 is not the SHA-256 of the body, in hexadecimal: unsigned and streamed bodies are not taken")
	}
	return hash, nil
}

// verify signs what was signed: of the headers only those that were, and of the length nothing unless it was.
func (auth *authorization) verify(r *http.Request, with *v4.Signer, key AccessKey, hash string, at time.Time) (bool, error) {
	again := &http.Request{
		Method: r.Method, Host: r.Host, Header: http.Header{},
		URL: &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	for _, name := range auth.headers {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			name = http.CanonicalHeaderKey(name)
			if values, ok := r.Header[name]; ok {
				again.Header[name] = values
			}
		}
	}
	credentials := aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}
	if err := with.SignHTTP(context.Background(), credentials, again, hash, auth.service, auth.region, at); err != nil {
		return false, err
	}
	want, err := parseAuthorization(again.Header.Get("Authorization"))
	return err == nil && slices.Equal(want.headers, auth.headers) && subtle.ConstantTimeCompare(want.signature[:], auth.signature[:]) == 1, nil
}
