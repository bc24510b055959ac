package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// again sends every request twice, byte by byte the same, and answers with the second answer.
type again struct{}

func (again) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	for range 2 {
		one := r.Clone(r.Context())
		one.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := http.DefaultTransport.RoundTrip(one)
		if err != nil || resp.Header.Get("Again") == "" {
			return resp, err
		}
		_ = resp.Body.Close()
	}
	return nil, errors.New("the second answer wants a third")
}

// A signed request that failed before anything was done may come again as it is; one that was done, or may have been, not.
func TestSignedRequestComesAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "callers.json")
	if err := os.WriteFile(file, []byte(`{"accessKeys": [{"accessKeyId": "k", "secretAccessKey": "k", "id": "k", "account": "123456789012", "roles": ["admin"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	errAway, errUnclear := errors.New("away"), errors.New("unclear")
	for _, first := range []error{errAway, errUnclear, nil} {
		callers, err := identity.New(identity.Config{CallersFile: file})
		if err != nil {
			t.Fatal(err)
		}
		edge := rpc.New(rpc.Config{Callers: callers, Access: everybody{}, Errors: []rpc.Rule{
			{Is: errAway, Code: connect.CodeUnavailable, Undone: true}, {Is: errUnclear, Code: connect.CodeUnavailable},
		}})
		calls := 0
		mux := http.NewServeMux()
		mux.Handle(echo, connect.NewUnaryHandlerSimple(echo, func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) {
			if calls++; calls == 1 {
				return in, first
			}
			return in, nil
		}, edge.HandlerOptions()...))
		handler := edge.Handler(mux)
		served := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if served++; served == 1 {
				w.Header().Set("Again", "yes")
			}
			handler.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		client := &http.Client{Transport: identity.SigningTransport(again{}, "k", "k", "us-east-1")}
		resp, err := client.Post(server.URL+echo, "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		want, wantCalls := http.StatusUnauthorized, 1
		if errors.Is(first, errAway) {
			want, wantCalls = http.StatusOK, 2
		}
		if resp.StatusCode != want || calls != wantCalls {
			t.Errorf("after %v: %s, %d calls", first, resp.Status, calls)
		}
	}
}
