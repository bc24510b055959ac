package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent lets the kernel kill a child when this process is killed.
func dieWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Pdeathsig = syscall.SIGKILL
	return attr
}

// adoptOrphans makes this process the new parent of descendants that lose theirs, so that descendants finds them
// whatever session or group they have moved to.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// descendants lists the children of pid, their children, and so on.
func descendants(pid int) []relative {
	children := map[int][]relative{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if r, ok := readStat(file); ok {
			children[r.parent] = append(children[r.parent], r)
		}
	}
	found := children[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found
}

// readStat reads "pid (name) state parent …", where the name may hold blanks and parentheses.
func readStat(file string) (relative, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return relative{}, false // it ended meanwhile
	}
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 2 {
		return relative{}, false
	}
	pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
	parent, _ := strconv.Atoi(fields[1])
	return relative{pid: pid, parent: parent, zombie: fields[0] == "Z" || fields[0] == "X"}, true
}
