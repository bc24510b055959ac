package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portHolder returns the process that listens on a port, or 0 when there is none or it belongs to another user.
func portHolder(port int) (int, string) {
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table)
		for line := range strings.Lines(string(text)) {
			if inode, ok := listener(line, port); ok {
				sockets["socket:["+inode+"]"] = true
			}
		}
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !sockets[target] {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
		return pid, commandLine(pid)
	}
	return 0, ""
}

// listener returns the inode of a line of /proc/net/tcp whose socket listens (state 0A) on port.
func listener(line string, port int) (string, bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != "0A" || !strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
		return "", false
	}
	return fields[9], true
}

func commandLine(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	line := strings.TrimSpace(string(bytes.ReplaceAll(text, []byte{0}, []byte(" "))))
	return line[:min(len(line), 120)]
}
