package issuer

import (
	"sync"
	"time"
)

// Verified is what a token was found to be. It holds as long as the issuer's keys stay those that verified it, until it ends.
type Verified[V any] struct {
	Value  V
	Until  time.Time
	Keys   *Keys // that verified it
	Issuer *Issuer
	Size   int // what remembering it costs, in the unit of NewTokens
}

// Tokens remembers tokens that were taken: looking one up is a fiftieth of the work of verifying it. Keys should hold the SHA-256 of
// tokens rather than tokens, so that no memory holds what opens a door. Only tokens that were taken get in, and what was not asked for
// lately goes first. It is safe for concurrent use.
type Tokens[K comparable, V any] struct {
	limit int

	mu       sync.RWMutex
	size     int // of new
	new, old map[K]Verified[V]
}

// NewTokens remembers twice as much as fills limit.
func NewTokens[K comparable, V any](limit int) *Tokens[K, V] {
	return &Tokens[K, V]{limit: limit, new: map[K]Verified[V]{}}
}

// Get is what the token was found to be, unless it has ended or the issuer's keys are others now.
func (c *Tokens[K, V]) Get(key K, now time.Time) (V, bool) {
	c.mu.RLock()
	v, ok := c.new[key]
	aged := false
	if !ok {
		v, aged = c.old[key]
	}
	c.mu.RUnlock()
	if !ok && !aged || now.After(v.Until) || v.Issuer.Usable(now) != v.Keys {
		var none V
		return none, false
	}
	if aged {
		c.Put(key, v)
	}
	return v.Value, true
}

// Put remembers a token. One that alone is larger than the limit is not remembered.
func (c *Tokens[K, V]) Put(key K, v Verified[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.Size > c.limit {
		return
	}
	if c.size+v.Size > c.limit {
		c.old, c.new, c.size = c.new, map[K]Verified[V]{}, 0
	}
	c.size += v.Size - c.new[key].Size
	c.new[key] = v
}

// Forget drops the tokens whose keys are gone.
func (c *Tokens[K, V]) Forget(gone func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, v := range c.new {
		if gone(key) {
			delete(c.new, key)
			c.size -= v.Size
		}
	}
	for key := range c.old {
		if gone(key) {
			delete(c.old, key)
		}
	}
}

// Len is how many tokens are remembered. One that is used again may count twice.
func (c *Tokens[K, V]) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.new) + len(c.old)
}
