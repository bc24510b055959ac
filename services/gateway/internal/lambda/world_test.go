package lambda_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

const arn = "arn:aws:lambda:us-east-1:123456789012:function:tool"

var key = lambda.Key{Account: "123456789012", Gateway: "gw-1", Target: "TARGET0001"}

func call() lambda.Call {
	return lambda.Call{Target: key, ARN: arn, Tool: "RefundTarget___process_refund", MessageID: "7", RequestID: "req-1", Arguments: []byte(`{"amount":500}`)}
}

// functions are those of a config that the test changes.
func functions(t testing.TB, config lambda.Config) *lambda.Functions {
	t.Helper()
	config.Logger = testenv.Logger(t)
	f, err := lambda.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// counting is a server in the place of Lambda, and how often it was asked.
func counting(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	asked := &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees a client go once it has read the request
		asked.Add(1)
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return server, asked
}

// failure is the one that an error must be.
func failure(t testing.TB, err error) *lambda.Failure {
	t.Helper()
	f, ok := errors.AsType[*lambda.Failure](err)
	if !ok {
		t.Fatalf("%v is no failure", err)
	}
	return f
}

// memory serves within the process, so that a bubble of synctest holds both ends and their clock.
type memory struct {
	conns chan net.Conn
	ended chan struct{}
}

// inMemory is a client of a handler, whatever host it asks.
func inMemory(t testing.TB, handler http.HandlerFunc) *http.Client {
	t.Helper()
	m := &memory{conns: make(chan net.Conn), ended: make(chan struct{})}
	server := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(m)
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case m.conns <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	})
	return &http.Client{Transport: transport}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case conn := <-m.conns:
		return conn, nil
	case <-m.ended:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	close(m.ended)
	return nil
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
