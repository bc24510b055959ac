package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
	"github.com/verdict-io/verdict/services/internal/example"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// What a function sees is what the caller sent, and what AgentCore tells its functions.
func TestInvoke(t *testing.T) {
	server := example.NewFunctions()
	var event json.RawMessage
	var client map[string]string
	server.Register("tool", func(_ context.Context, e json.RawMessage, c map[string]string) (any, error) {
		event, client = e, c
		return json.RawMessage(`{"status":"success","n":9007199254740993}`), nil
	})
	at := httptest.NewServer(server)
	defer at.Close()
	f := functions(t, lambda.Config{Endpoint: at.URL})

	c := call()
	c.Arguments = []byte(`{ "amount" : 9007199254740993, "amount":1.0e0, "text":"<é>\u00e9" }`)
	answer, err := f.Invoke(t.Context(), c)
	if err != nil || string(answer) != `{"status":"success","n":9007199254740993}` {
		t.Fatalf("%s, %v", answer, err)
	}
	if string(event) != string(c.Arguments) {
		t.Errorf("the function got %s, the caller sent %s", event, c.Arguments)
	}
	want := map[string]string{
		"bedrockAgentCoreToolName": "RefundTarget___process_refund", "bedrockAgentCoreGatewayId": "gw-1", "bedrockAgentCoreTargetId": "TARGET0001",
		"bedrockAgentCoreMessageVersion": "1.0", "bedrockAgentCoreAwsRequestId": "req-1", "bedrockAgentCoreMcpMessageId": "7",
	}
	if diff := cmp.Diff(want, client); diff != "" {
		t.Errorf("client context: -want +got %s", diff)
	}

	c.Arguments = nil
	if _, err := f.Invoke(t.Context(), c); err != nil || string(event) != "{}" {
		t.Errorf("without arguments the function got %s, %v", event, err)
	}
}

func TestQualifierIsHonoured(t *testing.T) {
	server := example.NewFunctions()
	for _, name := range []string{"tool", "tool:live", "tool:7"} {
		server.Register(name, func(context.Context, json.RawMessage, map[string]string) (any, error) { return name, nil })
	}
	at := httptest.NewServer(server)
	defer at.Close()
	f := functions(t, lambda.Config{Endpoint: at.URL})
	for behind, want := range map[string]string{"": `"tool"`, ":$LATEST": `"tool"`, ":live": `"tool:live"`, ":7": `"tool:7"`} {
		c := call()
		c.ARN += behind
		if answer, err := f.Invoke(t.Context(), c); err != nil || string(answer) != want {
			t.Errorf("%s: %s, %v; want %s", c.ARN, answer, err, want)
		}
	}
	c := call()
	c.ARN += ":gone"
	if _, err := f.Invoke(t.Context(), c); failure(t, err).Kind != lambda.Refused {
		t.Errorf("an alias that is not there: %v", err)
	}
}

// A function's own words reach the caller, where in its code it failed does not.
func TestFunctionError(t *testing.T) {
	for payload, want := range map[string]string{
		`{"errorMessage":"no such order","errorType":"LookupError","stackTrace":["  File \"/var/task/app.py\", line 3"]}`: "the tool failed: no such order",
		`{"errorMessage":"boom\nTraceback (most recent call last):\n  File \"/var/task/app.py\""}`:                        "the tool failed: boom",
		`{"errorMessage":"` + strings.Repeat("é", 400) + `"}`:                                                             "the tool failed: " + strings.Repeat("é", 250) + "…",
		`{"errorMessage":"a\u001b[2Jb"}`: "the tool failed: a[2Jb",
		`{"errorMessage":7}`:             "the tool failed and does not say why",
		`nonsense`:                       "the tool failed and does not say why",
	} {
		server, asked := counting(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
			_, _ = w.Write([]byte(payload))
		})
		_, err := functions(t, lambda.Config{Endpoint: server.URL}).Invoke(t.Context(), call())
		if f := failure(t, err); f.Kind != lambda.FunctionError || f.Message != want {
			t.Errorf("%s: %s %q, want %q", payload, f.Kind, f.Message, want)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%s: run %d times", payload, n)
		}
	}
}

// Credentials sign for the region of the function. Without, nothing is signed.
func TestCredentialsSign(t *testing.T) {
	var headers http.Header
	server, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		headers = r.Header
		_, _ = w.Write([]byte("{}"))
	})
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, []byte(`{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"hush","sessionToken":"session"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	credentials, err := lambda.ReadCredentials(file)
	if err != nil {
		t.Fatal(err)
	}
	c := call()
	c.ARN = strings.Replace(arn, "us-east-1", "eu-central-1", 1)
	if _, err := functions(t, lambda.Config{Endpoint: server.URL, Credentials: credentials}).Invoke(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	got := headers.Get("Authorization")
	if err := testenv.Contains(got, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/", "/eu-central-1/lambda/aws4_request"); err != nil {
		t.Error(err)
	}
	if headers.Get("X-Amz-Security-Token") != "session" {
		t.Error("the session's token is not shown")
	}
	if _, err := functions(t, lambda.Config{Endpoint: server.URL}).Invoke(t.Context(), c); err != nil || headers.Get("Authorization") != "" {
		t.Errorf("without credentials: %v, Authorization %q", err, headers.Get("Authorization"))
	}
}

// Whoever keeps a session's credentials in the file need not restart the gateway.
func TestCredentialsAreReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.json")
	write := func(id string) {
		if err := os.WriteFile(file, []byte(`{"accessKeyId":"`+id+`","secretAccessKey":"hush"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("FIRST")
	synctest.Test(t, func(t *testing.T) {
		credentials, err := lambda.ReadCredentials(file)
		if err != nil {
			t.Fatal(err)
		}
		is := func(want string) {
			t.Helper()
			if got, err := credentials.Retrieve(t.Context()); err != nil || got.AccessKeyID != want {
				t.Errorf("%s, %v; want %s", got.AccessKeyID, err, want)
			}
		}
		is("FIRST")
		write("SECOND")
		time.Sleep(61 * time.Second) // of the bubble
		is("SECOND")
	})
}

// Where there is nothing to sign with any more, nothing was sent, and the target is not to blame.
func TestCredentialsThatAreGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, []byte(`{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"hush"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	server, asked := counting(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	credentials, err := lambda.ReadCredentials(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f := functions(t, lambda.Config{Endpoint: server.URL, Credentials: credentials})
	for range 10 {
		_, err := f.Invoke(t.Context(), call())
		if got := failure(t, err); got.Kind != lambda.Refused || strings.Contains(got.Message, "all the same") {
			t.Fatalf("%+v", got)
		}
	}
	if err := f.Ready(key); err != nil || asked.Load() > 0 {
		t.Errorf("%v, %d requests", err, asked.Load())
	}
}

func TestCredentialsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.json")
	for _, text := range []string{
		``, `{}`, `{"accessKeyId":"A"}`, `{"secretAccessKey":"hush"}`, `{"accessKeyId":"A","secretAccessKey":"hush","more":1}`,
		`{"accessKeyId":"A","secretAccessKey":"hush"} {}`, `{"accessKeyId":"A","secretAccessKey":["hush"]}`, `{"accessKeyId":"A","secretAccessKey":"hush"}` + strings.Repeat(" ", 20_000),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := lambda.ReadCredentials(file); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%.80s: %v", text, err)
		}
	}
	if _, err := lambda.ReadCredentials(file + ".gone"); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func TestCredentialsOfTheEnvironment(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	if c, err := lambda.ReadCredentials(""); c != nil || err != nil {
		t.Errorf("without any: %v, %v", c, err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	if _, err := lambda.ReadCredentials(""); err == nil {
		t.Error("half of a key is taken")
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	c, err := lambda.ReadCredentials("")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Retrieve(t.Context()); err != nil || got.AccessKeyID != "AKIDEXAMPLE" {
		t.Errorf("%v, %v", got.AccessKeyID, err)
	}
}

// Without an endpoint a function is called where AWS has it: in the region of its ARN.
func TestEndpointOfTheRegion(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	credentials, err := lambda.ReadCredentials("")
	if err != nil {
		t.Fatal(err)
	}
	var dialed []string
	client := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		return nil, errors.New("no farther")
	}}}
	f := functions(t, lambda.Config{HTTP: client, Credentials: credentials})
	for _, where := range []string{"aws:lambda:us-east-1", "aws:lambda:eu-central-1", "aws-us-gov:lambda:us-gov-west-1", "aws-cn:lambda:cn-north-1"} {
		c := call()
		c.ARN = "arn:" + where + ":123456789012:function:tool"
		_, err := f.Invoke(t.Context(), c)
		if got := failure(t, err); got.Kind != lambda.Unavailable || strings.Contains(got.Message, "amazonaws") {
			t.Errorf("%s: %+v", where, got)
		}
	}
	want := []string{
		"lambda.us-east-1.amazonaws.com:443", "lambda.eu-central-1.amazonaws.com:443", "lambda.us-gov-west-1.amazonaws.com:443", "lambda.cn-north-1.amazonaws.com.cn:443",
	}
	if diff := cmp.Diff(want, dialed); diff != "" {
		t.Errorf("-want +got %s", diff)
	}
}

// What cannot be a call goes nowhere.
func TestNoCall(t *testing.T) {
	server, asked := counting(t, func(http.ResponseWriter, *http.Request) {})
	f := functions(t, lambda.Config{Endpoint: server.URL})
	for name, change := range map[string]func(*lambda.Call){
		"no ARN":        func(c *lambda.Call) { c.ARN = "" },
		"a name":        func(c *lambda.Call) { c.ARN = "tool" },
		"other service": func(c *lambda.Call) { c.ARN = "arn:aws:s3:us-east-1:123456789012:function:tool" },
		"host":          func(c *lambda.Call) { c.ARN = "arn:aws:lambda:us-east-1.evil.example/:123456789012:function:tool" },
		"region":        func(c *lambda.Call) { c.ARN = "arn:aws:lambda:evil:123456789012:function:tool" },
		"long id":       func(c *lambda.Call) { c.MessageID = strings.Repeat("7", 4<<10) },
		"longer id":     func(c *lambda.Call) { c.MessageID = strings.Repeat("7", 2<<20) },
	} {
		c := call()
		change(&c)
		_, err := f.Invoke(t.Context(), c)
		if got := failure(t, err); got.Kind != lambda.Refused || len(got.Detail) > 2500 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]lambda.Config{
		"unsigned":       {},
		"a host":         {Endpoint: "lambda.example.com"},
		"other scheme":   {Endpoint: "ftp://lambda.example.com"},
		"a password":     {Endpoint: "https://me:hush@lambda.example.com"},
		"a query":        {Endpoint: "https://lambda.example.com/?x=1"},
		"timeout":        {Endpoint: "https://lambda.example.com", Timeout: 16 * time.Minute},
		"past":           {Endpoint: "https://lambda.example.com", Timeout: -1},
		"negative limit": {Endpoint: "https://lambda.example.com", MaxAnswer: -1},
	} {
		if _, err := lambda.New(c); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One connection carries all calls of a caller who waits, also after what went wrong without breaking it.
func TestConnectionsAreReused(t *testing.T) {
	var opened atomic.Int64
	n := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch n++; n % 4 {
		case 1:
			w.WriteHeader(http.StatusTooManyRequests) // comes again at once
		case 2:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"Message":"not found"}`))
		case 3:
			w.Header().Set("X-Amz-Function-Error", "Handled")
			_, _ = w.Write([]byte(`{"errorMessage":"no"}`))
		default:
			_, _ = w.Write([]byte(`{"large":"` + strings.Repeat("x", 1<<20) + `"}`))
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	f := functions(t, lambda.Config{Endpoint: server.URL})
	for range 12 {
		_, _ = f.Invoke(t.Context(), call())
	}
	if n != 16 || opened.Load() != 1 {
		t.Errorf("%d requests on %d connections, want 16 on 1", n, opened.Load())
	}
}

// Many callers at once keep as many connections, and need no more.
func TestConnectionsAreKept(t *testing.T) {
	const callers, rounds = 20, 5
	var opened atomic.Int64
	var together sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		together.Done()
		together.Wait() // so that each needs a connection of its own
		_, _ = w.Write([]byte("{}"))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	f := functions(t, lambda.Config{Endpoint: server.URL})
	for range rounds {
		together.Add(callers)
		var calls sync.WaitGroup
		for range callers {
			calls.Go(func() {
				if _, err := f.Invoke(t.Context(), call()); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	if n := opened.Load(); n >= 2*callers {
		t.Errorf("%d connections for %d callers in %d rounds", n, callers, rounds)
	}
}

func TestMetrics(t *testing.T) {
	server, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	registry := prometheus.NewRegistry()
	f := functions(t, lambda.Config{Endpoint: server.URL, Registerer: registry})
	for _, id := range []string{"1", "2", strings.Repeat("3", 9000)} {
		c := call()
		c.MessageID = id
		_, _ = f.Invoke(t.Context(), c)
	}
	err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP verdict_gateway_lambda_invocations_total Invocations of functions, by outcome; left_out are those that a circuit breaker refused.
# TYPE verdict_gateway_lambda_invocations_total counter
verdict_gateway_lambda_invocations_total{outcome="ok"} 2
verdict_gateway_lambda_invocations_total{outcome="refused"} 1
`), "verdict_gateway_lambda_invocations_total")
	if err != nil {
		t.Error(err)
	}
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range gathered {
		if m.GetName() != "verdict_gateway_lambda_seconds" {
			continue
		}
		if n := m.GetMetric()[0].GetHistogram().GetSampleCount(); n != 3 {
			t.Errorf("%d were timed, want 3", n)
		}
		return
	}
	t.Error("nothing is timed")
}
