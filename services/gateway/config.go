package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// DecisionEmbedded is the Config.Decision of a process that decides itself.
const DecisionEmbedded = "embedded"

// Config is what the process is told.
type Config struct {
	process.Common

	URL            string // under which agents reach it; "" is what each request says
	Account        string // whose gateways are served; "" is all of them
	Dir            string
	MaxBody        int64
	EgressLoopback bool

	Decision            string // DecisionEmbedded, or URLs behind commas
	DecisionTimeout     time.Duration
	DecisionCredentials string // file, for decision nodes

	LambdaEndpoint    string
	LambdaCredentials string // file
	TargetTimeout     time.Duration

	ControlURL  string
	Credentials string // file, for control; "" shows none but the certificate
	NATSURL     string
	NATSKey     string // file; "" for a NATS that knows no users
	TrustedKeys string // file

	// Of the decision node within.
	Node       string
	Partitions int
	SpoolBytes int64
}

// Register makes settings of the fields of c.
func (c *Config) Register(fs *process.Flags) {
	c.Common.Register(fs, "127.0.0.1:7404")
	c.registerGateway(fs)
	c.registerPolicies(fs)
	fs.String(&c.Node, "node", "VERDICT_NODE", stream.HostNode("gateway-"), "with --decision embedded: `NAME` under which it decides, the same at every start and no other node's: 1 to 64 of [A-Za-z0-9_-]")
	fs.Int(&c.Partitions, "partitions", "VERDICT_PARTITIONS", 1, "with --decision embedded: `N` streams that decisions are spread over, by node; as audit has it")
	fs.Bytes(&c.SpoolBytes, "spool-bytes", "", 1<<30, "with --decision embedded: `SIZE` of the decisions that may wait to get into ClickHouse; when it is reached, every call is denied")
	fs.Check("control-url", validURL)
	fs.Check("node", stream.ValidNode)
	fs.Between("partitions", 1, stream.MaxPartitions)
	fs.Require("dir", "trusted-keys", "control-url")
}

func (c *Config) registerGateway(fs *process.Flags) {
	fs.String(&c.URL, "url", "VERDICT_GATEWAY_URL", "", "`URL` that agents reach this process at, as control has it in --gateway-url; without it what each request says of itself")
	fs.String(&c.Account, "account", "", "", "12-digit `ACCOUNT` whose gateways are served; without it those of all accounts, or, with --decision URL, those of "+identity.DefaultAccount)
	fs.String(&c.Dir, "dir", "VERDICT_GATEWAY_DIR", "", "`FOLDER` of this process's own for its state, and with --decision embedded for decisions that are not in ClickHouse yet")
	fs.Bytes(&c.MaxBody, "max-body", "", 7<<20, "`SIZE` of a request's body")
	fs.Bool(&c.EgressLoopback, "egress-loopback", "", false, "let issuers and targets be on this machine; who may define gateways then reaches what listens here")
	fs.String(&c.Decision, "decision", "", DecisionEmbedded, "who decides: `embedded`, within this process, or the URL of a decision node; several behind commas")
	fs.Duration(&c.DecisionTimeout, "decision-timeout", "", 2*time.Second, "how long a decision may take; a call is denied when it takes longer")
	fs.String(&c.DecisionCredentials, "decision-credentials", "", "", "JSON `FILE` that makes this process known to decision nodes, in the role gateway and the account of --account: {\"accessKeyId\", \"secretAccessKey\"} or {\"tokenFile\"}; without it the certificate of --tls-cert does")
	fs.String(&c.LambdaEndpoint, "lambda-endpoint", "", "", "`URL` of what speaks Lambda's Invoke API; without it AWS's, in the region of a function's ARN")
	fs.String(&c.LambdaCredentials, "lambda-credentials", "", "", "JSON `FILE` that invocations are signed with: {\"accessKeyId\", \"secretAccessKey\", \"sessionToken\"}; without it AWS_ACCESS_KEY_ID and its kin in the environment")
	fs.Duration(&c.TargetTimeout, "target-timeout", "", time.Minute, "how long a target may take to answer, at most 15m")
	fs.Check("account", identity.ValidAccount)
	fs.Check("url", validURL)
	fs.Check("lambda-endpoint", validURL)
	fs.Check("decision", validDecision)
}

func (c *Config) registerPolicies(fs *process.Flags) {
	fs.String(&c.ControlURL, "control-url", "VERDICT_CONTROL_URL", "http://127.0.0.1:7401", "`URL` of control, or of a balancer before its replicas")
	fs.String(&c.Credentials, "credentials", "", "", "JSON `FILE` that makes this process known to control, in the role node: {\"accessKeyId\", \"secretAccessKey\"} or {\"tokenFile\"}; without it the certificate of --tls-cert does")
	fs.Secret(&c.NATSURL, "nats-url", "VERDICT_NATS_URL", "nats://127.0.0.1:7422", "`URL` of NATS; several behind commas")
	fs.String(&c.NATSKey, "nats-key", "", "", "`FILE` with the seed of this service's NATS user, gateway.nk of `verdict nats-config`, or node-NAME.nk of the name that it decides under; without it NATS must take anybody")
	fs.String(&c.TrustedKeys, "trusted-keys", "VERDICT_TRUSTED_KEYS", "", "JSON `FILE` of the public keys that events may be signed with")
}

func validURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("it must be a URL such as https://gateway.example.com")
	}
	return nil
}

func validDecision(text string) error {
	if text == DecisionEmbedded {
		return nil
	}
	for one := range strings.SplitSeq(text, ",") {
		if err := validURL(one); err != nil {
			return fmt.Errorf("%q: it must be %q or URLs such as https://decision-1.example.com:7402", one, DecisionEmbedded)
		}
	}
	return nil
}
