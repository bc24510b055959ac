package egress

import "net/netip"

// refused are the addresses that no definition may reach, on any machine.
var refused = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "no host's address"},
	{netip.MustParsePrefix("::/128"), "no host's address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local; the metadata services of clouds are there"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "for services of AWS's instances, metadata among them"},
	{netip.MustParsePrefix("fd20:ce::/32"), "the metadata service of Google's instances"},
	{netip.MustParsePrefix("fd00:42::42/128"), "the metadata service of Scaleway's instances"},
	{netip.MustParsePrefix("100.100.100.200/32"), "the metadata service of Alibaba's instances"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the host of Azure's instances"},
	{netip.MustParsePrefix("192.0.0.192/32"), "the metadata service of Oracle's instances"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a group of hosts"},
	{netip.MustParsePrefix("ff00::/8"), "a group of hosts"},
	{netip.MustParsePrefix("240.0.0.0/4"), "no host's address"},
	{netip.MustParsePrefix("2001::/32"), "a tunnel (Teredo) to a host that it hides"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a translation (RFC 8215) to a host that it hides"},
}

// embedded are prefixes of IPv6 whose addresses stand for one of IPv4, which begins at a byte.
var embedded = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // translated (RFC 2765)
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

// reached is the address that a connection to ip arrives at, as far as ip says it.
func reached(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() || ip == netip.IPv6Unspecified() || ip == netip.IPv6Loopback() {
		return ip
	}
	for _, e := range embedded {
		if e.prefix.Contains(ip) {
			bytes := ip.As16()
			return netip.AddrFrom4([4]byte(bytes[e.at : e.at+4]))
		}
	}
	return ip
}
