package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/dev"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// removeExample takes apart what dev made.
func removeExample(ctx context.Context, args, environ []string) error {
	var url, credentials, region string
	fs := process.NewFlags("remove-example", "deletes the refund example of verdict dev: its policy, engine, target and gateway, found by name")
	fs.String(&url, "control-url", "VERDICT_CONTROL_URL", "http://127.0.0.1:7401", "`URL` of control")
	fs.String(&credentials, "credentials", "VERDICT_CREDENTIALS", "", "JSON `FILE` that makes you known to control: {\"accessKeyId\", \"secretAccessKey\"} or {\"tokenFile\"}")
	fs.String(&region, "region", "VERDICT_REGION", process.DefaultRegion, "`REGION` to sign for")
	var files trust.Files
	fs.RegisterTLS(&files)
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	t, err := trust.Open(files)
	if err != nil {
		return err
	}
	if err := t.URL(url); err != nil {
		return fmt.Errorf("control url: %w", err)
	}
	transport, err := identity.Present(credentials, t.Transport(), region)
	if err != nil {
		return err
	}
	// Credentials do not go wherever an answer points.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return dev.RemoveExample(ctx, client, url, os.Stdout)
}
