package cpu

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "wait" { // a process to look at, until its input ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

func TestUsedGrowsWithWork(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	before, err := p.Used()
	if err != nil {
		t.Fatal(err)
	}
	for after := before; after < before+5*tick; {
		for i := range 1_000_000 {
			_ = i * i
		}
		if after, err = p.Used(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUsedOfAProcessThatEnded(t *testing.T) {
	child := exec.Command(os.Args[0], "wait")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Used(); err != nil {
		t.Fatal(err)
	}
	input.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Used(); !errors.Is(err, ErrGone) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := Open(child.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("opened after its end: %v", err)
	}
}

func TestUsedOfALaterProcessWithTheSameNumber(t *testing.T) {
	p := &Process{pid: os.Getpid(), start: "1"}
	if _, err := p.Used(); !errors.Is(err, ErrGone) {
		t.Errorf("it is taken for the first: %v", err)
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 0 -1 4194304 103 0 0 0 12 30 7 8 20 0 1 0 1274892 3133440"
	want := stat{state: "S", start: "1274892", used: 420 * time.Millisecond}
	for _, name := range []string{"(cat)", "(a b)", "(a) R 9 (b)", "()", "(\n)"} {
		if got, err := parseStat("17 " + name + rest); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, text := range []string{"", "17 (cat)", "17 (cat) S 1 2", "17 (cat" + rest[:20], strings.Replace("17 (cat)"+rest, " 12 ", " x ", 1)} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestListenerIsThisProcess(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(listener.Addr().String())
	if pid, err := Listener(addr); err != nil || pid != os.Getpid() {
		t.Errorf("found %d, %v; this is %d", pid, err, os.Getpid())
	}
	listener.Close()
	if pid, err := Listener(addr); !errors.Is(err, ErrNoListener) {
		t.Errorf("nobody listens any more, and %d was found, %v", pid, err)
	}
}

// A socket that another process holds too belongs to nobody in particular.
func TestListenerOfTwoProcesses(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	child := exec.Command(os.Args[0], "wait")
	child.ExtraFiles = []*os.File{file}
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = Listener(netip.MustParseAddrPort(listener.Addr().String()))
	input.Close()
	if wait := child.Wait(); wait != nil {
		t.Fatal(wait)
	}
	if !errors.Is(err, ErrNoListener) || !strings.Contains(err.Error(), "2 processes") {
		t.Errorf("with two: %v", err)
	}
}

// As x86-64 prints them, and every other machine that Go runs on whose bytes are in that order.
const tables = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 00000000:1CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   2: 0100007F:1CEA 0100007F:6DE3 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
   3: 0200007F:1CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 14 1 0 100 0 0 10 0
   4: 00000000000000000000000000000000:1CEB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 15 1 0
   5: 0000000000000000FFFF00000100007F:1CEC 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 16 1 0
`

func TestListeningSockets(t *testing.T) {
	sockets, err := parseSockets(strings.NewReader(tables))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string][]string{
		"127.0.0.1:7402": {"11"}, // before the one for every address; not the one of a connection
		"127.0.0.2:7402": {"14"},
		"127.0.0.3:7402": {"12"},
		"127.0.0.1:7403": {"15"},
		"127.0.0.1:7404": {"16"},
		"127.0.0.1:7405": nil,
	} {
		if got := listening(sockets, netip.MustParseAddrPort(addr)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", addr, got, want)
		}
	}
}

func TestParseSocketsRefusesWhatIsNoTable(t *testing.T) {
	for _, addr := range []string{"", "0100007F", "0100007F:", "0100007F:1CEAA", "01:1CEA", "xx00007F:1CEA", "0100007F00:1CEA"} {
		line := "0: " + addr + " 00000000:0000 0A a b c d e 11"
		if addr == "" {
			line = "0: ? 00000000:0000 0A a b c d e 11"
		}
		if got, err := parseSockets(strings.NewReader(line)); err == nil {
			t.Errorf("%q is %v", line, got)
		}
	}
}
