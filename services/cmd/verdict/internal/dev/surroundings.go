package dev

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/verdict-io/verdict/services/internal/example"
)

// What the agent of the example shows to get a token.
const (
	agentID     = "refund-agent"
	agentSecret = "refund-agent" // of an issuer that nobody but this machine believes
)

// surroundings is what the example needs that is not Verdict: an issuer of tokens, and the function behind the tool.
type surroundings struct {
	url    string
	server *http.Server
	failed chan error
}

// startSurroundings serves both at one address.
func startSurroundings(ctx context.Context, dir, addr string) (*surroundings, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &surroundings{url: "http://" + listener.Addr().String(), failed: make(chan error, 1)}
	issuer, err := example.NewIssuer(example.IssuerConfig{
		URL: s.url, KeyFile: filepath.Join(dir, "issuer-key.pem"), Clients: []example.Client{{ID: agentID, Secret: agentSecret}},
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	functions := example.NewFunctions()
	functions.Register("refund", example.ProcessRefund)
	s.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/2015-03-31/functions/") {
			functions.ServeHTTP(w, r)
			return
		}
		issuer.ServeHTTP(w, r)
	})}
	go func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	return s, nil
}

// stop ends it. Nobody is there any more who would wait for an answer.
func (s *surroundings) stop() { _ = s.server.Close() }
