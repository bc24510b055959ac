package example

import (
	"context"
	"encoding/json"
	"net/http"
)

// Function is what an invocation runs. client is the member "custom" of the client context. What it returns is answered as JSON.
type Function func(ctx context.Context, event json.RawMessage, client map[string]string) (any, error)

// Functions answers Invoke for the functions that it was given, and counts.
type Functions struct{ http.Handler }

// NewFunctions has no functions yet.
func NewFunctions() *Functions { return &Functions{} }

// Register offers a function under a name.
func (f *Functions) Register(name string, function Function) {}

// Calls is how often a function was run.
func (f *Functions) Calls(name string) int { return 0 }

// ProcessRefund is the refund tool of the quickstart.
func ProcessRefund(ctx context.Context, event json.RawMessage, client map[string]string) (any, error) { return nil, nil }

// LookupOrder finds any order.
func LookupOrder(ctx context.Context, event json.RawMessage, client map[string]string) (any, error) { return nil, nil }
