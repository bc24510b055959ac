package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalGroup returns this process's group when the terminal's keys go to it, else 0. The command then joins that
// group: Ctrl-C reaches it directly and once, and it may read the terminal.
func terminalGroup() int {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return 0
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	if err != nil || group != unix.Getpgrp() {
		return 0
	}
	return group
}
