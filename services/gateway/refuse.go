package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/verdict-io/verdict/services/gateway/internal/inbound"
)

// refuseCaller says why nobody may ask.
func refuseCaller(w http.ResponseWriter, r *http.Request, refusal *inbound.Refusal) {
	if refusal.Challenge != "" {
		w.Header().Set("Www-Authenticate", refusal.Challenge)
	}
	if refusal.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(max(refusal.RetryAfter, time.Second)/time.Second)))
	}
	refuse(w, r, refusal.Status, refusal.Code, refusal.Message)
}

// peek is how much of the body of somebody unknown is read to answer with the id of the message.
const peek = 64 << 10

// refuse answers with a JSON-RPC error. With r its id is that of the message in the body, if that is short.
func refuse(w http.ResponseWriter, r *http.Request, status int, code int64, text string) {
	var m message
	if r != nil && r.Method == http.MethodPost && r.Body != nil {
		if body, err := io.ReadAll(io.LimitReader(r.Body, peek)); err == nil {
			_ = json.Unmarshal(body, &m) // then it has no id
		}
	}
	refuseMessage(w, m, status, code, text, nil)
}

// refuseMessage answers a message with a JSON-RPC error.
func refuseMessage(w http.ResponseWriter, m message, status int, code int64, text string, data json.RawMessage) {
	id := m.ID
	if len(id) == 0 || id[0] != '"' && (id[0] < '0' || id[0] > '9') && id[0] != '-' {
		id = json.RawMessage("null")
	}
	body, err := json.Marshal(struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   jsonrpc.Error   `json:"error"`
	}{"2.0", id, jsonrpc.Error{Code: code, Message: text, Data: data}})
	if err != nil { // it holds strings, and JSON
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}

// answer remembers the status, makes JSON-RPC errors of what the SDK refuses as plain text, and gives up clients that do not read.
type answer struct {
	http.ResponseWriter

	control *http.ResponseController
	patient time.Duration // writeTimeout; tests shorten it
	status  int           // 0 until the header is written
	message message       // that is answered
	plain   bool          // what comes now is the text of a refusal
}

const (
	// writeTimeout is how long a client may take to read what is written at once, and writeRate, in bytes a second, gives it more time
	// for more.
	writeTimeout = 30 * time.Second
	writeRate    = 64 << 10
)

func newAnswer(w http.ResponseWriter, patient time.Duration) *answer {
	return &answer{ResponseWriter: w, control: http.NewResponseController(w), patient: patient}
}

// bound gives a write of n bytes its time, and lift ends that: until the next one a client may wait as long as it wants. What a client does
// not take is memory of this process.
func (a *answer) bound(n int) {
	_ = a.control.SetWriteDeadline(time.Now().Add(a.patient + time.Duration(n)*time.Second/writeRate)) // every connection has it
}

func (a *answer) lift() { _ = a.control.SetWriteDeadline(time.Time{}) }

// Unwrap serves http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader is part of http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < http.StatusOK {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.status = status
	a.plain = status >= http.StatusBadRequest && strings.HasPrefix(a.Header().Get("Content-Type"), "text/plain")
	if !a.plain {
		a.ResponseWriter.WriteHeader(status)
	}
}

// Write is part of http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.bound(len(p))
	defer a.lift()
	if !a.plain {
		return a.ResponseWriter.Write(p)
	}
	a.plain = false
	code, text := int64(jsonrpc.CodeInvalidRequest), strings.TrimSpace(string(p))
	if strings.HasPrefix(text, "malformed payload") {
		code = jsonrpc.CodeParseError
	}
	refuseMessage(a.ResponseWriter, a.message, a.status, code, text, nil)
	return len(p), nil
}

// Flush is part of http.Flusher, which the SDK asks of writers of streams.
func (a *answer) Flush() {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.bound(0)
	defer a.lift()
	_ = a.control.Flush() // what cannot be flushed arrives later
}
