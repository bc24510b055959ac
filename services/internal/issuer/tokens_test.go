package issuer_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/issuer"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// known is an issuer whose keys are known: none.
func known(t *testing.T, now time.Time) (*issuer.Issuer, *issuer.Keys) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys": []}`)) }))
	t.Cleanup(server.Close)
	is := issuer.New(issuer.Config{Name: "n", KeysURL: server.URL, Client: server.Client(), Logger: testenv.Logger(t)})
	keys, err := is.Keys(t.Context(), now)
	if err != nil || keys.Name() != "n" {
		t.Fatal(keys, err)
	}
	return is, keys
}

// What is remembered stays within its bound, whatever is put in; what is asked for stays longest.
func TestTokensAreBounded(t *testing.T) {
	now := time.Now()
	is, keys := known(t, now)
	tokens := issuer.NewTokens[string, int](100)
	put := func(key string, size int) {
		tokens.Put(key, issuer.Verified[int]{Value: size, Until: now.Add(time.Minute), Keys: keys, Issuer: is, Size: size})
	}
	put("huge", 101)
	if _, ok := tokens.Get("huge", now); ok {
		t.Error("one is larger than all may be")
	}
	put("asked for", 10)
	for i := range 1000 {
		put(fmt.Sprint(i), 10)
		if n := tokens.Len(); n > 20 {
			t.Fatalf("%d tokens of size 10 are remembered within twice 100", n)
		}
		if v, ok := tokens.Get("asked for", now); !ok || v != 10 {
			t.Fatalf("after %d others: %d, %v", i+1, v, ok)
		}
	}
	if _, ok := tokens.Get("5", now); ok {
		t.Error("the oldest is still there")
	}
	for range 1000 { // the same again takes no more room
		put("999", 10)
	}
	if _, ok := tokens.Get("998", now); !ok {
		t.Error("one that was put in again pushed others out")
	}
	tokens.Forget(func(key string) bool { return key != "999" })
	if n := tokens.Len(); n != 1 {
		t.Errorf("%d tokens are left", n)
	}
}
