package policy

import (
	"errors"
	"fmt"
	"strconv"
)

// The kinds of refusal. An *Error wraps exactly one of them; the edges map the kind to a Connect code or an AWS
// error class and take everything else from the *Error.
var (
	// ErrInvalid: the request is wrong in itself and will be wrong again. Nothing about the state matters.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: the thing named is not there, or belongs to another account.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken.
	ErrExists = errors.New("already exists")
	// ErrConflict: the state of a thing does not allow this now (in use, still CREATING, …).
	ErrConflict = errors.New("conflict")
	// ErrStale: the thing has changed since the caller looked at it. Look again and decide again.
	ErrStale = errors.New("stale")
	// ErrDenied: this caller may not do this; another one may.
	ErrDenied = errors.New("denied")
	// ErrQuota: a limit of the account is reached.
	ErrQuota = errors.New("quota exceeded")
)

// Error is a refusal, written for the caller: Message says what is wrong and, where it can, how to mend it.
// It holds nothing that the caller may not see.
type Error struct {
	Kind    error  // one of the kinds above; what errors.Is finds
	Reason  string // a stable word for programs, such as "name_pattern" or "engine_not_found"
	Field   string // the member of the request that is wrong, as "definition.cedar.statement"; "" when none is
	Line    int    // 1-based position in a policy statement; 0 when there is none
	Column  int    // 1-based, in characters
	Message string
	Suggest string // a text that would be right in place of Field, such as the name that was probably meant
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Kind }

// Invalid is an *Error of kind ErrInvalid about one field.
func Invalid(reason, field, format string, args ...any) *Error {
	return &Error{Kind: ErrInvalid, Reason: reason, Field: field, Message: fmt.Sprintf(format, args...)}
}

// refuse is an *Error of the given kind.
func refuse(kind error, reason, field, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Field: field, Message: fmt.Sprintf(format, args...)}
}

// ParseRevision is the position that the text of a revision stands for; field is where it stands in the request.
func ParseRevision(field, text string) (uint64, error) {
	position, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strconv.FormatUint(position, 10) != text {
		return 0, Invalid("revision", field, "it is no revision: send one as an answer or a write named it")
	}
	return position, nil
}
