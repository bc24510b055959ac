package main

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"sync"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// idFile is the file of --ids; nil is none. It is safe for concurrent use.
type idFile struct {
	file *os.File

	mu  sync.Mutex // guards out
	out *bufio.Writer
}

// openIDs begins the file anew.
func openIDs(path string) (*idFile, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Create(path) //nolint:gosec // whoever runs this names the file
	if err != nil {
		return nil, err
	}
	return &idFile{file: file, out: bufio.NewWriter(file)}, nil
}

// add writes one line.
func (f *idFile) add(answer *decisionv1.AuthorizeResponse) error {
	if f == nil {
		return nil
	}
	line := answer.GetDecisionId() + " " + strings.TrimPrefix(answer.GetDecision().String(), "DECISION_") + "\n"
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.out.WriteString(line)
	return err
}

// close returns when every line is in the file.
func (f *idFile) close() error {
	if f == nil {
		return nil
	}
	return errors.Join(f.out.Flush(), f.file.Close())
}
