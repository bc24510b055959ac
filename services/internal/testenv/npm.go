package testenv

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// NPMVariable names the folder where the programs of tools/mcp-npm are installed.
const NPMVariable = "VERDICT_MCP_NPM"

// NPMClient is the MCP client that most agents have, npm's @modelcontextprotocol/sdk, in a process of its own.
type NPMClient struct {
	t  testing.TB
	in io.Writer
	p  *npmProgram
}

// NPMError is what the client says of what failed: the code is JSON-RPC's, or the status of HTTP, or 0.
type NPMError struct {
	Code    int
	Message string
	Data    json.RawMessage
}

// Error is the message, which holds a code of JSON-RPC as well.
func (e *NPMError) Error() string { return e.Message }

// NPMTool is a tool as the client lists it.
type NPMTool struct {
	Name, Description string
	InputSchema       json.RawMessage
}

// NPMSession is what a client and a server agreed on.
type NPMSession struct {
	ProtocolVersion, SessionID string
	ServerInfo                 struct{ Name, Version string }
}

// NewNPMClient starts a client, which ends with the test. With a server that has sessions it keeps a stream open until Close: a server
// that waits for its connections to end must be closed after that.
func NewNPMClient(t testing.TB) *NPMClient {
	t.Helper()
	p := startNPM(t, "client.mjs")
	return &NPMClient{t: t, in: p.in, p: p}
}

// Connect introduces the client to the server at a URL, with headers in each request. The connection before it is closed.
func (c *NPMClient) Connect(url string, headers map[string]string) (NPMSession, error) {
	c.t.Helper()
	var session NPMSession
	err := c.do(map[string]any{"do": "connect", "url": url, "headers": headers}, &session)
	return session, err
}

// List is the tools of all pages, and how many pages these were.
func (c *NPMClient) List() (tools []NPMTool, pages int, err error) {
	c.t.Helper()
	var listed struct {
		Tools []NPMTool
		Pages int
	}
	err = c.do(map[string]any{"do": "list"}, &listed)
	return listed.Tools, listed.Pages, err
}

// Call is the result of a tool, as the client got it.
func (c *NPMClient) Call(name string, arguments any) (json.RawMessage, error) {
	c.t.Helper()
	var result json.RawMessage
	err := c.do(map[string]any{"do": "call", "name": name, "arguments": arguments}, &result)
	return result, err
}

// Ping is nil when the server answers.
func (c *NPMClient) Ping() error {
	c.t.Helper()
	return c.do(map[string]any{"do": "ping"}, &struct{}{})
}

// Close ends the connection; the client can be connected again.
func (c *NPMClient) Close() {
	c.t.Helper()
	if err := c.do(map[string]any{"do": "close"}, &struct{}{}); err != nil {
		c.t.Error(err)
	}
}

// do has the client do something. The error is an *NPMError.
func (c *NPMClient) do(command map[string]any, result any) error {
	c.t.Helper()
	line, err := json.Marshal(command)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatalf("the client from npm has ended: %v\n%s", err, c.p.said())
	}
	var answer struct {
		Result json.RawMessage
		Error  *NPMError
	}
	c.p.read(&answer)
	if answer.Error != nil {
		return answer.Error
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		c.t.Fatalf("%s: %v", answer.Result, err)
	}
	return nil
}

// NPMIssuer is what npm's oidc-provider is to be: its clients get access tokens for the resource by the grant client_credentials.
type NPMIssuer struct {
	Resource string            `json:"resource"` // a URL, the audience of tokens
	Clients  []NPMIssuerClient `json:"clients"`
}

// NPMIssuerClient may ask for tokens, in which the claims are.
type NPMIssuerClient struct {
	ID     string         `json:"id"`
	Secret string         `json:"secret"`
	Scopes []string       `json:"scopes,omitempty"`
	Claims map[string]any `json:"claims,omitempty"`
}

// Start starts the issuer, which ends with the test, and returns its URL. Its discovery document is where OpenID Connect has it.
func (i NPMIssuer) Start(t testing.TB) (url string) {
	t.Helper()
	settings, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	var started struct{ URL string }
	startNPM(t, "issuer.mjs", string(settings)).read(&started)
	return started.URL
}

// npmProgram is a running program of tools/mcp-npm. It ends when its input does, so also when the test is killed.
type npmProgram struct {
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Reader
	log string // the file that its stderr goes to
}

func startNPM(t testing.TB, name string, args ...string) *npmProgram {
	t.Helper()
	program := filepath.Join(os.Getenv(NPMVariable), name)
	installed := filepath.Join(filepath.Dir(program), "node_modules", ".package-lock.json")
	for _, needed := range []string{program, installed} {
		if _, err := os.Stat(needed); os.Getenv(NPMVariable) == "" || err != nil {
			t.Fatalf("%s names no folder with the programs from npm: run `make mcp-npm`, then tests with `make test`", NPMVariable)
		}
	}
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	child := osexec.Command("node", append([]string{program}, args...)...)
	child.Stderr = log
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = child.Process.Kill() // it may wait for a server that is gone
		_ = child.Wait()
	})
	return &npmProgram{t: t, in: in, out: bufio.NewReader(out), log: log.Name()}
}

// read is the next line that it prints.
func (p *npmProgram) read(into any) {
	p.t.Helper()
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, into)
	}
	if err != nil {
		p.t.Fatal(fmt.Errorf("a program from npm: %w: %s\n%s", err, line, p.said()))
	}
}

// said is what it has logged.
func (p *npmProgram) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
