// Package example is what a Verdict on one machine needs around it: an OpenID Connect issuer that hands out tokens, and a server
// of functions that speaks Lambda's Invoke API. `verdict dev` and tests run them.
//
// They are for development on the loopback interface, and nothing else: the issuer puts any claim into a token that is asked for,
// and the functions run for whoever asks, since no signature is checked. So they answer nobody who comes from elsewhere, nor a web
// page that has a browser of this machine ask for it.
package example

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// onLoopback refuses what comes from another machine, or is addressed to one: a web page can have its own name resolved to
// 127.0.0.1, but not change the Host that the browser then sends.
func onLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) {
			http.Error(w, "this is for development, and answers only on the loopback interface: address it as 127.0.0.1 or localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLoopback(address string) bool {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // of a client that is gone nobody need hear
}
