package identity

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// local is the loopback caller, for a request that brought nothing to recognise it by.
//
// The Host must name this machine too. A web page can make its own name resolve to 127.0.0.1 and have a browser on
// this machine send requests that arrive over loopback; their Host still carries the page's name.
func (a *Authenticator) local(known *callers, r *http.Request, peer netip.Addr) (Caller, error) {
	onLoopback := peer.Unmap().IsLoopback()
	switch {
	case a.loopback.Account == "" && known.nobody():
		return Caller{}, refuse("this service recognises no callers: its operator must name some, with --callers or --loopback-account")
	case a.loopback.Account == "" || !onLoopback && !known.nobody():
		return Caller{}, refuse("this service has to know who calls: use %s", known.methods())
	case !onLoopback:
		return Caller{}, refuse("callers are recognised only on the loopback interface of this machine, "+
			"and this request came from %q", r.RemoteAddr)
	case forwarded(r.Header):
		return Caller{}, refuse("a proxy brought this request, so that it says nothing that it comes from this machine: use credentials, " +
			"which the operator names with --callers")
	case !loopbackHost(r.Host):
		return Caller{}, refuse("callers on loopback must address this service as localhost or by a "+
			"loopback IP address, and this request is for host %q", r.Host)
	}
	return a.loopback, nil
}

// forwarded says whether something brought the request that was sent elsewhere. Not everything that does so says it.
func forwarded(h http.Header) bool {
	for _, name := range [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"} {
		if _, there := h[name]; there {
			return true
		}
	}
	return false
}

// loopbackHost says whether a Host header can only mean this machine.
func loopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}

var ipv4Loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// address is how events and records name a peer.
func address(ip netip.Addr) string {
	switch {
	case ip == ipv4Loopback:
		return "127.0.0.1" // on the path of every decision: spares the text
	case !ip.IsValid():
		return ""
	}
	return ip.Unmap().WithZone("").String()
}
