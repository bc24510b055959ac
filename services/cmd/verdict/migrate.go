package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/control"
	"github.com/verdict-io/verdict/services/internal/process"
)

// migrate brings the database up to this version, as its owner.
func migrate(ctx context.Context, args, environ []string) error {
	var owner, passwordFile string
	fs := process.NewFlags("migrate", "makes the tables of this version in Postgres, and the role verdict_control that control connects as")
	fs.Secret(&owner, "owner-url", "VERDICT_OWNER_URL", "", "`URL` of the database, as a user who may create schemas and roles")
	fs.String(&passwordFile, "control-password-file", "", "", "`FILE` that holds the password to give to the role verdict_control; without it the password stays as it is")
	fs.Require("owner-url")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	password, err := readPassword(passwordFile)
	if err != nil {
		return err
	}
	applied, err := control.Migrate(ctx, owner, password)
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		fmt.Println("the database is up to date")
	}
	for _, version := range applied {
		fmt.Printf("applied migration %d\n", version)
	}
	return nil
}

func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	password := strings.TrimRight(string(data), "\r\n")
	if err == nil && password == "" {
		err = fmt.Errorf("%s is empty", path)
	}
	return password, err
}
