package identity

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

const (
	sigV4Algorithm = "AWS4-HMAC-SHA256"
	// SigningName is the service that requests are signed for, as the SDKs of AWS sign them for AgentCore.
	SigningName = "bedrock-agentcore"

	amzDateFormat = "20060102T150405Z"
	maxSigned     = 64 // headers of a signature
)

// errSignature says the same for a key that is not known, a secret that is wrong and a request that was changed.
var errSignature = refuse("the signature is not right: check the access key id and its secret, that the request is signed for " +
	"the Host, path, query and body with which it arrives here, and that no proxy changes these or a signed header")

// accessKey is one of the callers file. A signer keeps the key it derived last, so each has its own: one a day is derived.
type accessKey struct {
	credentials aws.Credentials
	signer      *v4.Signer
	memory      *memory
	caller      Caller
}

func newAccessKey(id, secret string) *accessKey {
	return &accessKey{credentials: aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, signer: v4.NewSigner()}
}

// newDecoy stands in for the keys that are not known, so that they cost the work of those that are.
func newDecoy() *accessKey { return newAccessKey("unknown", rand.Text()) }

// presigned says whether a query carries a signature.
func presigned(query string) bool {
	return query != "" && strings.Contains(strings.ToLower(query), "x-amz-signature=")
}

// authorization is a parsed Authorization header.
type authorization struct {
	keyID, date, region, service string
	headers                      []string // the names of those signed: lower case, in order
	signature                    [sha256.Size]byte
}

// parseAuthorization reads what stands behind AWS4-HMAC-SHA256.
func parseAuthorization(text string) (*authorization, error) {
	const form = "it must be " + sigV4Algorithm +
		" Credential=KEYID/YYYYMMDD/REGION/" + SigningName + "/aws4_request, SignedHeaders=host;x-amz-date, Signature=64 hex digits"
	fields := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, again := fields[name]; !ok || again || len(fields) == 3 {
			return nil, refuse("the Authorization header cannot be read: %s", form)
		}
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	a := &authorization{headers: strings.Split(fields["SignedHeaders"], ";")}
	n, err := hex.Decode(a.signature[:], []byte(fields["Signature"][:min(len(fields["Signature"]), 2*sha256.Size)]))
	if len(scope) != 5 || scope[4] != "aws4_request" || n != sha256.Size || err != nil || len(fields["Signature"]) != 2*sha256.Size {
		return nil, refuse("the Authorization header cannot be read: %s", form)
	}
	a.keyID, a.date, a.region, a.service = scope[0], scope[1], scope[2], scope[3]
	if len(a.headers) > maxSigned || !slices.IsSortedFunc(a.headers, strictly) || slices.ContainsFunc(a.headers, notLower) {
		return nil, refuse("the SignedHeaders of the Authorization header must be at most %d names in lower case and in order, each once", maxSigned)
	}
	return a, nil
}

// strictly makes equal neighbours unsorted.
func strictly(a, b string) int {
	if a == b {
		return -1
	}
	return strings.Compare(a, b)
}

// notLower finds what is not the name of a header in lower case.
func notLower(name string) bool {
	return name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// signature is who signed the request. What can be said without looking at a key is said first; after that there is
// one text for all that is wrong, until the signature is known to be right.
func (k *callers) signature(r *http.Request, text string, clock func() time.Time) (Caller, error) {
	auth, err := parseAuthorization(text)
	if err != nil {
		return Caller{}, err
	}
	at, err := k.checkSigned(r, auth)
	if err != nil {
		return Caller{}, err
	}
	hash, err := hashBody(r)
	if err != nil {
		return Caller{}, err
	}
	key, known := k.accessKeys[auth.keyID]
	if !known {
		key = k.decoy
	}
	want, err := key.sign(r, auth, hash, at)
	if err != nil || !hmac.Equal(want, auth.signature[:]) || !known {
		return Caller{}, errSignature
	}
	if now := clock(); at.Before(now.Add(-signatureWindow)) || at.After(now.Add(signatureWindow)) {
		return Caller{}, refuse("the request was signed at %s and here it is %s: signatures are taken for %s either way. "+
			"Sign it again, and set the clock of the machine that signs", stamp(at), stamp(now), signatureWindow)
	}
	caller := key.caller
	caller.signed = &signed{memory: key.memory, signature: auth.signature, at: at}
	return caller, nil
}

// checkSigned is when the request says it was signed, if it is signed for this service and covers what it must.
func (k *callers) checkSigned(r *http.Request, auth *authorization) (time.Time, error) {
	if len(k.accessKeys) == 0 {
		return time.Time{}, refuse("this service knows no access keys: use %s", k.methods())
	}
	if auth.region != k.region || auth.service != SigningName {
		return time.Time{}, refuse("the request must be signed for region %s and service %s", k.region, SigningName)
	}
	if r.Header["X-Amz-Security-Token"] != nil {
		return time.Time{}, refuse("temporary credentials of AWS (X-Amz-Security-Token) mean nothing here: sign with an " +
			"access key of this service, without a session token")
	}
	dates := r.Header["X-Amz-Date"]
	if len(dates) != 1 {
		return time.Time{}, refuse("the request must have one X-Amz-Date header, and has %d", len(dates))
	}
	at, err := time.Parse(amzDateFormat, dates[0])
	if err != nil || !strings.HasPrefix(dates[0], auth.date+"T") {
		return time.Time{}, refuse("X-Amz-Date must be a time as in 20261129T083000Z, on the day of the Credential")
	}
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		return time.Time{}, refuse("the query of the request cannot be read: escape what is no letter, digit, '-', '.', '_' or '~'")
	}
	return at, checkHeaders(r.Header, auth.headers)
}

// checkHeaders finds headers that must be signed and are not, and the other way round.
func checkHeaders(have http.Header, names []string) error {
	for _, name := range []string{"host", "x-amz-date"} {
		if !slices.Contains(names, name) {
			return refuse("the header %s must be among the SignedHeaders", name)
		}
	}
	for name := range have {
		lower := strings.ToLower(name)
		// These two say how the body is to be understood.
		must := strings.HasPrefix(lower, "x-amz-") || lower == "content-type" || lower == "content-encoding"
		if must && !slices.Contains(names, lower) {
			return refuse("the header %s must be among the SignedHeaders, since the request has it", clip(lower))
		}
	}
	for _, name := range names {
		if name != "host" && name != "content-length" && have[http.CanonicalHeaderKey(name)] == nil {
			return refuse("the header %s is among the SignedHeaders, and the request does not have it", clip(name))
		}
		switch name {
		case "authorization", "user-agent", "x-amzn-trace-id", "expect", "transfer-encoding":
			return refuse("the header %s cannot be signed, since proxies change it: leave it out of the SignedHeaders", name)
		}
	}
	return nil
}

// clip keeps what is repeated to a caller short.
func clip(text string) string { return text[:min(len(text), 64)] }

// hashBody reads the body, puts it back, and is the hex of its SHA-256.
func hashBody(r *http.Request) (string, error) {
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		var buf bytes.Buffer
		if r.ContentLength > 0 {
			buf.Grow(int(min(r.ContentLength, 32<<10)) + bytes.MinRead) // of what is only announced, no more
		}
		if _, err := buf.ReadFrom(r.Body); err != nil {
			return "", fmt.Errorf("reading the body, which is signed: %w", err)
		}
		body = buf.Bytes()
		r.Body = replacedBody{bytes.NewReader(body), r.Body}
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	switch said := r.Header["X-Amz-Content-Sha256"]; {
	case len(said) == 0 || len(said) == 1 && said[0] == hash:
		return hash, nil
	case strings.HasPrefix(said[0], "UNSIGNED-") || strings.HasPrefix(said[0], "STREAMING-"):
		return "", refuse("the body must be signed: X-Amz-Content-Sha256 must be the hex of its SHA-256, and not UNSIGNED-… or STREAMING-…")
	}
	return "", refuse("the body is not the one that was signed: its SHA-256 is not what X-Amz-Content-Sha256 says")
}

// replacedBody gives the bytes that were read from a body; closing it closes that.
type replacedBody struct {
	io.Reader
	io.Closer
}

// sign is the signature that the key gives to the request. AWS's own signer signs all headers that it is shown, so it
// gets a request that has those of the signature alone.
func (key *accessKey) sign(r *http.Request, auth *authorization, bodyHash string, at time.Time) ([]byte, error) {
	again := &http.Request{
		Method: r.Method,
		URL:    &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
		Host:   r.Host,
		Header: make(http.Header, len(auth.headers)),
	}
	for _, name := range auth.headers {
		switch name {
		case "host": // is not in Header
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			name = http.CanonicalHeaderKey(name)
			again.Header[name] = r.Header[name]
		}
	}
	if err := key.signer.SignHTTP(context.Background(), key.credentials, again, bodyHash, SigningName, auth.region, at); err != nil {
		return nil, err
	}
	_, signature, found := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	if !found {
		return nil, errors.New("the signer left no signature")
	}
	return hex.DecodeString(signature)
}
