package store_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/audit/internal/store"
)

func TestWriteUsers(t *testing.T) {
	secret := bytes.Repeat([]byte("s"), store.MinSecret)
	var out bytes.Buffer
	if err := store.WriteUsers(&out, secret, []string{accountA, accountB}, []string{"verdict"}); err != nil {
		t.Fatal(err)
	}
	for decoder := xml.NewDecoder(bytes.NewReader(out.Bytes())); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{store.AuditUser, store.AccountUser(accountA), store.AccountUser(accountB)} {
		if !strings.Contains(out.String(), "<"+user+">") || strings.Contains(out.String(), store.Password(secret, user)) {
			t.Errorf("user %s is missing, or its password is to be read", user)
		}
	}
	for name, err := range map[string]error{
		"a short secret":      store.WriteUsers(io.Discard, secret[1:], []string{accountA}, []string{"verdict"}),
		"no account":          store.WriteUsers(io.Discard, secret, nil, []string{"verdict"}),
		"no database":         store.WriteUsers(io.Discard, secret, []string{accountA}, nil),
		"an account with XML": store.WriteUsers(io.Discard, secret, []string{"1' OR 1 --<x>"}, []string{"verdict"}),
		"a database with SQL": store.WriteUsers(io.Discard, secret, []string{accountA}, []string{"v.*; DROP"}),
		"a database with XML": store.WriteUsers(io.Discard, secret, []string{accountA}, []string{"v><x"}),
		"a digit in front":    store.WriteUsers(io.Discard, secret, []string{accountA}, []string{"9verdict"}),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
