package identity

import (
	"encoding/binary"
	"net/http"
	"time"

	issuerkeys "github.com/verdict-io/verdict/services/internal/issuer"
)

// SetClock makes now the clock of a, which started at its present time. It is for before the first request.
func (a *Authenticator) SetClock(now func() time.Time) { a.now, a.started = now, now() }

// SetTransport has the keys of all issuers fetched with it.
func (a *Authenticator) SetTransport(transport http.RoundTripper) {
	for _, set := range a.keys {
		set.client.Transport = transport
	}
}

// SignedCaller is as Authenticate has it for the holder of the access key; n tells signatures apart.
func (a *Authenticator) SignedCaller(keyID string, n uint64, at time.Time) Caller {
	key := a.callers.Load().accessKeys[keyID]
	c := key.caller
	c.signed = &signed{memory: key.memory, at: at}
	binary.BigEndian.PutUint64(c.signed.signature[:], n)
	return c
}

const (
	MaxMemory  = DefaultSignatures
	KeyPause   = issuerkeys.Pause
	KeyRefresh = issuerkeys.Refresh
	KeyLife    = issuerkeys.Life
)
