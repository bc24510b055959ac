package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/dev"
	"github.com/verdict-io/verdict/services/internal/process"
)

// hold is how `verdict dev` runs a service: not a verb for people.
func hold(args []string) error {
	if len(args) == 0 {
		return process.Usagef("hold needs a program")
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	code, err := dev.Hold(args, signals)
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}
