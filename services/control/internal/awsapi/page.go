package awsapi

import (
	"errors"
	"iter"
	"strconv"

	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/policy"
)

// How many things a page has: at most, and when the request does not say.
type pageSize struct{ most, usual int }

var (
	policyPage  = pageSize{100, 10}
	gatewayPage = pageSize{1000, 100}
)

// page is the page of a listing that the query of r asks for, and the token of the next one.
func page[T any](r *request, size pageSize, l app.Listing, all func(after string) iter.Seq[T], id func(T) string) (items []T, next string, err error) {
	query := r.URL.Query()
	n := size.usual
	if text := query.Get("maxResults"); text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > size.most {
			return nil, "", policy.Invalid("range", "maxResults", "maxResults must be 1 to %d", size.most)
		}
	}
	items, next, err = app.Page(l, uint32(n), query.Get("nextToken"), all, id)
	if refused, ok := errors.AsType[*policy.Error](err); ok && refused.Reason == "page_token" {
		err = policy.Invalid("page_token", "nextToken", "nextToken is not one that this list gave out: leave it out to begin again")
	}
	return items, next, err
}
