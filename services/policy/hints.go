package policy

import "strings"

// hint is what the author of a statement most likely wanted at the token that does not fit, as ": write …"; "" when
// nothing is likely. The cases are mistakes that published policies make.
func hint(tokens []token, i int) string {
	for _, find := range []func([]token, int) string{hintHas, hintEntity, hintDecimal, hintWord, hintName} {
		if text := find(tokens, i); text != "" {
			return ": " + text
		}
	}
	return ""
}

// hintHas: has(context.input.x).
func hintHas(tokens []token, i int) string {
	if tokens[i].source != "has" || tokens[i+1].source != "(" {
		return ""
	}
	path := ""
	for _, t := range tokens[i+2:] {
		if t.kind != tokenName && t.source != "." {
			break
		}
		path += t.source
	}
	dot := strings.LastIndexByte(path, '.')
	if dot <= 0 || dot == len(path)-1 {
		return "`has` stands between a record and a name; write `context.input has name`"
	}
	return "`has` stands between a record and a name; write `" + clip(path[:dot]+" has "+path[dot+1:], 200) + "`"
}

// hintEntity: resource is AgentCore::Gateway::"arn".
func hintEntity(tokens []token, i int) string {
	if tokens[i].kind != tokenString || i == 0 || tokens[i-1].source != "::" {
		return ""
	}
	path, from := pathBefore(tokens, i-1)
	if from < 2 || tokens[from-1].source != "is" {
		return ""
	}
	return "`is` takes a type; to name one entity write `" + tokens[from-2].source + " == " +
		clip(path+"::"+tokens[i].source, 300) + "`"
}

// pathBefore reads the path, as in AgentCore::Gateway, that ends before token i, and where it begins.
func pathBefore(tokens []token, i int) (path string, from int) {
	from = i
	for from > 0 && tokens[from-1].kind == tokenName {
		path = tokens[from-1].source + path
		from--
		if from < 2 || tokens[from-1].source != "::" || tokens[from-2].kind != tokenName {
			break
		}
		path = "::" + path
		from--
	}
	return path, from
}

// hintDecimal: x <= 5.5.
func hintDecimal(tokens []token, i int) string {
	if tokens[i].kind != tokenInteger || i < 2 || tokens[i-1].source != "." || tokens[i-2].kind != tokenInteger {
		return ""
	}
	literal := `decimal("` + clip(tokens[i-2].source+"."+tokens[i].source, 64) + `")`
	if i > 2 {
		for operator, method := range map[string]string{
			"<": "lessThan", "<=": "lessThanOrEqual", ">": "greaterThan", ">=": "greaterThanOrEqual",
		} {
			if tokens[i-3].source == operator {
				return "Cedar has no fractions as literals; write `." + method + "(" + literal + ")`"
			}
		}
	}
	return "Cedar has no fractions as literals; write `" + literal + "`"
}

// hintWord: words and signs of other languages, and of AgentCore's extensions of Cedar.
func hintWord(tokens []token, i int) string {
	switch tokens[i].source {
	case "guardrails", "guardrail":
		return "guardrail conditions are not supported here"
	case "temporal":
		return "temporal conditions are not supported here"
	case "suppressOutput":
		return "the effect suppressOutput is not supported here"
	case "=":
		return "equality is `==`"
	case "&", "and", "AND":
		return "write `&&`"
	case "|", "or", "OR":
		return "write `||`"
	case "not", "NOT":
		return "write `!(…)`"
	case "'":
		return "strings are in double quotes"
	case "/", "%":
		return "Cedar has no division"
	case "allow", "Allow":
		return "write `permit`"
	case "deny", "Deny":
		return "write `forbid`"
	}
	return ""
}

// hintName: input.amount instead of context.input.amount, or a bare word instead of a string.
func hintName(tokens []token, i int) string {
	if tokens[i].kind != tokenName || i == 0 || tokens[i-1].kind == tokenName || tokens[i+1].source == "(" {
		return ""
	}
	switch before := tokens[i-1].source; {
	case tokens[i].source == "input" || tokens[i].source == "system":
		return "write `context." + tokens[i].source + "`"
	case before == "(" || before == "{" || before == "!" || before == "&&" || before == "||":
		return "an expression begins with principal, action, resource, context or a literal"
	}
	return ""
}
