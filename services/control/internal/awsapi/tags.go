package awsapi

import (
	"github.com/verdict-io/verdict/services/policy"
)

type tagResourceInput struct {
	Tags tagMap `json:"tags,omitzero" verdict:"stored"`
}

type tags struct {
	Tags map[string]string `json:"tags"`
}

func (a *API) tagResource(r *request) (answer, error) {
	in, err := decode[tagResourceInput](a, r)
	if err != nil {
		return answer{}, err
	}
	ref, err := a.cfg.App.ParseARN(r.Context(), "resourceArn", r.PathValue("resourceArn"))
	if err != nil {
		return answer{}, err
	}
	out, err := a.change(r, policy.AddTags{Of: ref, Tags: in.Tags})
	return answer{nil, out.Revision}, err
}

func (a *API) untagResource(r *request) (answer, error) {
	ref, err := a.cfg.App.ParseARN(r.Context(), "resourceArn", r.PathValue("resourceArn"))
	if err != nil {
		return answer{}, err
	}
	out, err := a.change(r, policy.RemoveTags{Of: ref, Keys: r.URL.Query()["tagKeys"]})
	return answer{nil, out.Revision}, err
}

func (a *API) listTagsForResource(r *request) (answer, error) {
	arn := r.PathValue("resourceArn")
	ref, err := a.cfg.App.ParseARN(r.Context(), "resourceArn", arn)
	if err != nil {
		return answer{}, err
	}
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return answer{}, err
	}
	if !account.Has(ref) {
		return answer{}, policy.NotFound("resource", "resourceArn", arn)
	}
	return answer{tags{account.Tags(ref)}, revision}, nil
}
