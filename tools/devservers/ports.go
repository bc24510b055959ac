package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const (
	postgresPort       = 7432
	clickhousePort     = 7440
	clickhouseHTTPPort = 7441
)

// ports gives each server its port. Those given once are not given again in the same run.
type ports struct {
	free bool

	mu    sync.Mutex // the servers start at the same time
	given map[int]bool
}

func newPorts(free bool) *ports { return &ports{free: free, given: map[int]bool{}} }

// choose returns fixed, or any free port. Ports that the kernel gives to outgoing connections are left out, so that
// a server started again finds its port still free.
func (p *ports) choose(fixed int) (int, error) {
	if !p.free {
		if portFree(fixed) {
			return fixed, nil
		}
		return 0, fmt.Errorf("port %d is taken%s: end that process, or use --ports free", fixed, heldBy(fixed))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if !p.given[port] && portFree(port) {
			p.given[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between 10000 and 32000")
}

func portFree(port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// heldBy returns " by pid N (command)" when that can be found out.
func heldBy(port int) string {
	pid, command := portHolder(port)
	if pid == 0 {
		return ""
	}
	return fmt.Sprintf(" by pid %d (%s)", pid, command)
}
