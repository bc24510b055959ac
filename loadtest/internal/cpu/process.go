// Package cpu tells how much processor time a process of this machine has used, and which process listens at an address. It reads
// /proc, so it works on Linux alone; elsewhere every call is an error.
package cpu

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ErrGone: the process ended; another one may have its number now.
var ErrGone = errors.New("the process has ended")

// tick is the unit of times in /proc/<pid>/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// Process is one process, never a later one with the same number.
type Process struct {
	pid   int
	start string // when it began, in ticks since the machine did
}

// Open finds a process by its number.
func Open(pid int) (*Process, error) {
	s, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	return &Process{pid: pid, start: s.start}, nil
}

// Used is the processor time of all threads of the process so far, its own and the kernel's for it, in steps of 10 ms. Its error
// wraps ErrGone when the process is no longer there.
func (p *Process) Used() (time.Duration, error) {
	s, err := readStat(p.pid)
	if err != nil {
		return 0, err
	}
	if s.start != p.start || s.state == "Z" || s.state == "X" {
		return 0, fmt.Errorf("pid %d: %w", p.pid, ErrGone)
	}
	return s.used, nil
}

type stat struct {
	state, start string
	used         time.Duration
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) //nolint:gosec // a number is no path
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("pid %d: %w (or this machine has no /proc)", pid, ErrGone)
	}
	if err != nil {
		return stat{}, err
	}
	s, err := parseStat(string(text))
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return s, nil
}

// parseStat reads a line as proc_pid_stat(5) says. The program's name may hold spaces and parentheses.
func parseStat(text string) (stat, error) {
	const state, utime, stime, start = 3, 14, 15, 22 // as the manual counts them
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= start-state {
		return stat{}, fmt.Errorf("%d fields behind the name are too few", len(fields))
	}
	out := stat{state: fields[0], start: fields[start-state]}
	for _, i := range []int{utime, stime} {
		ticks, err := strconv.ParseInt(fields[i-state], 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("field %d is no number: %w", i, err)
		}
		out.used += time.Duration(ticks) * tick
	}
	return out, nil
}
