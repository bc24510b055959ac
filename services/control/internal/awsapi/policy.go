package awsapi

import (
	"errors"
	"iter"
	"strings"

	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/policy"
)

type createPolicyInput struct {
	token

	Name            string                 `json:"name,omitzero"`
	Definition      *policyDefinition      `json:"definition,omitzero"`
	Description     string                 `json:"description,omitzero"     verdict:"stored"`
	ValidationMode  policy.ValidationMode  `json:"validationMode,omitzero"  verdict:"stored"`
	EnforcementMode policy.EnforcementMode `json:"enforcementMode,omitzero"`
}

type updatePolicyInput struct {
	Definition      *policyDefinition      `json:"definition,omitzero"`
	Description     *optional              `json:"description,omitzero"     verdict:"stored"`
	ValidationMode  policy.ValidationMode  `json:"validationMode,omitzero"  verdict:"stored"`
	EnforcementMode policy.EnforcementMode `json:"enforcementMode,omitzero"`
}

// policyDefinition is a union.
type policyDefinition struct {
	Cedar      *statement `json:"cedar,omitzero"`
	Policy     *statement `json:"policy,omitzero"`
	Generation Refused    `json:"policyGeneration,omitzero"`
}

type statement struct {
	Statement string `json:"statement"`
}

// parse takes a definition apart and parses its statement.
func (d *policyDefinition) parse() (policy.Language, policy.Statement, error) {
	if d == nil || (d.Cedar == nil) == (d.Policy == nil) {
		return "", policy.Statement{}, policy.Invalid("union", "definition", `definition must have exactly one member: {"cedar":{"statement":"…"}}`)
	}
	language, in := policy.LanguageCedar, d.Cedar
	if in == nil {
		language, in = policy.LanguagePolicy, d.Policy
	}
	s, err := policy.ParseStatement(in.Statement)
	if refused, ok := errors.AsType[*policy.Error](err); ok && language == policy.LanguagePolicy {
		moved := *refused
		moved.Field = strings.Replace(moved.Field, "definition.cedar", "definition.policy", 1)
		err = &moved
	}
	return language, s, err
}

func definitionOf(b *policy.Body) *policyDefinition {
	s := &statement{b.Statement}
	if b.Language == policy.LanguagePolicy {
		return &policyDefinition{Policy: s}
	}
	return &policyDefinition{Cedar: s}
}

// policySummary is what a summary has; policyDetail all.
type policySummary struct {
	ID              string                 `json:"policyId"`
	Name            string                 `json:"name"`
	EngineID        string                 `json:"policyEngineId"`
	ARN             string                 `json:"policyArn"`
	Status          string                 `json:"status"`
	EnforcementMode policy.EnforcementMode `json:"enforcementMode"`
	CreatedAt       string                 `json:"createdAt"`
	UpdatedAt       string                 `json:"updatedAt"`
}

type policyDetail struct {
	policySummary

	Definition    *policyDefinition `json:"definition"`
	StatusReasons []string          `json:"statusReasons"`
	Description   string            `json:"description,omitzero"`
}

type policies[T any] struct {
	Policies  []T    `json:"policies"`
	NextToken string `json:"nextToken,omitzero"`
}

func (a *API) policySummary(account *policy.Account, p *policy.Policy) policySummary {
	return policySummary{
		ID: p.ID, Name: p.Name, EngineID: p.EngineID, ARN: a.cfg.App.ARN(account, policy.PolicyRef(p.EngineID, p.ID)), Status: string(p.Status),
		EnforcementMode: p.Definition().Enforcement, CreatedAt: timestamp(p.CreatedAt), UpdatedAt: timestamp(p.UpdatedAt),
	}
}

// policyDetail shows what is in force; of a policy that never was, what could not come into force.
func (a *API) policyDetail(account *policy.Account, p *policy.Policy) policyDetail {
	body := p.Definition()
	return policyDetail{
		policySummary: a.policySummary(account, p),
		Definition:    definitionOf(body), StatusReasons: reasons(p.Reasons), Description: body.Description,
	}
}

func (a *API) createPolicy(r *request) (answer, error) {
	in, err := decode[createPolicyInput](a, r)
	if err != nil {
		return answer{}, err
	}
	language, s, err := in.Definition.parse()
	if err != nil {
		return answer{}, err
	}
	out, err := a.create(r, in, func(suffix string) policy.Command {
		return policy.CreatePolicy{
			EngineID: r.PathValue("policyEngineId"), ID: policy.NewID(policy.KindPolicy, in.Name, suffix), Name: in.Name,
			Language: language, Statement: s, Description: in.Description, Enforcement: in.EnforcementMode, Validation: in.ValidationMode,
		}
	})
	if err != nil {
		return answer{}, err
	}
	return answer{a.policyDetail(out.Account, out.Account.Engine(out.Ref.Parent).Policy(out.Ref.ID)), out.Revision}, nil
}

// findPolicy is the policy that the path names.
func (a *API) findPolicy(r *request) (*policy.Account, *policy.Policy, uint64, error) {
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return nil, nil, 0, err
	}
	p, err := account.FindPolicy(r.PathValue("policyEngineId"), r.PathValue("policyId"))
	return account, p, revision, err
}

func (a *API) listPolicies(r *request) (answer, error) { return listPolicies(a, r, a.policyDetail) }

func (a *API) listPolicySummaries(r *request) (answer, error) {
	return listPolicies(a, r, a.policySummary)
}

func listPolicies[T any](a *API, r *request, show func(*policy.Account, *policy.Policy) T) (answer, error) {
	account, e, revision, err := a.findEngine(r)
	if err != nil {
		return answer{}, err
	}
	scope := r.URL.Query().Get("targetResourceScope")
	found, next, err := page(r, policyPage, app.Listing{Account: account.ID, Kind: "policies", Parent: e.ID, Filter: scope},
		func(after string) iter.Seq[*policy.Policy] { return e.PoliciesScopedAfter(after, scope) },
		func(p *policy.Policy) string { return p.ID })
	if err != nil {
		return answer{}, err
	}
	out := policies[T]{Policies: []T{}, NextToken: next}
	for _, p := range found {
		out.Policies = append(out.Policies, show(account, p))
	}
	return answer{out, revision}, nil
}

func (a *API) updatePolicy(r *request) (answer, error) {
	in, err := decode[updatePolicyInput](a, r)
	if err != nil {
		return answer{}, err
	}
	command := policy.UpdatePolicy{
		EngineID: r.PathValue("policyEngineId"), ID: r.PathValue("policyId"), Description: in.Description.pointer(),
		Enforcement: in.EnforcementMode, Validation: in.ValidationMode,
	}
	if in.Definition != nil {
		language, s, err := in.Definition.parse()
		if err != nil {
			return answer{}, err
		}
		command.Language, command.Statement = language, &s
	}
	out, err := a.change(r, command)
	if err != nil {
		return answer{}, err
	}
	return answer{a.policyDetail(out.Account, out.Account.Engine(command.EngineID).Policy(command.ID)), out.Revision}, nil
}

func (a *API) deletePolicy(r *request) (answer, error) {
	command := policy.DeletePolicy{EngineID: r.PathValue("policyEngineId"), ID: r.PathValue("policyId")}
	out, err := a.remove(r, command)
	if err != nil {
		return answer{}, err
	}
	return answer{a.policyDetail(out.Account, out.Account.Engine(command.EngineID).Policy(command.ID)), out.Revision}, nil
}
