package example

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// ProcessRefund is the tool process_refund of the quickstart: {"amount": 500} is paid back.
func ProcessRefund(_ context.Context, event json.RawMessage, _ map[string]string) (any, error) {
	var input struct {
		Amount json.Number `json:"amount"`
	}
	if err := json.Unmarshal(event, &input); err != nil || input.Amount == "" {
		return nil, errors.New(`"amount" must be a number, of dollars`)
	}
	return struct {
		Status  string      `json:"status"`
		Message string      `json:"message"`
		Amount  json.Number `json:"amount"`
	}{"success", fmt.Sprintf("Refund of $%s processed successfully", input.Amount), input.Amount}, nil
}

// LookupOrder is a tool lookup_order that finds every order: {"orderId": "12345"}.
func LookupOrder(_ context.Context, event json.RawMessage, _ map[string]string) (any, error) {
	var input struct {
		OrderID string `json:"orderId"`
	}
	if err := json.Unmarshal(event, &input); err != nil || input.OrderID == "" {
		return nil, errors.New(`"orderId" must be the number of an order, as text`)
	}
	return struct {
		OrderID string `json:"orderId"`
		Status  string `json:"status"`
		Total   int    `json:"total"`
	}{input.OrderID, "delivered", 450}, nil
}
