package example

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// Function is what an invocation runs. client is the member "custom" of the client context. What it returns is answered as JSON;
// an error is answered as Lambda does of one that a function did not catch.
type Function func(ctx context.Context, event json.RawMessage, client map[string]string) (any, error)

// Functions answers Invoke for the functions that were registered, and counts. It can be used by many at once.
type Functions struct {
	http.Handler

	mu    sync.Mutex
	known map[string]*function
}

type function struct {
	run   Function
	calls int
}

// maxPayload is how large an event and an answer may be, as Lambda has it.
const maxPayload = 6 << 20

// NewFunctions has no functions yet.
func NewFunctions() *Functions {
	f := &Functions{known: map[string]*function{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{function}/invocations", f.invoke)
	f.Handler = onLoopback(mux)
	return f
}

// Register offers a function under a name. "name:alias" is what runs when this version or alias is asked for; another than $LATEST
// is not found without.
func (f *Functions) Register(name string, run Function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[name] = &function{run: run}
}

// Calls is how often a function was run, by the name under which it was registered.
func (f *Functions) Calls(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.known[name]; known != nil {
		return known.calls
	}
	return 0
}

// begin finds a function and counts the call.
func (f *Functions) begin(name, qualifier string) Function {
	if qualifier != latest {
		name += ":" + qualifier
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.known[name]
	if known == nil {
		return nil
	}
	known.calls++
	return known.run
}

const latest = "$LATEST"

func (f *Functions) invoke(w http.ResponseWriter, r *http.Request) {
	request := uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", request)
	name, qualifier := named(r.PathValue("function"), r.URL.Query().Get("Qualifier"))
	client, err := clientContext(r.Header.Get("X-Amz-Client-Context"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequestContentException", err.Error())
		return
	}
	if kind := r.Header.Get("X-Amz-Invocation-Type"); kind != "" && kind != "RequestResponse" {
		refuse(w, http.StatusBadRequest, "InvalidParameterValueException", "only invocation type RequestResponse is offered here")
		return
	}
	event, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", maxPayload))
		return
	}
	if err != nil {
		return // whoever asked is gone
	}
	if len(event) == 0 {
		event = []byte("{}")
	}
	if !json.Valid(event) {
		refuse(w, http.StatusBadRequest, "InvalidRequestContentException", "Could not parse request body into json")
		return
	}
	run := f.begin(name, qualifier)
	if run == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+r.PathValue("function"))
		return
	}
	w.Header().Set("X-Amz-Executed-Version", qualifier)
	w.Header().Set("X-Amzn-Remapped-Content-Length", "0")
	answer(w, request, func() (any, error) { return run(r.Context(), event, client) })
}

// named splits a name, a partial ARN (ACCOUNT:function:NAME) or a whole one from the version or alias that stands behind it.
func named(text, query string) (name, qualifier string) {
	parts := strings.Split(text, ":")
	for i, part := range parts {
		if part == "function" {
			parts = parts[i+1:]
			break
		}
	}
	name, qualifier = parts[0], latest
	if query != "" {
		qualifier = query
	}
	if len(parts) > 1 {
		qualifier = parts[1]
	}
	return name, qualifier
}

// clientContext is the member "custom" of the header.
func clientContext(header string) (map[string]string, error) {
	if header == "" {
		return map[string]string{}, nil
	}
	text, err := base64.StdEncoding.DecodeString(header)
	var said struct{ Custom map[string]string }
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil {
		return nil, errors.New("Client context must be a valid Base64-encoded JSON object.") //nolint:staticcheck,revive // Lambda's words
	}
	return said.Custom, nil
}

// refuse is an answer of Lambda itself: no function was run.
func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	writeJSON(w, status, map[string]string{"Type": "User", "message": message})
}

// answer runs a function and answers what it returns.
func answer(w http.ResponseWriter, request string, run func() (any, error)) {
	failed := func(kind, message string) {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		writeJSON(w, http.StatusOK, map[string]any{"errorMessage": message, "errorType": kind, "requestId": request, "stackTrace": []string{}})
	}
	value, err := contained(run)
	if err != nil {
		failed(errorType(err), err.Error())
		return
	}
	text, err := json.Marshal(value)
	switch {
	case err != nil:
		failed("Runtime.MarshalError", "Unable to marshal response: "+err.Error())
	case len(text) > maxPayload:
		failed("Function.ResponseSizeTooLarge", fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxPayload))
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text) // of a client that is gone nobody need hear
	}
}

// crashed is what a function's panic is.
type crashed struct{ what any }

func (c crashed) Error() string { return fmt.Sprintf("Runtime exited: %v", c.what) }

// contained keeps a function that panics from ending the server.
func contained(run func() (any, error)) (value any, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = crashed{what}
		}
	}()
	return run()
}

// errorType is how the Go runtime of Lambda calls an error: by its type.
func errorType(err error) string {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}
