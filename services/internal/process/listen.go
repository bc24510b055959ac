package process

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Listen listens on a loopback address, and on another one if nothing is lacking for that; else it refuses and says what to
// add. A name is resolved, and on loopback only if it means nothing else. ":0" is a free port of 127.0.0.1.
func Listen(addr string, lacking ...string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: want HOST:PORT, such as 127.0.0.1:7401", addr)
	}
	if host == "" && port == "0" {
		host = "127.0.0.1"
	}
	ip, exposed, err := resolve(host)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if exposed != "" && len(lacking) > 0 {
		return nil, fmt.Errorf("refusing to listen on %q: %s, and who calls from there must be known and speak TLS. Add %s. "+
			"Or listen on loopback, as 127.0.0.1:%s, and come from another machine through a tunnel (ssh -L %s:127.0.0.1:%s). "+
			"--insecure listens all the same, which is for where something in front of this service ends TLS; the log then says so every minute",
			addr, exposed, strings.Join(lacking, ", and "), port, port, port)
	}
	// The address that was checked, not the name, which may resolve differently the second time.
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, port)) //nolint:noctx // nothing here waits
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	return listener, nil
}

// resolve is the IP address to listen on for a host, "" for all there are, and how other machines can reach it; exposed is "" if
// they cannot.
func resolve(host string) (ip, exposed string, err error) {
	if host == "" {
		return "", "an empty host means all network interfaces", nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.String(), exposure(ip), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return "", "", fmt.Errorf("the host does not resolve (%w)", err)
	}
	ip, exposed = pickIP(ips)
	return ip, exposed, nil
}

// pickIP is the IP address to listen on when a name means all of ips: an IPv4 address if there is one. It is exposed when any of
// them is.
func pickIP(ips []netip.Addr) (picked, exposed string) {
	for _, ip := range ips {
		ip = ip.Unmap()
		if exposed == "" {
			exposed = exposure(ip)
		}
		if picked == "" || strings.Contains(picked, ":") && ip.Is4() {
			picked = ip.String()
		}
	}
	return picked, exposed
}

// exposure is how other machines can reach an IP address, "" if they cannot.
func exposure(ip netip.Addr) string {
	switch {
	case ip.IsLoopback():
		return ""
	case ip.IsUnspecified():
		return ip.String() + " means all network interfaces"
	default:
		return ip.String() + " can be reached from other machines"
	}
}
