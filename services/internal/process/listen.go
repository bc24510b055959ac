package process

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Listen listens on a loopback address, and refuses any other: this service does not yet know its callers, so who
// can reach it may do everything. A name is resolved and must mean loopback only. ":0" is a free port of 127.0.0.1.
func Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: want HOST:PORT, such as 127.0.0.1:7401", addr)
	}
	if host == "" && port == "0" {
		host = "127.0.0.1"
	}
	ip, err := loopbackIP(host)
	if err != nil {
		return nil, fmt.Errorf("refusing to listen on %q: %w, and callers are not authenticated yet, so anyone who "+
			"reaches the port could read and change everything. Listen on loopback, as 127.0.0.1:%s; "+
			"for use from another machine take a tunnel (ssh -L %s:127.0.0.1:%s)", addr, err, port, port, port)
	}
	// The address that was checked, not the name, which may resolve differently the second time.
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, port)) //nolint:noctx // nothing here waits
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	return listener, nil
}

// loopbackIP is the IP address of a host that is on loopback; the error says where it is instead.
func loopbackIP(host string) (string, error) {
	if host == "" {
		return "", fmt.Errorf("an empty host means all network interfaces")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return checkIP(ip)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return "", fmt.Errorf("the host does not resolve (%w)", err)
	}
	return pickIP(ips)
}

// pickIP is the IP address to listen on when a name means all of ips: an IPv4 address if there is one.
func pickIP(ips []netip.Addr) (string, error) {
	picked := ""
	for _, ip := range ips {
		text, err := checkIP(ip)
		if err != nil {
			return "", err
		}
		if picked == "" || strings.Contains(picked, ":") && ip.Unmap().Is4() {
			picked = text
		}
	}
	return picked, nil
}

func checkIP(ip netip.Addr) (string, error) {
	ip = ip.Unmap()
	switch {
	case ip.IsLoopback():
		return ip.String(), nil
	case ip.IsUnspecified():
		return "", fmt.Errorf("%s means all network interfaces", ip)
	default:
		return "", fmt.Errorf("%s can be reached from other machines", ip)
	}
}
