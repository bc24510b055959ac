package trust

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Transport speaks HTTP to other services: in TLS as Client has it for each new connection, with HTTP/2 where the server has
// it, and in the clear only where Plain allows, wherever an answer may redirect to. It knows no proxy: one would stand between
// services that verify each other.
func (t *Trust) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if err := t.Plain(hostOf(addr), useHTTPS); err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, addr)
		},
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			config := t.Client()
			config.NextProtos = protocols
			return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, addr)
		},
		ForceAttemptHTTP2:   true, // a dialer of one's own turns it off
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
	}
}

const useHTTPS = "begin its URL with https://"

// URL is nil when requests may be sent to a URL: it is https, or leads to where Plain allows.
func (t *Trust) URL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "https" {
		return err
	}
	return t.Plain(u.Hostname(), useHTTPS)
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// NoRedirect is an http.Client's CheckRedirect. It keeps requests, and the credentials in them, from going wherever an answer points.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
