package stream

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Connect is a service's connection to NATS, under a name that operators see there. NATS may be away, now and later: the connection
// comes into being when it is there, and comes back for as long as it is open. Nothing is kept meanwhile to be sent later than its
// time: whoever publishes learns that it failed, and looks again.
func Connect(url, name string) (*nats.Conn, error) {
	conn, err := nats.Connect(url, nats.Name(name), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second), nats.ReconnectBufSize(-1))
	if err != nil {
		return nil, fmt.Errorf("nats url: %w", err)
	}
	return conn, nil
}
