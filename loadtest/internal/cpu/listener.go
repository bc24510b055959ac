package cpu

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoListener: no process was found that listens at the address, or more than one.
var ErrNoListener = errors.New("the process that listens cannot be told")

// Listener is the number of the one process that accepts connections to addr, an address of this machine.
func Listener(addr netip.AddrPort) (int, error) {
	var sockets []socket
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		found, err := readSockets(table)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a machine may be without IPv6
			return 0, err
		}
		sockets = append(sockets, found...)
	}
	inodes := listening(sockets, addr)
	if len(inodes) == 0 {
		return 0, fmt.Errorf("%w: nothing listens at %s, as far as /proc tells", ErrNoListener, addr)
	}
	pids, err := holders(inodes)
	if err != nil {
		return 0, err
	}
	if len(pids) != 1 {
		return 0, fmt.Errorf("%w: %d processes are seen to listen at %s (those of other users are not seen)", ErrNoListener, len(pids), addr)
	}
	return pids[0], nil
}

// socket is a TCP socket that listens.
type socket struct {
	local netip.AddrPort
	inode string
}

func readSockets(path string) ([]socket, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	out, err := parseSockets(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// parseSockets reads /proc/net/tcp or tcp6 as proc(5) says: after the title a line for each socket.
func parseSockets(table io.Reader) ([]socket, error) {
	const local, state, inode, listen = 1, 3, 9, "0A"
	var out []socket
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= inode || fields[state] != listen {
			continue
		}
		addr, err := parseAddr(fields[local])
		if err != nil {
			return nil, err
		}
		out = append(out, socket{local: addr, inode: fields[inode]})
	}
	return out, lines.Err()
}

// parseAddr reads an address as the kernel prints it: words of 32 bits in the order of the machine's bytes, then the port.
func parseAddr(text string) (netip.AddrPort, error) {
	host, portText, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	port, err := strconv.ParseUint(portText, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q has no port: %w", text, err)
	}
	for word := range slices.Chunk(raw, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}

// listening are the inodes of the sockets that take connections to addr: those bound to it, else those bound to every address.
func listening(sockets []socket, addr netip.AddrPort) []string {
	var exact, every []string
	for _, s := range sockets {
		switch {
		case s.local.Port() != addr.Port():
		case s.local.Addr() == addr.Addr():
			exact = append(exact, s.inode)
		case s.local.Addr().IsUnspecified():
			every = append(every, s.inode)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return every
}

// holders are the processes that have one of the sockets open.
func holders(inodes []string) ([]int, error) {
	links := make(map[string]bool, len(inodes))
	for _, inode := range inodes {
		links["socket:["+inode+"]"] = true
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, file := range files {
		link, err := os.Readlink(file)
		if err != nil || !links[link] {
			continue // closed since, or another user's
		}
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, pid) {
			out = append(out, pid)
		}
	}
	return out, nil
}
