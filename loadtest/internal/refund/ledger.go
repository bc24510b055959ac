package refund

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"sync"
)

// idEncoding is RFC 4648 base32 in lower case without padding.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Ledger remembers every decision id. The zero value is empty; it is safe for concurrent use.
type Ledger struct {
	mu   sync.Mutex
	seen map[[16]byte]map[uint64]uint64 // boot → seq/64 → a bit for each seq: numbers without gaps take little room
}

// Add returns an error that wraps ErrWrong when id is not one, or was there before.
func (l *Ledger) Add(id string) error {
	raw, err := idEncoding.DecodeString(id)
	if err != nil || len(raw) != 24 || idEncoding.EncodeToString(raw) != id {
		return fmt.Errorf("%w: decisionId %.64q is not base32 of boot and number, 39 characters of a-z and 2-7", ErrWrong, id)
	}
	boot, seq := [16]byte(raw[:16]), binary.BigEndian.Uint64(raw[16:])
	if seq == 0 {
		return fmt.Errorf("%w: decisionId %s has number 0: numbers begin with 1", ErrWrong, id)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[[16]byte]map[uint64]uint64{}
	}
	numbers := l.seen[boot]
	if numbers == nil {
		numbers = map[uint64]uint64{}
		l.seen[boot] = numbers
	}
	bit := uint64(1) << (seq % 64)
	if numbers[seq/64]&bit != 0 {
		return fmt.Errorf("%w: decisionId %s was given to two decisions", ErrWrong, id)
	}
	numbers[seq/64] |= bit
	return nil
}
