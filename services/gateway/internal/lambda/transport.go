package lambda

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// errTooLarge: a function's answer has more bytes than are taken.
var errTooLarge = errors.New("the answer is too large")

// maxRefusal is how much is read of an answer that is not a function's.
const maxRefusal = 64 << 10

// boundedClient sends requests to what may answer for ever. The SDK reads what it gets, to the end, so the end is put here.
type boundedClient struct {
	client    http.Client
	maxAnswer int
}

func newBoundedClient(given *http.Client, maxAnswer int) *boundedClient {
	b := &boundedClient{maxAnswer: maxAnswer}
	if given != nil {
		b.client = *given
	} else {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = transport.MaxIdleConns // there may be no other host
		b.client.Transport = transport
	}
	// A redirect is not followed: it would show the signature, and perhaps run the function, elsewhere.
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

// Do sends a request.
func (b *boundedClient) Do(r *http.Request) (*http.Response, error) {
	r, err := detach(r)
	if err != nil {
		return nil, err
	}
	// With this the transport unpacks nothing, and what comes packed all the same is no JSON. Nothing grows.
	r.Header.Set("Accept-Encoding", "identity")
	response, err := b.client.Do(r) //nolint:gosec // the operator names the endpoint, or else AWS's is asked
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxRefusal), response.Body}
		return response, nil
	}
	response.Body = &boundedBody{body: response.Body, left: b.maxAnswer}
	return response, nil
}

// detach gives a request a body that stays open. The SDK closes its own as soon as an answer begins, at which net/http may still
// look whether the body has ended: it then takes the request for broken, ends the connection and with it the answer. With GetBody
// net/http takes another connection when a kept one turns out to be closed before anything was written to it, and only then.
func detach(r *http.Request) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.WithContext(r.Context())
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, err = r.GetBody()
	return r, err
}

// boundedBody fails when more is read than was left.
type boundedBody struct {
	body io.ReadCloser
	left int
}

// Read fails for good once there was too much.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLarge
	}
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	if b.left -= n; b.left < 0 {
		return n - 1, errTooLarge
	}
	return n, err
}

// Close ends the connection unless all was read.
func (b *boundedBody) Close() error { return b.body.Close() }

// newRetryer sends an invocation again that has certainly not run a function, twice at most. Everything else may have run one,
// and a decision allows one run.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 3
		o.RateLimiter = ratelimit.None // what one target costs must not be taken from the others
		o.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary { return aws.BoolTernary(notRun(err)) })}
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			wait := 100 * time.Millisecond << min(attempt, 3)
			return wait/2 + rand.N(wait), nil //nolint:gosec // spreads load, guards nothing
		})
	})
}

// notRun is true when no function can have been run: nobody listened, or Lambda says so. The SDK makes up a response, with status 0,
// where there was none.
func notRun(err error) bool {
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.HTTPStatusCode() != 0 {
		return response.HTTPStatusCode() == http.StatusTooManyRequests
	}
	return isDial(err) && errors.Is(err, syscall.ECONNREFUSED)
}
