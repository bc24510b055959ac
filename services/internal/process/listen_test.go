package process

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestListenOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for addr, says := range map[string]string{
		"127.0.0.1:0":                  "",
		"127.1.2.3:0":                  "",
		"[::ffff:127.0.0.1]:0":         "",
		"localhost:0":                  "",
		":0":                           "",
		":7401":                        "all network interfaces",
		"0.0.0.0:0":                    "all network interfaces",
		"[::]:0":                       "all network interfaces",
		"[::ffff:0.0.0.0]:0":           "all network interfaces",
		"10.0.0.1:0":                   "reached from other machines",
		"192.168.1.1:7401":             "reached from other machines",
		"169.254.1.1:0":                "reached from other machines",
		"[fe80::1%lo]:0":               "reached from other machines",
		"no-such-host.invalid:0":       "does not resolve",
		"127.0.0.1":                    "want HOST:PORT",
		"":                             "want HOST:PORT",
		"127.0.0.1:port-of-no-service": "listen on",
	} {
		listener, err := Listen(addr)
		if says == "" {
			if err != nil {
				t.Errorf("%q: %v", addr, err)
				continue
			}
			tcp, ok := listener.Addr().(*net.TCPAddr)
			if !ok || !tcp.IP.IsLoopback() || tcp.Port == 0 {
				t.Errorf("%q: listens on %s", addr, listener.Addr())
			}
			_ = listener.Close()
			continue
		}
		if err == nil {
			t.Errorf("%q: listens on %s", addr, listener.Addr())
			_ = listener.Close()
			continue
		}
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v does not say %q", addr, err, says)
		}
		if strings.HasPrefix(err.Error(), "refusing") &&
			(!strings.Contains(err.Error(), "not authenticated") || !strings.Contains(err.Error(), "127.0.0.1:")) {
			t.Errorf("%q: %v does not say why, or what to do", addr, err)
		}
	}
}

// The host name of a machine often stands for its loopback and its network address at once.
func TestAllAddressesOfANameMustBeLoopback(t *testing.T) {
	t.Parallel()
	ips := func(texts ...string) []netip.Addr {
		var all []netip.Addr
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	if got, err := pickIP(ips("::1", "127.0.0.1")); err != nil || got != "127.0.0.1" {
		t.Error(got, err)
	}
	if got, err := pickIP(ips("::1")); err != nil || got != "::1" {
		t.Error(got, err)
	}
	if got, err := pickIP(ips("127.0.0.1", "10.0.0.7")); err == nil || !strings.Contains(err.Error(), "10.0.0.7") {
		t.Error(got, err)
	}
}
