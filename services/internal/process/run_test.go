package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// journal notes what happened, in order.
type journal struct {
	mu    sync.Mutex
	notes []string
}

func (j *journal) add(note string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notes = append(j.notes, note)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.notes)
}

func newProcess(t *testing.T, timeout time.Duration) *Process {
	t.Helper()
	p, err := New("test", Common{Addr: "127.0.0.1:0", ShutdownTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	p.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	if err := p.Listen(); err != nil {
		t.Fatal(err)
	}
	return p
}

// launch runs p until end is called; end returns what Run returned.
func launch(t *testing.T, p *Process) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- p.Run(ctx) }()
	end = sync.OnceValue(func() error {
		cancel()
		return <-result
	})
	t.Cleanup(func() { _ = end() })
	return end
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Proto + " " + string(text)
}

// clients speak HTTP/1.1 and HTTP/2 in the clear.
func clients(t *testing.T) map[string]*http.Client {
	t.Helper()
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	all := map[string]*http.Client{
		"HTTP/1.1": {Transport: &http.Transport{}},
		"HTTP/2.0": {Transport: &http.Transport{Protocols: h2c}},
	}
	for _, c := range all {
		t.Cleanup(c.CloseIdleConnections)
	}
	return all
}

func TestServesItsOwnPagesOnBothVersionsOfHTTP(t *testing.T) {
	t.Parallel()
	p := newProcess(t, time.Minute)
	p.Health.Register("database", true, func(context.Context) error { return nil })
	p.Handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "app at "+r.URL.Path) }))
	end := launch(t, p)
	for proto, client := range clients(t) {
		for path, want := range map[string]string{
			"/healthz": "ok\n",
			"/readyz":  `{"condition":"database","ok":true,"required":true,"detail":""}`,
			"/metrics": `verdict_build_info{go="go1`,
			"/else":    "app at /else",
		} {
			status, text := get(t, client, "http://"+p.Addr()+path)
			if status != http.StatusOK || !strings.HasPrefix(text, proto) || !strings.Contains(text, want) {
				t.Errorf("%s: %d %.200s", path, status, text)
			}
		}
	}
	_, text := get(t, http.DefaultClient, "http://"+p.Addr()+"/metrics")
	for _, want := range []string{"go_goroutines ", "process_open_fds ", `service="test"`, `verdict_condition{condition="database",required="true"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// The order that the package promises, with a request in flight, on both versions of HTTP.
func TestShutdownOrder(t *testing.T) {
	t.Parallel()
	for proto, client := range clients(t) {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			testShutdownOrder(t, client)
		})
	}
}

func testShutdownOrder(t *testing.T, client *http.Client) {
	p := newProcess(t, time.Minute)
	var j journal
	entered, leave := make(chan struct{}), make(chan struct{})
	p.Handle(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		if r.Context().Err() != nil {
			t.Error("the request in flight was cancelled")
		}
		j.add("request finished")
	}))
	for _, name := range []string{"relay", "worker"} {
		p.Go(name, func(ctx context.Context) error {
			<-ctx.Done()
			j.add("component stopped")
			return ctx.Err()
		})
	}
	for _, name := range []string{"decision log", "nats", "store"} {
		p.OnClose(name, func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded || ctx.Err() != nil {
				t.Errorf("%s is closed without a bound or too late", name)
			}
			j.add("closed " + name)
			return nil
		})
	}
	end := launch(t, p)
	answered := make(chan int, 1)
	go func() {
		status, _ := get(t, client, "http://"+p.Addr()+"/")
		answered <- status
	}()
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	<-p.Draining()
	if _, ready := p.Health.Check(t.Context()); ready {
		t.Error("ready while shutting down")
	}
	refused(t, p.Addr())
	j.add("not accepting")
	close(leave)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if status := <-answered; status != http.StatusOK {
		t.Errorf("the request in flight got status %d", status)
	}
	want := []string{
		"not accepting", "request finished", "component stopped", "component stopped",
		"closed decision log", "closed nats", "closed store",
	}
	if got := j.all(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// refused returns once new connections to addr are refused.
func refused(t *testing.T, addr string) {
	t.Helper()
	for t.Context().Err() == nil {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + addr + "/healthz")
		if err != nil {
			return
		}
		_ = resp.Body.Close()
	}
}

func TestRequestsThatOutliveTheBoundAreCutOff(t *testing.T) {
	t.Parallel()
	p := newProcess(t, 50*time.Millisecond)
	var j journal
	entered := make(chan struct{})
	p.Handle(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		j.add("request cut off")
	}))
	p.OnClose("store", func(context.Context) error {
		j.add("closed")
		return nil
	})
	end := launch(t, p)
	// While its body is not read, net/http does not notice that a connection was closed.
	body, _ := io.Pipe()
	go func() {
		if resp, err := http.Post("http://"+p.Addr()+"/", "text/plain", body); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	err := end()
	if err == nil || !strings.Contains(err.Error(), "requests in flight did not finish within 50ms and were cut off") {
		t.Error(err)
	}
	if got := j.all(); !slices.Equal(got, []string{"request cut off", "closed"}) {
		t.Errorf("%q", got)
	}
}

// A client that sends half a body and goes quiet is not waited for.
func TestBodiesMustArrive(t *testing.T) {
	t.Parallel()
	p := newProcess(t, time.Minute)
	p.readTimeout = 10 * time.Millisecond
	failed := make(chan error, 2)
	p.Handle(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		failed <- err
	}))
	launch(t, p)
	for proto, client := range clients(t) {
		body, writer := io.Pipe()
		go func() { _, _ = io.WriteString(writer, "half") }()
		go func() {
			if resp, err := client.Post("http://"+p.Addr()+"/", "text/plain", body); err == nil {
				_ = resp.Body.Close()
			}
		}()
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", proto, err)
		}
		_ = writer.Close()
	}
}

// The time a body may take is not the time an answer may take.
func TestAnswersMayTakeLongerThanBodies(t *testing.T) {
	t.Parallel()
	p := newProcess(t, time.Minute)
	p.readTimeout = 50 * time.Millisecond
	p.Handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		timer := time.NewTimer(3 * p.readTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			_, _ = io.WriteString(w, "late")
		case <-r.Context().Done():
			t.Error(context.Cause(r.Context()))
		}
	}))
	launch(t, p)
	for proto, client := range clients(t) {
		for range 2 { // the second time on the same connection
			resp, err := client.Post("http://"+p.Addr()+"/", "text/plain", strings.NewReader("all of it"))
			if err != nil {
				t.Errorf("%s: %v", proto, err)
				continue
			}
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "late" {
				t.Errorf("%s: %q %v", proto, text, err)
			}
			_ = resp.Body.Close()
		}
	}
}

func TestAComponentThatFailsEndsTheProcess(t *testing.T) {
	t.Parallel()
	p := newProcess(t, time.Minute)
	var log bytes.Buffer
	p.Logger = slog.New(slog.NewTextHandler(&log, nil))
	broken := errors.New("stream is gone")
	var j journal
	p.Go("relay", func(context.Context) error { return broken })
	p.Go("worker", func(ctx context.Context) error {
		<-ctx.Done()
		j.add("worker stopped")
		return nil
	})
	p.Go("once", func(context.Context) error { return nil })
	p.OnClose("store", func(context.Context) error {
		j.add("closed")
		return errors.New("later error")
	})
	err := p.Run(t.Context())
	if !errors.Is(err, broken) || err.Error() != "relay: stream is gone" {
		t.Error(err)
	}
	if got := j.all(); !slices.Equal(got, []string{"worker stopped", "closed"}) {
		t.Errorf("%q", got)
	}
	text := log.String()
	if strings.Count(text, "stream is gone") != 1 || strings.Count(text, "later error") != 1 {
		t.Errorf("each error once in\n%s", text)
	}
}

// A component that returns without an error is finished; the process goes on.
func TestAComponentMayFinish(t *testing.T) {
	t.Parallel()
	p := newProcess(t, time.Minute)
	finished := make(chan struct{})
	p.Go("migration", func(context.Context) error {
		defer close(finished)
		return nil
	})
	end := launch(t, p)
	<-finished
	if status, _ := get(t, http.DefaultClient, "http://"+p.Addr()+"/healthz"); status != http.StatusOK {
		t.Error(status)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfTheShutdownAreReturned(t *testing.T) {
	t.Parallel()
	p := newProcess(t, time.Minute)
	p.Go("relay", func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("flush: %w", io.ErrShortWrite)
	})
	closed := false
	p.OnClose("nats", func(context.Context) error { return errors.New("drain failed") })
	p.OnClose("store", func(context.Context) error {
		closed = true
		return nil
	})
	err := launch(t, p)()
	if !errors.Is(err, io.ErrShortWrite) || !closed {
		t.Errorf("%v, store closed: %t", err, closed)
	}
}

func TestWhatDoesNotStopIsLeftBehind(t *testing.T) {
	t.Parallel()
	p := newProcess(t, 200*time.Millisecond)
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	p.Go("relay", func(context.Context) error {
		<-forever
		return nil
	})
	closed := false
	p.OnClose("nats", func(context.Context) error {
		<-forever
		return nil
	})
	p.OnClose("store", func(context.Context) error {
		closed = true
		return nil
	})
	err := launch(t, p)()
	if err == nil || !strings.Contains(err.Error(), "relay did not end within 200ms and was left behind") || !closed {
		t.Errorf("%v, store closed: %t", err, closed)
	}
}

func TestAddressFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "addr")
	if err := os.WriteFile(file, []byte("stale"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(addr string) (*Process, error) {
		p, err := New("test", Common{Addr: addr, AddrFile: file})
		if err != nil {
			t.Fatal(err)
		}
		p.Logger = slog.New(slog.DiscardHandler)
		return p, p.Listen()
	}
	p, err := start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Abandon(nil) }()
	if got, err := os.ReadFile(file); err != nil || string(got) != p.Addr() {
		t.Errorf("%s in the file, %s listened on, %v", got, p.Addr(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	// Who cannot listen leaves no address behind, not even that of before.
	if _, err := start("10.0.0.1:0"); err == nil {
		t.Error("listens on 10.0.0.1")
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error("the old address is still there")
	}
}

func TestAStartThatFailsClosesWhatIsOpen(t *testing.T) {
	t.Parallel()
	p, err := New("test", Common{Addr: "0.0.0.0:0"})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	p.OnClose("store", func(context.Context) error {
		closed = true
		return nil
	})
	if err := p.Run(t.Context()); err == nil || !closed {
		t.Errorf("%v, closed %t", err, closed)
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	logger, err := NewLogger(&b, "control", "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("no")
	logger.Warn("yes")
	if got := b.String(); strings.Contains(got, `"no"`) || !strings.Contains(got, `"msg":"yes","service":"control"`) {
		t.Error(got)
	}
	for _, wrong := range [][2]string{{"loud", "text"}, {"info", "xml"}} {
		if _, err := NewLogger(&b, "x", wrong[0], wrong[1]); err == nil {
			t.Errorf("%v", wrong)
		}
	}
	if _, err := New("x", Common{LogLevel: "loud"}); err == nil {
		t.Error("a process with a log level that is none")
	}
}
