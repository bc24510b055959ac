package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// answer is a ResponseWriter that remembers the status, and that gives a body to refusals of net/http and of Connect
// which have none a program can read: unknown paths, wrong methods, wrong content types.
type answer struct {
	http.ResponseWriter

	request  *http.Request
	status   int  // 0 until the header is written
	replaced bool // the body was written here; what the handler writes is dropped
}

// Unwrap serves http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader is part of http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < http.StatusOK {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.status = status
	message := a.explain(status)
	if message == "" || strings.Contains(a.Header().Get("Content-Type"), "json") {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	body, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{codeOfStatus(status).String(), message})
	if err != nil { // strings can always be encoded
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.replaced = true
	a.Header().Set("Content-Type", "application/json")
	a.Header().Del("Content-Length")
	a.ResponseWriter.WriteHeader(status)
	_, _ = a.ResponseWriter.Write(body)
}

// explain is the text for a refusal that comes without one, "" for any other status.
func (a *answer) explain(status int) string {
	r := a.request
	switch status {
	case http.StatusNotFound:
		return fmt.Sprintf("there is nothing at %s: procedures are called as POST /<package>.<Service>/<Method>", clip(r.URL.Path))
	case http.StatusMethodNotAllowed:
		return fmt.Sprintf("%s takes %s, not %s", clip(r.URL.Path), a.Header().Get("Allow"), clip(r.Method))
	case http.StatusUnsupportedMediaType:
		return fmt.Sprintf("the content type %q is not understood here: send JSON as application/json "+
			"(curl: -H 'Content-Type: application/json') or protobuf as application/proto", clip(r.Header.Get("Content-Type")))
	default:
		return ""
	}
}

// Write is part of http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.replaced {
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}

// Flush is part of http.Flusher, which Connect asks of writers of streams.
func (a *answer) Flush() {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(a.ResponseWriter).Flush() // what cannot be flushed arrives later
}

// clip keeps what came from outside short enough for one line.
func clip(text string) string {
	const most = 200
	if len(text) <= most {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.ToValidUTF8(text[:most], "\uFFFD") + "…"
}
