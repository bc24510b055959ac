package awsapi

import (
	"github.com/verdict-io/verdict/services/policy"
)

// Policies that AgentCore writes from English, and resource policies: Verdict has neither, and says so.

type policyGenerations struct {
	PolicyGenerations []struct{} `json:"policyGenerations"` // there are none
}

func (a *API) startPolicyGeneration(*request) (answer, error) {
	return answer{}, refuse("content", "Verdict does not write policies from English: write the Cedar statement, and create the policy with it")
}

// getPolicyGeneration answers for all that asks for one generation.
func (a *API) getPolicyGeneration(r *request) (answer, error) {
	if _, _, _, err := a.findEngine(r); err != nil {
		return answer{}, err
	}
	return answer{}, policy.NotFound("policy generation", "policyGenerationId", r.PathValue("policyGenerationId"))
}

func (a *API) listPolicyGenerations(r *request) (answer, error) {
	_, _, revision, err := a.findEngine(r)
	return answer{policyGenerations{[]struct{}{}}, revision}, err
}

func (a *API) putResourcePolicy(*request) (answer, error) {
	return answer{}, refuse("policy", "Verdict has no resource policies: who may do what is in the access rules of the service")
}

func (a *API) noResourcePolicy(r *request) (answer, error) {
	return answer{}, policy.NotFound("resource policy", "resourceArn", r.PathValue("resourceArn"))
}
