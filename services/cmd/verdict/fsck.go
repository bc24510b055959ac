package main

import (
	"context"
	"fmt"

	"github.com/verdict-io/verdict/services/control"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// fsck checks the log and the stream; its error names the first bad position.
func fsck(ctx context.Context, args, environ []string) error {
	var cfg control.FsckConfig
	var trusted string
	var files trust.Files
	fs := process.NewFlags("fsck", "walks the log (numbers, hashes, signatures, whole commands, fold) and compares the stream with it")
	fs.Secret(&cfg.PostgresURL, "postgres-url", "VERDICT_POSTGRES_URL", "", "`URL` of the database, as any user who may read the log")
	fs.Secret(&cfg.NATSURL, "nats-url", "VERDICT_NATS_URL", "", "`URL` of NATS; without it the stream is left out")
	fs.String(&cfg.NATSKey, "nats-key", "VERDICT_CONTROL_NATS_KEY", "", "`FILE` with the seed of control's NATS user, who may read the stream")
	fs.String(&trusted, "trusted-keys", "VERDICT_TRUSTED_KEYS", "", "JSON `FILE` of the public keys that events may be signed with")
	fs.RegisterTLS(&files)
	fs.Require("postgres-url", "trusted-keys")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	var err error
	if cfg.Keys, err = stream.ReadKeyring(trusted); err != nil {
		return err
	}
	if cfg.Trust, err = trust.Open(files); err != nil {
		return err
	}
	report, err := control.Fsck(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Printf("log %s: %d events of %d accounts are good\n", report.LogID, report.Position, report.Accounts)
	switch {
	case cfg.NATSURL == "":
		fmt.Println("stream: not looked at")
	case report.StreamLast == 0:
		fmt.Println("stream: there is none, or it is empty; the relay fills it")
	default:
		fmt.Printf("stream: %d to %d are the log's\n", report.StreamFirst, report.StreamLast)
	}
	return nil
}
