package follow

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
)

// What answers as control does not fill a follower's memory.
func TestMessagesOfControlAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/proto")
		_, _ = w.Write(make([]byte, maxEvents+1))
	}))
	defer server.Close()
	_, err := NewEvents(server.URL, http.DefaultTransport).Head(t.Context(), &eventv1.HeadRequest{})
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Error(err)
	}
}

// Credentials do not go where an answer points.
func TestControlIsNotFollowedElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked elsewhere") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	if _, err := NewEvents(server.URL, http.DefaultTransport).Head(t.Context(), &eventv1.HeadRequest{}); err == nil {
		t.Error("a redirect is an answer")
	}
}
