package process

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/internal/trust"
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
		listener, err := Listen(addr, "--this", "--that")
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
			(!strings.Contains(err.Error(), "Add --this, and --that.") || !strings.Contains(err.Error(), "127.0.0.1:")) {
			t.Errorf("%q: %v does not say what to do", addr, err)
		}
	}
}

// What is missing for another address, and that it is listened on when nothing is.
func TestWhatAListenerOffLoopbackLacks(t *testing.T) {
	t.Parallel()
	cert, callers := "--tls-cert FILE and --tls-key FILE", "--callers FILE"
	for _, tt := range []struct {
		name   string
		common Common
		lacks  []string
	}{
		{"nothing configured", Common{}, []string{cert, callers}},
		{"TLS alone", Common{TLS: trust.Files{Cert: "x", Key: "x"}}, []string{callers}},
		{"a CA names nobody", Common{TLS: trust.Files{Cert: "x", Key: "x", ClientCA: "x"}}, []string{callers}},
		{"an account is no caller", Common{LoopbackAccount: "000000000000"}, []string{cert, callers}},
		{"callers alone", Common{Callers: "x"}, []string{cert}},
		{"both", Common{TLS: trust.Files{Cert: "x", Key: "x"}, Callers: "x"}, nil},
		{"insecure", Common{TLS: trust.Files{Insecure: true}}, nil},
	} {
		got := tt.common.lacking()
		if len(got) != len(tt.lacks) {
			t.Errorf("%s: lacks %q", tt.name, got)
			continue
		}
		for i, want := range tt.lacks {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: lacks %q, want %q", tt.name, got[i], want)
			}
		}
	}
	for _, addr := range []string{"0.0.0.0:0", "[::]:0"} {
		listener, err := Listen(addr)
		if err != nil {
			t.Errorf("%q: %v", addr, err)
			continue
		}
		if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsUnspecified() {
			t.Errorf("%q: listens on %s", addr, listener.Addr())
		}
		_ = listener.Close()
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
	for _, tt := range []struct {
		ips             []netip.Addr
		picked, exposed string
	}{
		{ips("::1", "127.0.0.1"), "127.0.0.1", ""},
		{ips("::1"), "::1", ""},
		{ips("127.0.0.1", "10.0.0.7"), "127.0.0.1", "10.0.0.7 can be reached"},
		{ips("10.0.0.7", "127.0.0.1"), "10.0.0.7", "10.0.0.7 can be reached"},
	} {
		picked, exposed := pickIP(tt.ips)
		if picked != tt.picked || !strings.HasPrefix(exposed, tt.exposed) || (exposed == "") != (tt.exposed == "") {
			t.Errorf("%v: %s, %s", tt.ips, picked, exposed)
		}
	}
}
