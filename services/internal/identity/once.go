package identity

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// signatureWindow is by how much the time of a signature may differ from ours, either way. It is AWS's.
	signatureWindow = 5 * time.Minute
	// memoryTime is how long a signature is remembered: from when it was first taken, with a clock that was ahead
	// by the whole window, until it is refused for its age, and a minute for what happens between Authenticate and Once.
	memoryTime = 2*signatureWindow + time.Minute
	// DefaultSignatures is Config.Signatures where nothing is said: 99 changes a second. It costs 5 MiB for a key at most.
	DefaultSignatures = 64 << 10
)

// signed is the signature that a caller was recognised by.
type signed struct {
	memory    *memory
	signature [sha256.Size]byte
	at        time.Time // as it says
}

// Once takes the signature of a caller who changes something; a second time it is refused, so that nobody who read a
// request on its way can make it happen again. Callers recognised in other ways pass: their requests carry nothing
// that was made for one request alone.
//
// The memory is this process's: who runs several replicas has one repeat at each other replica to expect, and a
// signature from before the start of this process is refused, since nobody here knows whether it was taken. Memory is
// bounded for each access key, and refuses when it is full instead of forgetting: who floods stops only itself.
func (a *Authenticator) Once(c Caller) error {
	if c.signed == nil {
		return nil
	}
	reason, err := c.signed.memory.take(c.signed, a.started, a.now())
	if err != nil {
		a.metrics.repeats.WithLabelValues(reason).Inc()
	}
	return err
}

// GiveBack undoes Once for a request of which nothing has come: its caller may send it again as it is. AWS SDKs do, when they try again
// within the second in which they signed.
func (a *Authenticator) GiveBack(c Caller) {
	if c.signed != nil {
		c.signed.memory.giveBack(c.signed.signature)
	}
}

// memory holds the signatures of one access key that were taken within memoryTime.
type memory struct {
	limit int

	mu    sync.Mutex
	taken map[[sha256.Size]byte]struct{}
	order []taken // oldest first
}

type taken struct {
	signature [sha256.Size]byte
	at        time.Time
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, taken: map[[sha256.Size]byte]struct{}{}}
}

// take is nil the first time; else there is a reason, for the counter.
func (m *memory) take(s *signed, started, now time.Time) (reason string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(now)
	if _, again := m.taken[s.signature]; again {
		return "repeated", refuse("this signed request was taken before, and a change is made once: sign every request anew. " +
			"Two equal requests signed within the same second have the same signature")
	}
	if s.at.Before(started.Truncate(time.Second)) {
		return "early", refuse("this request was signed at %s, before this service started at %s, which cannot know whether "+
			"it was taken before: sign it again, and set the clock if it is behind", stamp(s.at), stamp(started))
	}
	if len(m.taken) >= m.limit {
		return "full", fmt.Errorf("%w: with this access key %d changes were signed within %s, more than can be told from "+
			"repeats: wait some minutes, or spread the changes over several access keys", ErrExhausted, m.limit, memoryTime)
	}
	m.taken[s.signature] = struct{}{}
	m.order = append(m.order, taken{s.signature, now})
	return "", nil
}

func (m *memory) giveBack(signature [sha256.Size]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.taken, signature)
	for i, t := range slices.Backward(m.order) { // it is one of the last
		if t.signature == signature {
			m.order = slices.Delete(m.order, i, i+1)
			return
		}
	}
}

// forgetLocked drops what a repeat of would be refused for its age.
func (m *memory) forgetLocked(now time.Time) {
	old := 0
	for old < len(m.order) && now.Sub(m.order[old].at) > memoryTime {
		delete(m.taken, m.order[old].signature)
		old++
	}
	if old == len(m.order) {
		m.order = nil // a burst of long ago keeps no memory
	}
	m.order = m.order[min(old, len(m.order)):]
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
