package identity_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/verdict-io/verdict/services/internal/identity"
)

func TestNewLoopbackTakesOnlyAccounts(t *testing.T) {
	t.Parallel()
	for account, ok := range map[string]bool{
		"":              true,
		"000000000000":  true,
		"123456789012":  true,
		"12345678901":   false,
		"1234567890123": false,
		"12345678901a":  false,
		"１２３４":          false, // 12 bytes, no ASCII digit
		"-12345678901":  false,
		" 12345678901":  false,
	} {
		if _, err := identity.NewLoopback(account); (err == nil) != ok {
			t.Errorf("NewLoopback(%q): %v, want ok=%t", account, err, ok)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	auth, err := identity.NewLoopback("123456789012")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, remote, host string
		source             string // "": refused
		says               string
		forwarded          string // a header
	}{
		{name: "through a proxy", remote: "127.0.0.1:5000", host: "127.0.0.1:7401", forwarded: "X-Forwarded-For", says: "proxy"},
		{name: "through another", remote: "127.0.0.1:5000", host: "127.0.0.1:7401", forwarded: "Via", says: "proxy"},
		{name: "IPv4", remote: "127.0.0.1:5000", host: "127.0.0.1:7401", source: "127.0.0.1"},
		{name: "all of 127/8", remote: "127.8.9.10:5000", host: "localhost:7401", source: "127.8.9.10"},
		{name: "IPv6", remote: "[::1]:5000", host: "[::1]:7401", source: "::1"},
		{name: "IPv6 host without port", remote: "[::1]:5000", host: "[::1]", source: "::1"},
		{name: "IPv4 in IPv6", remote: "[::ffff:127.0.0.1]:5000", host: "LOCALHOST", source: "127.0.0.1"},
		{name: "private network", remote: "10.0.0.7:5000", host: "127.0.0.1:7401", says: `"10.0.0.7:5000"`},
		{name: "link local", remote: "[fe80::1%eth0]:5000", host: "127.0.0.1", says: "loopback"},
		{name: "unspecified", remote: "0.0.0.0:5000", host: "127.0.0.1", says: "loopback"},
		{name: "no address", remote: "", host: "127.0.0.1", says: "loopback"},
		{name: "socket file", remote: "@", host: "127.0.0.1", says: "loopback"},
		{name: "rebound name", remote: "127.0.0.1:5000", host: "evil.example:7401", says: `"evil.example:7401"`},
		{name: "name that begins like localhost", remote: "127.0.0.1:5000", host: "localhost.evil.example", says: "host"},
		{name: "address that begins like loopback", remote: "127.0.0.1:5000", host: "127.0.0.1.evil.example", says: "host"},
		{name: "no host", remote: "127.0.0.1:5000", host: "", says: "host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "/?account=999999999999", nil)
			r.RemoteAddr, r.Host = tt.remote, tt.host
			if tt.forwarded != "" {
				r.Header.Set(tt.forwarded, "127.0.0.1")
			}
			r.Header.Set("X-Account", "999999999999")
			got, err := auth.Authenticate(r)
			if tt.source == "" {
				if !errors.Is(err, identity.ErrUnauthenticated) || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("error %v, want unauthenticated with %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := identity.Caller{
				Account: "123456789012", ID: "loopback", Roles: []string{"*"}, Method: "loopback", SourceAddress: tt.source,
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(identity.Caller{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestZeroAuthenticatorRefuses(t *testing.T) {
	t.Parallel()
	var auth identity.Authenticator
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)
	r.RemoteAddr = "127.0.0.1:5000"
	if _, err := auth.Authenticate(r); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Fatalf("error %v", err)
	}
}

func TestFromContext(t *testing.T) {
	t.Parallel()
	if caller, ok := identity.FromContext(context.Background()); ok || caller.HasRole("node") {
		t.Errorf("an empty context holds %+v", caller)
	}
	ctx := identity.NewContext(t.Context(), identity.Caller{Account: "123456789012", Roles: []string{"node"}})
	caller, ok := identity.FromContext(ctx)
	if !ok || caller.Account != "123456789012" || !caller.HasRole("node") || caller.HasRole("admin") {
		t.Errorf("got %+v, %t", caller, ok)
	}
}
