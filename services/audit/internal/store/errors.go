package store

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	chcolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// ErrUnavailable: ClickHouse does not answer.
var ErrUnavailable = errors.New("ClickHouse does not answer")

// unavailable marks the errors that ClickHouse itself has not answered with.
func unavailable(err error) error {
	if _, answered := errors.AsType[*clickhouse.Exception](err); err == nil || answered {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Codes of ClickHouse's errors.
const (
	codeUnknownTable         = 60
	codeUnknownDatabase      = 81
	codeTooManyRows          = 158
	codeTimeout              = 159
	codeTooSlow              = 160
	codeReadonly             = 164
	codeTooMuchMemorySet     = 191
	codeQuota                = 201
	codeTooManyQueries       = 202
	codeMemory               = 241
	codeNoSpace              = 243
	codeTooManyBytes         = 307
	codeIntoOutfile          = 358
	codeTooManyRowsOrBytes   = 396
	codeAccessDenied         = 497
	codeAuthenticationFailed = 516
)

// codeOf is the code of what ClickHouse answered, 0 when it did not.
func codeOf(err error) int32 {
	if answered, ok := errors.AsType[*clickhouse.Exception](err); ok {
		return answered.Code
	}
	return 0
}

// failures are the errors of ClickHouse that are about a query's rights or appetite; the others say what is wrong with its SQL.
var failures = []struct {
	codes  []int32
	kind   error
	advice string
}{
	{[]int32{codeAccessDenied, codeReadonly, codeIntoOutfile}, ErrDenied, ""},
	{[]int32{codeTooManyRowsOrBytes, codeTooManyRows, codeTooManyBytes}, ErrLimit, "; ask for fewer rows or columns: LIMIT, a shorter time, an aggregate"},
	{[]int32{codeMemory, codeTooMuchMemorySet, codeNoSpace}, ErrLimit, "; sort and group fewer rows: a shorter time, fewer columns"},
	{[]int32{codeTooManyQueries, codeQuota}, ErrLimit, "; the account runs too many queries at once: wait for one to end"},
	{[]int32{codeTimeout, codeTooSlow}, ErrTime, "; read less: a shorter time, fewer columns"},
}

// queryError is an error of an account's query, in words for whoever wrote it where the query is at fault.
func queryError(err error) error {
	if unknown, ok := errors.AsType[*chcolumn.UnsupportedColumnTypeError](err); ok {
		return cannotBeSent(unknown)
	}
	answer, ok := errors.AsType[*clickhouse.Exception](err)
	if err == nil || !ok {
		return unavailable(err)
	}
	if answer.Code == codeAuthenticationFailed {
		return fmt.Errorf("the users of ClickHouse were not made from this secret, or not for this account: %w", err)
	}
	out := &QueryError{Kind: ErrSQL, Message: clean(answer.Message)}
	for _, f := range failures {
		if slices.Contains(f.codes, answer.Code) {
			out.Kind, out.Message = f.kind, out.Message+f.advice
		}
	}
	return out
}

// cannotBeSent is for results of which the client library does not know a type.
func cannotBeSent(err error) error {
	return &QueryError{Kind: ErrSQL, Message: fmt.Sprintf("a value of the result cannot be sent (%v): convert it with toString", err)}
}

var (
	internals = regexp.MustCompile(`(?s)( \(version [^)]*\)|Stack trace:.*|: [Ww]hile (executing|reading|processing) .*|: In scope .*|DB::Exception: |account_[0-9]{12}: )`)
	paths     = regexp.MustCompile(`(/[A-Za-z0-9_.-]+){3,}/?`)
)

// clean is a message of ClickHouse without what is about the server and not the query.
func clean(message string) string {
	message = strings.TrimSpace(paths.ReplaceAllString(internals.ReplaceAllString(message, ""), "…"))
	const most = 1000
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + "…"
	}
	return strings.TrimSuffix(message, ".")
}
