package lambda_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
)

// breakOff ends the connection of a request that was read.
func breakOff(w http.ResponseWriter, before string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = conn.Write([]byte(before))
	_ = conn.Close()
}

func status(code int, kind, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amzn-Errortype", kind)
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"Type":"User","message":%q}`, message)
	}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

// endless writes until the other end has had enough.
func endless(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		for {
			if _, err := w.Write([]byte(strings.Repeat(" ", 32<<10))); err != nil {
				return
			}
		}
	}
}

func gzipBomb(w http.ResponseWriter, _ *http.Request) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	for range 64 {
		_, _ = zip.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	_ = zip.Close()
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(packed.Bytes())
}

const limit = 1 << 20

var hostile = []struct {
	name    string
	handler http.HandlerFunc
	kind    lambda.Kind
	asked   int64
}{
	{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, lambda.Timeout, 1},
	{"hangs in its answer", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"a":`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, lambda.Timeout, 1},
	{"endless", endless(http.StatusOK), lambda.TooLarge, 1},
	{"larger than it may be", says(`"` + strings.Repeat("x", limit-1) + `"`), lambda.TooLarge, 1},
	{"gzip bomb", gzipBomb, lambda.Garbage, 1},
	{"nothing", says(""), lambda.Garbage, 1},
	{"no JSON", says("<html>"), lambda.Garbage, 1},
	{"two values", says("{} {}"), lambda.Garbage, 1},
	{"no UTF-8", says("\"\xff\""), lambda.Garbage, 1},
	{"other status", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		says("{}")(w, r)
	}, lambda.Garbage, 1},
	{"no HTTP", func(w http.ResponseWriter, _ *http.Request) { breakOff(w, "220 mail.example ESMTP\r\n") }, lambda.Unavailable, 1},
	{"breaks off", func(w http.ResponseWriter, _ *http.Request) { breakOff(w, "") }, lambda.Unavailable, 1},
	{"breaks off in its answer", func(w http.ResponseWriter, _ *http.Request) {
		breakOff(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":")
	}, lambda.Unavailable, 1},
	{"500", status(500, "ServiceException", "10.1.2.3 is down"), lambda.Unavailable, 1},
	{"502", status(502, "EC2UnexpectedException", "10.1.2.3"), lambda.Unavailable, 1},
	{"503", says503, lambda.Unavailable, 1},
	{"504", status(504, "", ""), lambda.Unavailable, 1},
	{"500, endless", endless(500), lambda.Unavailable, 1},
	{"redirects", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}, lambda.Unavailable, 1},
	{"400", status(400, "InvalidRequestContentException", "Could not parse 10.1.2.3"), lambda.Refused, 1},
	{"403", status(403, "AccessDeniedException", "User: arn:aws:iam::123456789012:user/gw at 10.1.2.3"), lambda.Refused, 1},
	{"403, signature", status(403, "InvalidSignatureException", "The request signature\n\nThe Canonical String was\nx-amz-security-token:SESSION"), lambda.Refused, 1},
	{"404", status(404, "ResourceNotFoundException", "Function not found"), lambda.Refused, 1},
	{"408", status(408, "RequestTimeoutException", ""), lambda.Refused, 1},
	{"413", status(413, "RequestTooLargeException", ""), lambda.Refused, 1},
	{"429", status(429, "TooManyRequestsException", "Rate Exceeded."), lambda.Throttled, 3},
}

func says503(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Amz-Retry-After", "1")
	w.Header().Set("Retry-After", "1")
	status(503, "ServiceUnavailable", "10.1.2.3")(w, nil)
}

// Whatever stands in the place of Lambda, the caller gets a failure that says nothing of the inside, and what may have run is not
// run again.
func TestHostile(t *testing.T) {
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{}, 64)
			server, asked := counting(t, func(w http.ResponseWriter, r *http.Request) {
				defer func() { ended <- struct{}{} }()
				h.handler(w, r)
			})
			config := lambda.Config{Endpoint: server.URL, MaxAnswer: limit, Timeout: time.Minute}
			if h.kind == lambda.Timeout {
				config.Timeout = 50 * time.Millisecond
			}
			answer, err := functions(t, config).Invoke(t.Context(), call())
			f := failure(t, err)
			if f.Kind != h.kind || answer != nil {
				t.Errorf("%s (%s), want %s; answer %.20q", f.Kind, f.Detail, h.kind, answer)
			}
			n := asked.Load()
			if n != h.asked {
				t.Errorf("asked %d times, want %d", n, h.asked)
			}
			for range n {
				<-ended // an endless one too
			}
			for _, inside := range []string{strings.TrimPrefix(server.URL, "http://"), "127.0.0.1", "10.1.2.3", "arn:", "SESSION"} {
				if strings.Contains(f.Message, inside) {
					t.Errorf("the caller is told %s: %s", inside, f.Message)
				}
			}
			if f.Detail == "" || len(f.Detail) > 2100 || strings.Contains(f.Detail, "SESSION") {
				t.Errorf("detail %q", f.Detail)
			}
		})
	}
}

// An answer of exactly the limit is taken.
func TestLargestAnswer(t *testing.T) {
	server, _ := counting(t, says(`"`+strings.Repeat("x", limit-2)+`"`))
	answer, err := functions(t, lambda.Config{Endpoint: server.URL, MaxAnswer: limit}).Invoke(t.Context(), call())
	if err != nil || len(answer) != limit {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
}

// A kept connection that breaks when the next request is on it has taken this request: net/http and the SDK both like to repeat it.
func TestRunsOnceOnAKeptConnection(t *testing.T) {
	var runs atomic.Int64
	server, asked := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		if runs.Add(1)%2 == 0 {
			breakOff(w, "")
			return
		}
		says("{}")(w, nil)
	})
	f := functions(t, lambda.Config{Endpoint: server.URL})
	for i := range 10 {
		_, err := f.Invoke(t.Context(), call())
		if i%2 == 0 && err != nil || i%2 == 1 && failure(t, err).Kind != lambda.Unavailable {
			t.Errorf("call %d: %v", i, err)
		}
		if n := asked.Load(); n != int64(i+1) {
			t.Fatalf("%d calls ran %d times", i+1, n)
		}
	}
}

// What has certainly not run is tried again: a function that was busy, and a port where nobody listened.
func TestTriedAgain(t *testing.T) {
	var busy atomic.Int64
	server, asked := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		if busy.Add(1) < 3 {
			status(429, "TooManyRequestsException", "")(w, nil)
			return
		}
		says(`"done"`)(w, nil)
	})
	answer, err := functions(t, lambda.Config{Endpoint: server.URL}).Invoke(t.Context(), call())
	if err != nil || string(answer) != `"done"` || asked.Load() != 3 {
		t.Errorf("busy twice: %s, %v, asked %d times", answer, err, asked.Load())
	}

	gone := httptest.NewServer(nil)
	gone.Close()
	dials := 0
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials == 2 {
			address = server.Listener.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}}
	answer, err = functions(t, lambda.Config{Endpoint: gone.URL, HTTP: client}).Invoke(t.Context(), call())
	if err != nil || string(answer) != `"done"` || dials != 2 {
		t.Errorf("nobody listened: %s, %v, %d dials", answer, err, dials)
	}

	_, err = functions(t, lambda.Config{Endpoint: gone.URL}).Invoke(t.Context(), call())
	if got := failure(t, err); got.Kind != lambda.Unavailable || !strings.Contains(got.Message, "was not run") {
		t.Errorf("nobody listens: %+v", got)
	}
}

// A transport that may not connect is not asked again and again, and a connection that was refused in the middle may have run.
func TestNotTriedAgain(t *testing.T) {
	for name, dialed := range map[string]error{
		"forbidden by the transport": &net.OpError{Op: "dial", Err: syscall.EACCES},
		"refused while reading":      &net.OpError{Op: "read", Err: syscall.ECONNREFUSED},
	} {
		dials := 0
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, dialed
		}}}
		_, err := functions(t, lambda.Config{Endpoint: "http://127.0.0.1:1", HTTP: client}).Invoke(t.Context(), call())
		if failure(t, err).Kind != lambda.Unavailable || dials != 1 {
			t.Errorf("%s: %v, %d dials", name, err, dials)
		}
	}
}
