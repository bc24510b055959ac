package awsapi

import (
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/policy"
)

type createPolicyEngineInput struct {
	token

	Name             string  `json:"name,omitzero"`
	Description      string  `json:"description,omitzero"      verdict:"stored"`
	Tags             tagMap  `json:"tags,omitzero"             verdict:"stored"`
	EncryptionKeyARN Refused `json:"encryptionKeyArn,omitzero"`
}

type updatePolicyEngineInput struct {
	Description *optional `json:"description,omitzero" verdict:"stored"`
}

// policyEngineSummary is what a summary has; policyEngine all.
type policyEngineSummary struct {
	ID        string `json:"policyEngineId"`
	Name      string `json:"name"`
	ARN       string `json:"policyEngineArn"`
	Status    string `json:"status"`
	CreatedAt string `json:"createdAt"`
	UpdatedAt string `json:"updatedAt"`
}

type policyEngine struct {
	policyEngineSummary

	StatusReasons []string `json:"statusReasons"`
	Description   string   `json:"description,omitzero"`
}

type policyEngines[T any] struct {
	PolicyEngines []T    `json:"policyEngines"`
	NextToken     string `json:"nextToken,omitzero"`
}

func (a *API) policyEngineSummary(account *policy.Account, e *policy.Engine) policyEngineSummary {
	return policyEngineSummary{
		ID: e.ID, Name: e.Name, ARN: a.cfg.App.ARN(account, policy.EngineRef(e.ID)), Status: string(e.Status),
		CreatedAt: timestamp(e.CreatedAt), UpdatedAt: timestamp(e.UpdatedAt),
	}
}

func (a *API) policyEngine(account *policy.Account, e *policy.Engine) policyEngine {
	return policyEngine{
		policyEngineSummary: a.policyEngineSummary(account, e),
		StatusReasons:       reasons(e.Reasons), Description: e.Definition().Description,
	}
}

func (a *API) createPolicyEngine(r *request) (answer, error) {
	in, err := decode[createPolicyEngineInput](a, r)
	if err != nil {
		return answer{}, err
	}
	out, err := a.create(r, in, func(suffix string) policy.Command {
		return policy.CreateEngine{
			ID: policy.NewID(policy.KindEngine, in.Name, suffix), Name: in.Name,
			Definition: policy.EngineDefinition{Description: in.Description}, Tags: in.Tags,
		}
	})
	if err != nil {
		return answer{}, err
	}
	return answer{a.policyEngine(out.Account, out.Account.Engine(out.Ref.ID)), out.Revision}, nil
}

// findEngine is the engine that the path names.
func (a *API) findEngine(r *request) (*policy.Account, *policy.Engine, uint64, error) {
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return nil, nil, 0, err
	}
	e, err := account.FindEngine(r.PathValue("policyEngineId"))
	return account, e, revision, err
}

func (a *API) listPolicyEngines(r *request) (answer, error) { return listEngines(a, r, a.policyEngine) }

func (a *API) listPolicyEngineSummaries(r *request) (answer, error) {
	return listEngines(a, r, a.policyEngineSummary)
}

func listEngines[T any](a *API, r *request, show func(*policy.Account, *policy.Engine) T) (answer, error) {
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return answer{}, err
	}
	engines, next, err := page(r, policyPage, app.Listing{Account: account.ID, Kind: "engines"}, account.EnginesAfter,
		func(e *policy.Engine) string { return e.ID })
	if err != nil {
		return answer{}, err
	}
	out := policyEngines[T]{PolicyEngines: []T{}, NextToken: next}
	for _, e := range engines {
		out.PolicyEngines = append(out.PolicyEngines, show(account, e))
	}
	return answer{out, revision}, nil
}

func (a *API) updatePolicyEngine(r *request) (answer, error) {
	in, err := decode[updatePolicyEngineInput](a, r)
	if err != nil {
		return answer{}, err
	}
	id := r.PathValue("policyEngineId")
	out, err := a.change(r, policy.UpdateEngine{ID: id, Description: in.Description.pointer()})
	if err != nil {
		return answer{}, err
	}
	return answer{a.policyEngine(out.Account, out.Account.Engine(id)), out.Revision}, nil
}

func (a *API) deletePolicyEngine(r *request) (answer, error) {
	id := r.PathValue("policyEngineId")
	out, err := a.remove(r, policy.DeleteEngine{ID: id})
	if err != nil {
		return answer{}, err
	}
	return answer{a.policyEngine(out.Account, out.Account.Engine(id)), out.Revision}, nil
}
