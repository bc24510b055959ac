package lambda_test

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
)

// target is one that the test takes away and gives back, in a bubble of synctest.
type target struct {
	*lambda.Functions

	t     *testing.T
	mode  atomic.Value // of string
	asked atomic.Int64
}

func newTarget(t *testing.T) *target {
	t.Helper()
	x := &target{t: t}
	x.mode.Store("ok")
	client := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		x.asked.Add(1)
		switch x.mode.Load() {
		case "hangs":
			<-r.Context().Done()
		case "fails":
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
			says(`{"errorMessage":"no"}`)(w, r)
		case "busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "garbage":
			says("<html>")(w, r)
		case "forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "down":
			w.WriteHeader(http.StatusBadGateway)
		default:
			says("{}")(w, r)
		}
	})
	x.Functions = functions(t, lambda.Config{Endpoint: "http://lambda.example", HTTP: client, Registerer: prometheus.NewRegistry()})
	return x
}

// calls so many times; the kind of the last failure, "" when there was none.
func (x *target) calls(mode string, times int) (last lambda.Kind) {
	x.t.Helper()
	x.mode.Store(mode)
	for range times {
		last = ""
		if _, err := x.Invoke(x.t.Context(), call()); err != nil {
			last = failure(x.t, err).Kind
		}
	}
	return last
}

// A target that does not answer is left alone after five calls, for ten seconds; then one call finds out.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTarget(t)
		x.calls("hangs", 4)
		if err := x.Ready(key); err != nil {
			t.Errorf("after four failures: %v", err)
		}
		began := time.Now()
		if got := x.calls("hangs", 1); got != lambda.Timeout || time.Since(began) != lambda.DefaultTimeout {
			t.Errorf("%s after %v", got, time.Since(began))
		}
		if failure(t, x.Ready(key)).Kind != lambda.Unavailable {
			t.Error("it is ready after five failures")
		}
		began = time.Now()
		if got := x.calls("ok", 3); got != lambda.Unavailable || x.asked.Load() != 5 || time.Since(began) != 0 {
			t.Errorf("left alone: %s, asked %d times, %v", got, x.asked.Load(), time.Since(began))
		}
		other := key
		other.Account = "222222222222"
		if err := x.Ready(other); err != nil {
			t.Errorf("the target of another account: %v", err)
		}

		time.Sleep(10*time.Second + 1)
		if err := x.Ready(key); err != nil {
			t.Errorf("nobody may find out: %v", err)
		}
		if x.calls("hangs", 1); x.asked.Load() != 6 || x.Ready(key) == nil {
			t.Errorf("one that failed again: asked %d times", x.asked.Load())
		}
		time.Sleep(10*time.Second + 1)
		if got := x.calls("ok", 5); got != "" || x.Ready(key) != nil {
			t.Errorf("it is back: %s, %v", got, x.Ready(key))
		}
	})
}

// While one call finds out, all others wait for what it finds, and are told so at once.
func TestBreakerLetsOneThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTarget(t)
		x.calls("down", 5)
		time.Sleep(10*time.Second + 1)
		ctx, cancel := context.WithCancel(t.Context())
		x.mode.Store("hangs")
		probe := make(chan error)
		go func() {
			_, err := x.Invoke(ctx, call())
			probe <- err
		}()
		synctest.Wait()
		if got := x.calls("ok", 10); got != lambda.Unavailable || x.asked.Load() != 6 || x.Ready(key) == nil {
			t.Errorf("%s, asked %d times, ready: %v", got, x.asked.Load(), x.Ready(key))
		}
		cancel()
		if err := <-probe; failure(t, err).Kind != lambda.Canceled {
			t.Errorf("given up: %v", err)
		}
		// It found nothing out, so another may.
		if err := x.Ready(key); err != nil {
			t.Error(err)
		}
		if got := x.calls("ok", 1); got != "" {
			t.Error(got)
		}
	})
}

// What answers is there: the arguments of one caller take the tool from nobody.
func TestBreakerStaysClosed(t *testing.T) {
	for _, mode := range []string{"fails", "busy", "garbage", "forbidden"} {
		synctest.Test(t, func(t *testing.T) {
			x := newTarget(t)
			x.calls(mode, 20)
			if err := x.Ready(key); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		x := newTarget(t)
		x.mode.Store("hangs")
		for range 20 { // who waits less than the target may take shows nothing of the target
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := x.Invoke(ctx, call())
			cancel()
			if failure(t, err).Kind != lambda.Timeout {
				t.Error(err)
			}
		}
		if err := x.Ready(key); err != nil {
			t.Error(err)
		}
	})
}

// A target that is gone takes what was known of it along.
func TestRetain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTarget(t)
		x.calls("down", 5)
		x.Retain(func(k lambda.Key) bool { return k == key })
		if x.Ready(key) == nil {
			t.Error("one that is still there was forgotten")
		}
		x.Retain(func(lambda.Key) bool { return false })
		if err := x.Ready(key); err != nil {
			t.Error(err)
		}
	})
}
