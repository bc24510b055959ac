package drive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

const (
	// timeout bounds one request.
	timeout = 10 * time.Second
	// retryPause keeps a server that is away from being asked all the time.
	retryPause = 50 * time.Millisecond
	// maxAnswer is far above any answer.
	maxAnswer = 1 << 20
)

// ErrAway: the connection failed, or the server said that it cannot answer now. Sending the request again may help.
var ErrAway = errors.New("no answer")

// ErrRefused: the server answered with an error.
var ErrRefused = errors.New("the server answered with an error")

// connection is one of a Driver's, used by one goroutine at a time.
type connection struct {
	cfg       *Config
	url       *url.URL
	transport *http.Transport
	dice      *rand.Rand
}

// work is the loop.
func (c *connection) work(ctx context.Context, r *run, t *Tally) {
	for ctx.Err() == nil && r.next() {
		call := &c.cfg.Calls[c.dice.IntN(len(c.cfg.Calls))]
		began := time.Now()
		answer, err := c.insist(ctx, r, t, call.Body)
		switch {
		case err == nil:
			t.Latencies = append(t.Latencies, microseconds(time.Since(began)))
			t.Answers++
			if err := call.Check(answer); err != nil {
				r.stop(err)
			}
		case ctx.Err() == nil: // else it was the end of the run that failed it
			t.Errors++
			t.LastError = err
			r.fail(err)
		}
	}
}

// insist sends a request until it is answered, or refused, or there is no more time for it.
func (c *connection) insist(ctx context.Context, r *run, t *Tally, body []byte) ([]byte, error) {
	giveUp := time.Now().Add(c.cfg.RetryFor)
	for {
		answer, err := c.send(ctx, body)
		if !errors.Is(err, ErrAway) || r.over() || !time.Now().Before(giveUp) {
			return answer, err
		}
		t.LastError = err
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retryPause):
			t.Retries++
		}
	}
}

// send sends a request once.
func (c *connection) send(ctx context.Context, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := (&http.Request{
		Method: http.MethodPost, URL: c.url, Host: c.url.Host, Header: http.Header{"Content-Type": {c.cfg.ContentType}},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(ctx)
	response, err := c.transport.RoundTrip(request) // which follows no redirect
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrAway, err)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("%w: the answer has more than %d bytes", ErrRefused, maxAnswer)
	case response.StatusCode == http.StatusServiceUnavailable:
		return nil, fmt.Errorf("%w: %s: %.500q", ErrAway, response.Status, answer)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s: %.500q", ErrRefused, response.Status, answer)
	default:
		return answer, nil
	}
}
