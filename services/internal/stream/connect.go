package stream

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/verdict-io/verdict/services/internal/trust"
)

// Connection is where NATS is and who connects.
type Connection struct {
	URL  string // several behind commas
	Name string // that operators see there
	// Trust is for TLS, which begins with a URL tls://…; without one, the system's roots are believed.
	Trust *trust.Trust
}

// Connect is a service's connection to NATS. NATS may be away, now and later: the connection comes into being when it is there,
// and comes back for as long as it is open. Nothing is kept meanwhile to be sent later than its time: whoever publishes learns that
// it failed, and looks again. With a server that is not this machine it speaks TLS, or an operator insists.
func Connect(c Connection) (*nats.Conn, error) {
	return c.open(nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second), nats.ReconnectBufSize(-1))
}

// Dial is the connection of a tool: now, or the reason why not.
func Dial(c Connection) (*nats.Conn, error) {
	return c.open(nats.Timeout(5*time.Second), nats.NoReconnect())
}

func (c Connection) open(options ...nats.Option) (*nats.Conn, error) {
	secure, err := c.secure()
	if err != nil {
		return nil, fmt.Errorf("nats url: %w", err)
	}
	conn, err := nats.Connect(c.URL, append(append(options, nats.Name(c.Name)), secure...)...)
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	return conn, nil
}
