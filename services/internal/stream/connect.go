package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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
	// KeyFile holds the seed of the user's key; "" connects as nobody, which only a NATS without users takes.
	KeyFile string
	// Logger hears what NATS refuses. Default none.
	Logger *slog.Logger

	pause time.Duration // before what was refused is asked again; default half a minute
}

// Connect is a service's connection to NATS. NATS may be away, now and later, or refuse the key: the connection comes into being when
// it is there and takes it, and comes back for as long as it is open; Connected says what is the matter. Nothing is kept meanwhile to
// be sent later than its time: whoever publishes learns that it failed, and looks again. With a server that is not this machine it
// speaks TLS, or an operator insists.
//
// What the user may not do NATS refuses without an answer to whoever asked: it is logged, and Permitted says it until it is asked
// again, half a minute later.
func Connect(c Connection) (*nats.Conn, error) {
	r := &refusals{logger: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), pause: cmp.Or(c.pause, 30*time.Second)}
	return c.open(nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second), nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(), // a server that is told of the key later is as good as one that was away
		nats.ErrorHandler(func(conn *nats.Conn, _ *nats.Subscription, err error) { r.hear(conn, err) }),
		nats.ReconnectErrHandler(r.hear))
}

// Dial is the connection of a tool: now, or the reason why not.
func Dial(c Connection) (*nats.Conn, error) {
	return c.open(nats.Timeout(5*time.Second), nats.NoReconnect())
}

func (c Connection) open(options ...nats.Option) (*nats.Conn, error) {
	secured, err := c.secure()
	if err != nil {
		return nil, fmt.Errorf("nats url: %w", err)
	}
	options = append(append(options, nats.Name(c.Name)), secured...)
	if c.KeyFile != "" {
		public, err := ReadNATSKey(c.KeyFile)
		if err != nil {
			return nil, err
		}
		key, err := nats.NkeyOptionFromSeed(c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("nats key %s: %w", c.KeyFile, err)
		}
		options = append(options, key, nats.CustomInboxPrefix(InboxPrefix(public)))
	}
	conn, err := nats.Connect(c.URL, options...)
	if because := refused(err, c.KeyFile != ""); because != nil {
		return nil, because
	}
	if err != nil {
		return nil, fmt.Errorf("nats url: %w", err)
	}
	return conn, nil
}

var (
	errAway     = errors.New("NATS does not answer")
	errWrongKey = errors.New("NATS refuses the key (--nats-key): its configuration must be what `verdict nats-config` prints with that key in its folder")
	errNoKey    = errors.New("NATS wants to know who connects: set --nats-key to a key that `verdict nats-config` made")
	errNoUsers  = errors.New("NATS knows no users, so that it could be anybody's: run it with what `verdict nats-config` prints, or connect without --nats-key")
	errMayNot   = errors.New("NATS refuses what is needed: the key (--nats-key) is another service's, or NATS runs with something else than `verdict nats-config` prints")
)

// refused is nil unless err says that NATS does not take whoever connects.
func refused(err error, hasKey bool) error {
	switch {
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return errNoUsers
	case !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthExpired) && !errors.Is(err, nats.ErrAuthRevoked):
		return nil
	case hasKey:
		return errWrongKey
	}
	return errNoKey
}

// mayNot is nil unless err says that the user may not do something.
func mayNot(err error) error {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	return fmt.Errorf("%w: %w", errMayNot, err)
}

// Connected is nil while NATS is there. Else it says why not; callers add what follows from it.
func Connected(conn *nats.Conn) error {
	if conn.IsConnected() {
		return nil
	}
	return cmp.Or(refused(conn.LastError(), conn.Opts.Nkey != ""), errAway)
}

// Permitted is nil, or what NATS has refused on this connection, which Connect makes anew after that.
func Permitted(conn *nats.Conn) error { return mayNot(conn.LastError()) }

// refusals logs what NATS refuses, and has it asked again: the server may have been told more meanwhile, and does not take a
// subscription up by itself that it once refused.
type refusals struct {
	logger *slog.Logger
	pause  time.Duration // until it is logged again, and until it is asked again

	mu     sync.Mutex
	logged map[string]time.Time // by text; guarded by mu
	again  bool                 // is to come; guarded by mu
}

func (r *refusals) hear(conn *nats.Conn, err error) {
	violation := mayNot(err)
	because := cmp.Or(violation, refused(err, conn.Opts.Nkey != ""))
	if because == nil && errors.Is(err, nats.ErrSlowConsumer) {
		because = err
	}
	if because == nil {
		return // whoever uses the connection says that NATS is away
	}
	r.log(because)
	r.mu.Lock()
	defer r.mu.Unlock()
	if violation == nil || r.again {
		return
	}
	r.again = true
	time.AfterFunc(r.pause, func() {
		r.mu.Lock()
		r.again = false
		r.mu.Unlock()
		_ = conn.ForceReconnect() // it may be closed
	})
}

func (r *refusals) log(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := err.Error()
	if at, before := r.logged[text]; before && time.Since(at) < r.pause {
		return
	}
	const most = 100 // subjects have ids in them
	if r.logged == nil || len(r.logged) >= most {
		r.logged = map[string]time.Time{}
	}
	r.logged[text] = time.Now()
	r.logger.LogAttrs(context.Background(), slog.LevelError, "nats", slog.Any("error", err))
}
