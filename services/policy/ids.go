package policy

import (
	"regexp"
	"strings"
)

// Patterns and lengths of names and ids: docs of AgentCore, constraints table.
var (
	accountPattern     = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern      = regexp.MustCompile(`^[a-z0-9-]{9,15}$`)
	policyNamePattern  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	gatewayNamePattern = regexp.MustCompile(`^([0-9a-zA-Z][-]?){1,48}$`)
	targetNamePattern  = regexp.MustCompile(`^([0-9a-zA-Z][-]?){1,100}$`)
	tagPattern         = regexp.MustCompile(`^[a-zA-Z0-9\s._:/=+@-]*$`)
	keyARNPattern      = regexp.MustCompile(`^arn:aws(|-cn|-us-gov):kms:[a-zA-Z0-9-]*:[0-9]{12}:key/[a-zA-Z0-9-]{36}$`)
	redactedPattern    = regexp.MustCompile(`^/(context|principal/tags)(/([^~/]|~[01])+)+$`)
	policyName         = text{min: 1, max: 48, pattern: policyNamePattern} // of engines and policies
	gatewayName        = text{min: 1, max: 48, pattern: gatewayNamePattern}
	targetName         = text{min: 1, max: 100, pattern: targetNamePattern}
	description        = text{min: 1, max: 4096} // of engines and policies
	keyARN             = text{min: 1, max: 2048, pattern: keyARNPattern}
	tagKey             = text{min: 1, max: 128, pattern: tagPattern}
	tagValue           = text{min: 0, max: 256, pattern: tagPattern}
	redactedPath       = text{min: 1, max: 256, pattern: redactedPattern}
	maxTags            = 50
	maxRedactedPaths   = 100
	policyIDPattern    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*-[a-z0-9_]{10}$`)
	gatewayIDPattern   = regexp.MustCompile(`^([0-9a-z][-]?){1,100}-[0-9a-z]{10}$`)
	targetIDPattern    = regexp.MustCompile(`^[0-9a-zA-Z]{10}$`)
	changeIDPattern    = regexp.MustCompile(`^[0-9a-z]{10}$`)
)

// SuffixLength is how many random characters, of [a-z0-9], make an id of a name.
const SuffixLength = 10

// NewID is the id of a thing of the given kind and name: suffix is SuffixLength random characters of [a-z0-9]. An id is
// also a NATS subject token and part of an ARN; the patterns leave nothing that would be special there.
func NewID(kind Kind, name, suffix string) string {
	switch kind {
	case KindGateway:
		return strings.ToLower(name) + "-" + suffix
	case KindTarget, KindChange:
		return suffix
	default:
		return name + "-" + suffix
	}
}

// CheckAccount refuses what is not twelve digits.
func CheckAccount(account string) error { return checkPattern("account", account, accountPattern) }

// CheckRegion refuses what cannot be the region part of an ARN.
func CheckRegion(region string) error { return checkPattern("region", region, regionPattern) }

// ARN is the Amazon resource name of an engine, a policy or a gateway.
func ARN(region, account string, ref Ref) string {
	head := "arn:aws:bedrock-agentcore:" + region + ":" + account + ":"
	switch ref.Kind {
	case KindEngine:
		return head + "policy-engine/" + ref.ID
	case KindPolicy:
		return head + "policy-engine/" + ref.Parent + "/policy/" + ref.ID
	default:
		return head + string(ref.Kind) + "/" + ref.ID
	}
}

// ParseARN is the inverse of ARN within one region and account. Whatever else it is given is not found, since it names
// nothing that the account could have; Field is that of the request.
func ParseARN(region, account, field, arn string) (Ref, error) {
	rest, ours := strings.CutPrefix(arn, "arn:aws:bedrock-agentcore:"+region+":"+account+":")
	kind, id, _ := strings.Cut(rest, "/")
	switch {
	case !strings.HasPrefix(arn, "arn:"):
		return Ref{}, Invalid("pattern", field, "%s must be an ARN such as %s; it is %s",
			field, ARN(region, account, EngineRef("MyEngine-a1b2c3d4e5")), quoted(arn))
	case !ours:
	case kind == "gateway":
		return GatewayRef(id), nil
	case kind == "policy-engine":
		engine, policy, nested := strings.Cut(id, "/policy/")
		if nested {
			return PolicyRef(engine, policy), nil
		}
		return EngineRef(engine), nil
	}
	return Ref{}, NotFound("resource", field, arn)
}
