package dev

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

var errNotReady = errors.New("it is not ready after 10 s")

// startNATS runs a NATS with JetStream in this process.
func startNATS(dir, addr string) (*server.Server, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	log := filepath.Join(dir, "nats.log")
	s, err := server.NewServer(&server.Options{
		ServerName: "verdict-dev", Host: host, Port: port, JetStream: true, StoreDir: filepath.Join(dir, "nats"), NoSigs: true, LogFile: log,
	})
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, &loggedError{"nats at " + addr, log, errNotReady}
	}
	return s, nil
}
