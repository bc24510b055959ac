package drive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verdict-io/verdict/loadtest/internal/drive"
)

const connections = 4

// echo answers with the request.
func echo(w http.ResponseWriter, r *http.Request) {
	if body, err := io.ReadAll(r.Body); err == nil {
		_, _ = w.Write(body)
	}
}

// cut ends the connection without an answer.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// newDriver drives handler with ten different calls, whose answer must be the request, unless change says otherwise.
func newDriver(t *testing.T, handler http.HandlerFunc, change func(*drive.Config)) (*drive.Driver, *atomic.Int64) {
	t.Helper()
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	cfg := drive.Config{URL: server.URL + "/path", ContentType: "text/test", Connections: connections}
	for i := range 10 {
		body := fmt.Sprintf("request %d", i)
		cfg.Calls = append(cfg.Calls, drive.Call{Body: []byte(body), Check: func(answer []byte) error {
			if string(answer) != body {
				return fmt.Errorf("%q is not %q", answer, body)
			}
			return nil
		}})
	}
	if change != nil {
		change(&cfg)
	}
	d, err := drive.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d, &opened
}

// expect compares the counts of a tally.
func expect(t *testing.T, got *drive.Tally, answers, errors, retries int) {
	t.Helper()
	if got.Answers != answers || len(got.Latencies) != answers || got.Errors != errors || got.Retries != retries {
		t.Errorf("%d answers with %d latencies, %d errors, %d retries; not %d, %d, %d (%v)",
			got.Answers, len(got.Latencies), got.Errors, got.Retries, answers, errors, retries, got.LastError)
	}
}

func TestRunSendsEachRequestOnceOverItsConnections(t *testing.T) {
	var seen atomic.Int64
	d, opened := newDriver(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		if r.Method != http.MethodPost || r.URL.Path != "/path" || r.Header.Get("Content-Type") != "text/test" || r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("%s %s with %v", r.Method, r.URL, r.Header)
		}
		echo(w, r)
	}, nil)
	for range 3 {
		tally, err := d.Run(t.Context(), drive.Limit{Requests: 101})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, tally, 101, 0, 0)
	}
	if seen.Load() != 303 {
		t.Errorf("the server saw %d requests", seen.Load())
	}
	if n := opened.Load(); n > connections {
		t.Errorf("%d connections were opened, not %d: they are not kept", n, connections)
	}
}

func TestRunKeepsAllConnectionsBusyAtOnce(t *testing.T) {
	var waiting atomic.Int64
	all := make(chan struct{})
	d, _ := newDriver(t, func(w http.ResponseWriter, r *http.Request) {
		if waiting.Add(1) == connections {
			close(all)
		}
		<-all
		echo(w, r)
	}, nil)
	tally, err := d.Run(t.Context(), drive.Limit{Requests: connections})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, tally, connections, 0, 0)
}

func TestRunEndsByItselfWhenTheTimeIsUp(t *testing.T) {
	var seen atomic.Int64
	d, _ := newDriver(t, func(w http.ResponseWriter, r *http.Request) { seen.Add(1); echo(w, r) }, nil)
	tally, err := d.Run(t.Context(), drive.Limit{Duration: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, tally, int(seen.Load()), 0, 0)
}

func TestAWrongAnswerEndsTheRun(t *testing.T) {
	var seen atomic.Int64
	wrong := errors.New("wrong")
	d, _ := newDriver(t, func(w http.ResponseWriter, r *http.Request) { seen.Add(1); echo(w, r) }, func(c *drive.Config) {
		for i := range c.Calls {
			c.Calls[i].Check = func([]byte) error { return wrong }
		}
		c.MaxErrors, c.RetryFor = 1_000_000, time.Hour // neither of which is about wrong answers
	})
	if _, err := d.Run(t.Context(), drive.Limit{Requests: 1_000_000}); !errors.Is(err, wrong) {
		t.Errorf("the run ended with %v", err)
	}
	if n := seen.Load(); n > connections {
		t.Errorf("%d requests were sent, though the first answer was wrong", n)
	}
}

func TestErrorsAreCountedUpToTheBound(t *testing.T) {
	for name, refuse := range map[string]http.HandlerFunc{
		"an error":         func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadRequest) },
		"unavailable":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) },
		"a cut connection": cut,
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("half"))
			cut(w, r)
		},
		"too long an answer": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, most := range []int{5, 4} {
				var seen atomic.Int64
				d, _ := newDriver(t, func(w http.ResponseWriter, r *http.Request) {
					if n := seen.Add(1); n%10 == 0 {
						refuse(w, r)
						return
					}
					echo(w, r)
				}, func(c *drive.Config) { c.MaxErrors = most })
				tally, err := d.Run(t.Context(), drive.Limit{Requests: 50})
				if (most == 4) != errors.Is(err, drive.ErrTooMany) || tally.LastError == nil {
					t.Errorf("5 of 50 requests failed with %v, %d may: %v", tally.LastError, most, err)
				}
				if most == 5 {
					expect(t, tally, 45, 5, 0)
				}
			}
		})
	}
}

// A request is sent again whether or not the server had done it.
func TestRequestsAreSentAgainUntilTheyAreAnswered(t *testing.T) {
	for name, away := range map[string]http.HandlerFunc{
		"unavailable":           func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) },
		"cut before it is read": cut,
		"cut within the answer": func(w http.ResponseWriter, r *http.Request) {
			echo(w, r)
			_ = http.NewResponseController(w).Flush()
			cut(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Int64
			d, _ := newDriver(t, func(w http.ResponseWriter, r *http.Request) {
				if n := seen.Add(1); n%10 == 0 {
					away(w, r)
					return
				}
				echo(w, r)
			}, func(c *drive.Config) { c.RetryFor = time.Hour })
			tally, err := d.Run(t.Context(), drive.Limit{Requests: 45})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, tally, 45, 0, int(seen.Load())-45)
			if tally.Retries == 0 || tally.LastError == nil {
				t.Errorf("%d retries, the last because of %v", tally.Retries, tally.LastError)
			}
		})
	}
}

func TestRefusedRequestsAreNotSentAgain(t *testing.T) {
	d, _ := newDriver(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such gateway", http.StatusNotFound) },
		func(c *drive.Config) { c.RetryFor = time.Hour })
	_, err := d.Run(t.Context(), drive.Limit{Requests: 9})
	if !errors.Is(err, drive.ErrRefused) || !strings.Contains(err.Error(), "no such gateway") {
		t.Errorf("the run ended with %v", err)
	}
}

func TestRetriesEndWithTheTime(t *testing.T) {
	d, _ := newDriver(t, cut, func(c *drive.Config) { c.RetryFor, c.MaxErrors = time.Hour, connections })
	tally, err := d.Run(t.Context(), drive.Limit{Duration: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if tally.Answers != 0 || tally.Errors != connections || tally.Retries == 0 {
		t.Errorf("%d answers, %d errors, %d retries", tally.Answers, tally.Errors, tally.Retries)
	}
}

func TestRunEndsWithItsContextAndCountsNoError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := make(chan struct{})
	defer close(held)
	d, _ := newDriver(t, func(http.ResponseWriter, *http.Request) { cancel(); <-held }, func(c *drive.Config) { c.RetryFor = time.Hour })
	tally, err := d.Run(ctx, drive.Limit{Requests: 100})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the run ended with %v", err)
	}
	expect(t, tally, 0, 0, 0)
}

func TestAskReturnsTheAnswerUnchecked(t *testing.T) {
	d, _ := newDriver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("other")) }, nil)
	call, answer, err := d.Ask(t.Context())
	if err != nil || string(answer) != "other" || string(call.Body) != "request 0" {
		t.Errorf("asked %q, got %q, %v", call.Body, answer, err)
	}
}

func TestPercentile(t *testing.T) {
	counted := make(drive.Latencies, 100)
	for i := range counted {
		counted[i] = uint32(100 - i)
	}
	counted.Sort()
	for _, test := range []struct {
		of   drive.Latencies
		p    float64
		want int
	}{
		{nil, 50, 0},
		{drive.Latencies{7}, 0.1, 7},
		{drive.Latencies{7}, 100, 7},
		{drive.Latencies{1, 2}, 50, 1},
		{drive.Latencies{1, 2}, 51, 2},
		{drive.Latencies{1, 2, 3}, 50, 2},
		{counted, 1, 1},
		{counted, 7, 7},
		{counted, 50, 50},
		{counted, 95, 95},
		{counted, 99, 99},
		{counted, 99.1, 100},
		{counted, 100, 100},
	} {
		if got := test.of.Percentile(test.p); got != time.Duration(test.want)*time.Microsecond {
			t.Errorf("%g %% of %d latencies: %s, not %d µs", test.p, len(test.of), got, test.want)
		}
	}
}
