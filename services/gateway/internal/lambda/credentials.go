package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Of a file of credentials: how large it may be, and how long what it said counts.
const (
	maxCredentials = 16 << 10
	credentialsAge = time.Minute
)

// ReadCredentials are those of a file {"accessKeyId": "…", "secretAccessKey": "…", "sessionToken": "…"}, the last where they are
// a session's. It is read again from time to time, since whoever keeps a session's credentials there puts new ones before the old
// ones end. "" are those in the environment's AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, nil when there are
// none. No error repeats a secret.
func ReadCredentials(file string) (aws.CredentialsProvider, error) {
	if file == "" {
		return fromEnvironment()
	}
	if _, err := readFile(file); err != nil {
		return nil, err
	}
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return readFile(file) })), nil
}

// errCredentials: there is nothing to sign with.
var errCredentials = errors.New("lambda credentials")

func fromEnvironment() (aws.CredentialsProvider, error) {
	c := aws.Credentials{
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN"),
	}
	if c.AccessKeyID == "" && c.SecretAccessKey == "" {
		return nil, nil
	}
	if !c.HasKeys() {
		return nil, errors.New("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY one is set and one is not: set both, or none")
	}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil }), nil
}

func readFile(name string) (aws.Credentials, error) {
	file, err := os.Open(name)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxCredentials+1))
	if err == nil && len(data) > maxCredentials {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxCredentials)
	}
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	var said struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
		SessionToken    string `json:"sessionToken"`
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&said)
	if _, more := decoder.Token(); err != nil || !errors.Is(more, io.EOF) || said.AccessKeyID == "" || said.SecretAccessKey == "" {
		return aws.Credentials{}, fmt.Errorf(`%w: %s must hold {"accessKeyId": "…", "secretAccessKey": "…"}, with a "sessionToken" where there is one, and nothing else`, errCredentials, name)
	}
	return aws.Credentials{
		AccessKeyID: said.AccessKeyID, SecretAccessKey: said.SecretAccessKey, SessionToken: said.SessionToken,
		Source: "file", CanExpire: true, Expires: time.Now().Add(credentialsAge),
	}, nil
}
