package identity

import (
	"sync"
	"time"
)

// maxOnce is how many signatures are remembered at the most, in each half of the time. A caller needs to have a key to fill it.
const maxOnce = 1 << 20

// once remembers signatures for as long as they are good: from signatureWindow before their time to signatureWindow after it.
// Those of the present period and of the one before are kept, each as long as that.
type once struct {
	mu           sync.Mutex
	begun        time.Time
	seen, before map[signature]struct{} // guarded by mu
}

const oncePeriod = 2 * signatureWindow

// Once is nil for a request that was not seen before. It is for requests that change something: what was signed once is carried
// out once by this process. A request that is repeated must be signed anew, as SDKs do. Callers who do not sign are not looked
// at: nobody can repeat what they sent without being able to send anything.
func (a *Authenticator) Once(c Caller) error {
	if c.Method != MethodSigV4 {
		return nil
	}
	now := a.now()
	o := &a.once
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.begun) >= oncePeriod {
		o.before = o.seen
		if now.Sub(o.begun) >= 2*oncePeriod {
			o.before = nil
		}
		o.seen, o.begun = map[signature]struct{}{}, now
	}
	_, seen := o.seen[c.signature]
	_, earlier := o.before[c.signature]
	switch {
	case seen || earlier:
		return refuse("this signature was used before: sign the request anew. (A second request of the same second that says the same " +
			"has the same signature.)")
	case len(o.seen) >= maxOnce:
		return refuse("more than %d signed changes came within %v: wait, and sign the request anew", maxOnce, oncePeriod)
	}
	o.seen[c.signature] = struct{}{}
	return nil
}
