package main

import (
	"context"
	"os"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/dev"
	"github.com/verdict-io/verdict/services/internal/process"
)

// removeExample takes apart what dev made.
func removeExample(ctx context.Context, args, environ []string) error {
	var control remote
	fs := process.NewFlags("remove-example", "deletes the refund example of verdict dev: its policy, engine, target and gateway, found by name")
	control.register(fs, "control", "control-url", "VERDICT_CONTROL_URL", "http://127.0.0.1:7401")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	client, err := control.client()
	if err != nil {
		return err
	}
	return dev.RemoveExample(ctx, client, control.url, os.Stdout)
}
