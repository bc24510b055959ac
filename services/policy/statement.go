package policy

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go/types"
)

// The length of a statement in characters (Unicode code points).
const (
	minStatement = 35
	maxStatement = 10_000
)

// statementField is the member of a request that a statement comes in.
const statementField = "definition.cedar.statement"

// Effect is what a policy does when it applies.
type Effect string

// The effects of Cedar.
const (
	EffectPermit Effect = "permit"
	EffectForbid Effect = "forbid"
)

// Statement is one policy statement that has been parsed; only ParseStatement makes one. It never changes and may be
// used by many at once.
type Statement struct {
	source   string
	resource string
	effect   Effect
	parsed   *cedarPolicy
}

// Text is the statement as it was given, unchanged.
func (s Statement) Text() string { return s.source }

// Resource is the gateway ARN of `resource == AgentCore::Gateway::"…"`, "" when the statement is scoped by type.
func (s Statement) Resource() string { return s.resource }

// Effect is what the statement does when it applies.
func (s Statement) Effect() Effect { return s.effect }

// ParseStatement reads one Cedar policy and checks everything about it that needs no tools: the text, the syntax, that
// it is exactly one statement, and AgentCore's rules on its scope. What it accepts has a resource that is the type
// AgentCore::Gateway or one gateway, and is one gateway wherever the action is constrained.
//
// It fails with an *Error of kind ErrInvalid, with a position wherever there is one. The time it takes is bounded for
// any text, however it was made.
func ParseStatement(source string) (Statement, error) {
	if err := checkText(source); err != nil {
		return Statement{}, err
	}
	tokens, lexical := tokenize(source)
	if lexical != nil {
		return Statement{}, lexical
	}
	if len(tokens) == 1 {
		return Statement{}, Invalid("statement_empty", statementField, "there is no statement, only blanks or comments")
	}
	if err := checkTemplate(tokens); err != nil {
		return Statement{}, err
	}
	if err := checkShape(tokens); err != nil {
		return Statement{}, err
	}
	policies, err := parsePolicies(source)
	if err != nil {
		return Statement{}, explainParseError(source, tokens)
	}
	if len(policies) != 1 {
		second := token{line: policies[1].Position.Line, column: policies[1].Position.Column}
		return Statement{}, second.refuse("statement_count",
			"a policy is exactly one statement and this text holds %d; the second begins here", len(policies))
	}
	if dateDepth(policies[0]) > maxDates {
		return Statement{}, Invalid("statement_dates", statementField,
			"toDate() and toTime() stand more than %d deep within each other: a date has no time left, so leave the inner ones out", maxDates)
	}
	s := Statement{source: source, effect: effectOf(policies[0]), parsed: policies[0]}
	if s.resource, err = checkScope(policies[0], tokens); err != nil {
		return Statement{}, err
	}
	return s, nil
}

// checkText checks what can be said about the characters alone.
func checkText(source string) error {
	if n := utf8.RuneCountInString(source); n < minStatement || n > maxStatement {
		return Invalid("statement_length", statementField,
			"a statement has %d to %d characters, this one has %d", minStatement, maxStatement, n)
	}
	at := token{line: 1, column: 1}
	for i, r := range source {
		if r == 0 {
			return at.refuse("statement_encoding", "the statement holds a NUL character")
		}
		if r == utf8.RuneError && !strings.HasPrefix(source[i:], string(utf8.RuneError)) {
			return at.refuse("statement_encoding", "the statement is not valid UTF-8")
		}
		at.column++
		if r == '\n' {
			at.line, at.column = at.line+1, 1
		}
	}
	return nil
}

// checkTemplate refuses the slots of Cedar's templates, which cedar-go reports as a character out of place.
func checkTemplate(tokens []token) error {
	for i, t := range tokens {
		if t.source == "?" && tokens[i+1].kind == tokenName {
			return t.refuse("statement_template",
				"templates are not supported: write the entity itself in place of `?%s`", clip(tokens[i+1].source, 64))
		}
	}
	return nil
}

const (
	typeOAuthUser           = "AgentCore::OAuthUser"
	typeIamEntity           = "AgentCore::IamEntity"
	typeUnauthenticatedUser = "AgentCore::UnauthenticatedUser"
	typeGateway             = "AgentCore::Gateway"
	typeAction              = "AgentCore::Action"
)

// statementGateway is the form of a gateway's ARN (docs: gatewayArn of CreateGateway).
var statementGateway = regexp.MustCompile(
	`^arn:aws(-cn|-us-gov)?:bedrock-agentcore:[a-z0-9-]{1,20}:[0-9]{12}:gateway/([0-9a-z]-?){1,48}-[a-z0-9]{10}$`)

// checkScope applies AgentCore's rules on the head of a statement and returns the gateway that it names, if any.
func checkScope(p *cedarPolicy, tokens []token) (gateway string, err error) {
	scope := scopeOf(p)
	gateway, err = checkResource(scope.resource, scopeToken(tokens, "resource"))
	if err != nil {
		return "", err
	}
	at := scopeToken(tokens, "action")
	for _, uid := range scope.action.entities {
		if uid.Type != "Action" && !strings.HasSuffix(string(uid.Type), "::Action") {
			return "", at.refuse("action_type", "the action is of type %s, not of %s; write %s",
				clip(string(uid.Type), 200), typeAction, clip(types.NewEntityUID(typeAction, uid.ID).String(), 300))
		}
	}
	if scope.action.kind != scopeAny && gateway == "" {
		return "", at.refuse("action_needs_resource", "a constrained action scope was encountered, please constrain "+
			"the resource to a specific AgentCore::Gateway resource when creating tool-specific policies: "+
			"write `resource == AgentCore::Gateway::\"<gateway ARN>\"`")
	}
	return gateway, nil
}

// checkResource checks the third part of the head.
func checkResource(term scopeTerm, at token) (gateway string, err error) {
	if term.kind == scopeAny {
		return "", at.refuse("resource_wildcard", "a wildcard resource was detected. To avoid unexpected behavior "+
			"changes, please constrain the resource either to a specific `AgentCore::Gateway` resource or to the "+
			"`AgentCore::Gateway` resource type.")
	}
	if i := slices.IndexFunc(term.types(), func(t string) bool { return t != typeGateway }); i >= 0 {
		return "", at.refuse("resource_type", "the resource of a tool call is an %s, not of type %s",
			typeGateway, clip(term.types()[i], 200))
	}
	switch term.kind {
	case scopeIs:
		return "", nil
	case scopeEqual:
	case scopeAny, scopeIn, scopeInSet, scopeIsIn:
		return "", at.refuse("resource_in", "gateways are in no groups: write `resource is %s`, or "+
			"`resource == %s::\"<gateway ARN>\"`", typeGateway, typeGateway)
	}
	gateway = string(term.entities[0].ID)
	if !statementGateway.MatchString(gateway) {
		return "", at.refuse("resource_arn", "%q is not the ARN of a gateway, which looks like "+
			"arn:aws:bedrock-agentcore:<region>:<account>:gateway/<gateway id>", clip(gateway, 200))
	}
	return gateway, nil
}

// scopeToken finds where a variable stands in the head of a statement that parses: after the first comma that is
// followed by it, since no other place in a head lets a variable follow a comma.
func scopeToken(tokens []token, variable string) token {
	for i := 1; i < len(tokens); i++ {
		if tokens[i].source == variable && tokens[i-1].source == "," {
			return tokens[i]
		}
	}
	return tokens[0]
}
