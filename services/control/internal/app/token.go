package app

import (
	"encoding/base64"
	"encoding/json"
	"iter"
	"regexp"

	"github.com/verdict-io/verdict/services/policy"
)

var clientToken = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,256}$`)

// checkToken refuses what is not a client token as AgentCore wants it: 33 to 256 characters.
func checkToken(token string) error {
	if token == "" || (len(token) >= 33 && len(token) <= 256 && clientToken.MatchString(token)) {
		return nil
	}
	return policy.Invalid("client_token", "clientToken", "clientToken must have 33 to 256 characters and match %s; a UUID does", clientToken)
}

// Listing names a list of which pages are asked for. A token is good for one listing only.
type Listing struct {
	Account string `json:"a"`
	Kind    string `json:"k"`
	Parent  string `json:"p,omitempty"`
	Filter  string `json:"f,omitempty"`
}

// cursor is what a page token holds.
type cursor struct {
	Listing
	After string `json:"n"`
}

// Page yields one page of a listing: at most size of what all(after) yields, and the token of the next page, "" when there is
// none. A size of 0 is 100.
func Page[T any](l Listing, size uint32, token string, all func(after string) iter.Seq[T], id func(T) string) (page []T, next string, err error) {
	if size == 0 {
		size = 100
	}
	if size > 1000 {
		return nil, "", policy.Invalid("range", "pageSize", "pageSize must be 1 to 1000; it is %d", size)
	}
	after, err := l.decode(token)
	if err != nil {
		return nil, "", err
	}
	for item := range all(after) {
		if uint32(len(page)) == size {
			return page, l.encode(id(page[len(page)-1])), nil
		}
		page = append(page, item)
	}
	return page, "", nil
}

func (l Listing) encode(after string) string {
	data, err := json.Marshal(cursor{Listing: l, After: after})
	if err != nil {
		panic(err) //nolint:forbidigo // strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func (l Listing) decode(token string) (after string, err error) {
	if token == "" {
		return "", nil
	}
	var c cursor
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil || c.Listing != l || c.After == "" {
		return "", policy.Invalid("page_token", "pageToken", "pageToken is not one that this list gave out: leave it empty to begin again")
	}
	return c.After, nil
}
