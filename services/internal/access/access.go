// Package access turns a known caller and the name of what it wants to do into yes or no. The rules are policies in Cedar that
// come with the product, or an operator's own in their place; this product's own evaluator decides.
//
// It guarantees that an action of which it has not heard is refused, and that rules that cannot be read, or do not fit what
// there is, never come into force: what was in force before stays.
package access

import (
	_ "embed" // for the rules
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/snapshot"
)

// Rules decide. They are safe for concurrent use.
type Rules struct {
	file string // "" is the rules of the product
	in   atomic.Pointer[inForce]
}

// inForce is rules with what they are known to allow: an evaluation costs more than all else that a decision node does for
// authentication, and the same few callers ask again and again.
type inForce struct {
	set     *snapshot.Set
	mu      sync.RWMutex
	allowed map[question]struct{} // guarded by mu
}

// maxAllowed is how many questions are remembered; then all are forgotten.
const maxAllowed = 10_000

// question is all that rules can see.
type question struct{ account, id, method, address, roles, action string }

func (f *inForce) allows(c *identity.Caller, action string) bool {
	q := question{c.Account, c.ID, c.Method, c.SourceAddress, strings.Join(c.Roles, " "), action}
	f.mu.RLock()
	_, known := f.allowed[q]
	f.mu.RUnlock()
	if known {
		return true
	}
	if !f.set.Decide(request(c, action)).Allow {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.allowed) >= maxAllowed {
		clear(f.allowed)
	}
	f.allowed[q] = struct{}{}
	return true
}

//go:embed rules.cedar
var product []byte

// Product are the rules that come with the product, for whoever wants to write others.
func Product() []byte { return slices.Clone(product) }

// New reads rules from a file; "" is those of the product.
func New(file string) (*Rules, error) {
	r := &Rules{file: file}
	return r, r.Reload()
}

// Reload reads the file again. With an error the rules stay as they were.
func (r *Rules) Reload() error {
	text := product
	if r.file != "" {
		var err error
		if text, err = os.ReadFile(r.file); err != nil {
			return fmt.Errorf("access rules: %w", err)
		}
	}
	set, err := snapshot.Compile(text, schema())
	if err != nil {
		return fmt.Errorf("access rules %s: %w", r.file, err)
	}
	r.in.Store(&inForce{set: set, allowed: map[question]struct{}{}})
	return nil
}

// ErrForbidden is what the errors of Check wrap. Their text is written for the caller.
var ErrForbidden = errors.New("forbidden")

// Check is nil when the caller may do what is called action: the name of a procedure, without its service, or Weaken.
func (r *Rules) Check(c identity.Caller, action string) error {
	in := r.in.Load()
	if in.allows(&c, action) {
		return nil
	}
	var would []string
	for _, role := range roles {
		other := c
		other.Roles = []string{role}
		if in.set.Decide(request(&other, action)).Allow {
			would = append(would, role)
		}
	}
	has := "no role"
	if len(c.Roles) > 0 {
		has = "the role " + strings.Join(c.Roles, ", ")
	}
	if len(would) == 0 {
		return fmt.Errorf("%w: no rule lets %s, which has %s, do %s", ErrForbidden, c.ID, has, action)
	}
	return fmt.Errorf("%w: %s has %s, and %s takes the role %s", ErrForbidden, c.ID, has, action, strings.Join(would, " or "))
}

// Allows reports whether Check is nil.
func (r *Rules) Allows(c identity.Caller, action string) bool {
	return r.in.Load().allows(&c, action)
}

func request(c *identity.Caller, action string) *snapshot.SetRequest {
	parents := c.Roles
	if slices.Contains(parents, identity.RoleAny) {
		parents = roles
	}
	q := &snapshot.SetRequest{
		Principal: snapshot.SetEntity{
			Type: "Verdict::Caller", ID: c.ID, ParentType: "Verdict::Role", Parents: parents,
			Attributes: map[string]string{"id": c.ID, "account": c.Account, "method": c.Method},
		},
		Action:   action,
		Resource: snapshot.SetEntity{Type: "Verdict::Account", ID: c.Account},
	}
	if c.SourceAddress != "" { // what is no address leaves the context without one
		q.Address, _ = netip.ParseAddr(c.SourceAddress)
	}
	return q
}
