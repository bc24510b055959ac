package process_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/internal/process"
)

var errWentBack = errors.New("the log is behind what was published: an operator must adopt or fork it")

// eventLog stands in for what a service opens.
type eventLog struct{ closed chan struct{} }

func openLog(context.Context, string) (*eventLog, error) {
	return &eventLog{closed: make(chan struct{})}, nil
}

func (l *eventLog) ping(context.Context) error     { return nil }
func (l *eventLog) relaying(context.Context) error { return errors.New("stopped") }
func (l *eventLog) close(context.Context) error    { return nil }
func (l *eventLog) relay(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// The example works: readiness with a stopped relay, an RPC through the edge, an end without error.
func TestExampleServes(t *testing.T) {
	t.Parallel()
	var cfg config
	fs := process.NewFlags("control", "x")
	cfg.register(fs)
	file := filepath.Join(t.TempDir(), "addr")
	if err := fs.Parse([]string{"--addr=:0", "--addr-file=" + file, "--postgres-url=x"}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- serve(ctx, &cfg) }()
	var addr []byte
	for len(addr) == 0 && ctx.Err() == nil {
		addr, _ = os.ReadFile(file) // not there until the service listens
		select {
		case err := <-result:
			t.Fatalf("ended before it listened: %v", err)
		default:
		}
	}
	resp := do(t, http.MethodGet, "http://"+string(addr)+"/readyz", "")
	if !strings.HasPrefix(resp, "200 ") ||
		!strings.Contains(resp, `{"condition":"relay","ok":false,"required":false,"detail":"stopped"}`) {
		t.Error(resp)
	}
	resp = do(t, http.MethodPost, "http://"+string(addr)+"/verdict.control.v1.ControlService/NoSuchProcedure", "{}")
	if !strings.Contains(resp, "unimplemented") {
		t.Error(resp)
	}
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func do(t *testing.T, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + " " + string(text)
}
