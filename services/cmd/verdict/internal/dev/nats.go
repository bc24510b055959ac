package dev

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/verdict-io/verdict/services/internal/stream"
)

var errNotReady = errors.New("it is not ready after 10 s")

// startNATS runs a NATS with JetStream in this process, with the users that `verdict nats-config` prints. Their keys are in dir/nats-keys.
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
	opts, err := natsOptions(dir, addr)
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	log := filepath.Join(dir, "nats.log")
	opts.ServerName, opts.Host, opts.Port, opts.NoSigs, opts.LogFile = "verdict-dev", host, port, true, log
	s, err := server.NewServer(opts)
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

// natsOptions is the printed configuration, as nats-server would read it.
func natsOptions(dir, addr string) (*server.Options, error) {
	users, err := stream.NATSUsers(nil)
	if err != nil {
		return nil, err
	}
	keys, err := stream.EnsureNATSKeys(filepath.Join(dir, natsKeys), users)
	if err != nil {
		return nil, err
	}
	var config strings.Builder
	if err := stream.WriteNATSConfig(&config, stream.NATSConfig{Listen: addr, StoreDir: filepath.Join(dir, "nats"), Users: users, Keys: keys}); err != nil {
		return nil, err
	}
	opts := &server.Options{}
	return opts, opts.ProcessConfigString(config.String())
}

const natsKeys = "nats-keys" // in the folder of what stays

// natsEnviron gives each service its key.
func natsEnviron(dir string) []string {
	var environ []string
	for _, service := range []string{"control", "audit", "decision", "gateway"} {
		environ = append(environ, "VERDICT_"+strings.ToUpper(service)+"_NATS_KEY="+stream.NATSKeyFile(filepath.Join(dir, natsKeys), service))
	}
	return environ
}
