package stream

import "github.com/nats-io/nats.go"

// Secure is secure, for tests.
func (c Connection) Secure() ([]nats.Option, error) { return c.secure() }
