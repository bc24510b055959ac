package main

import (
	"fmt"
	"net/http"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// remote is a service that a verb asks, and as whom.
type remote struct {
	service             string
	url                 string
	credentials, region string
	files               trust.Files
}

// register makes settings of the fields.
func (r *remote) register(fs *process.Flags, service, flag, env, url string) {
	r.service = service
	fs.String(&r.url, flag, env, url, "`URL` of "+service)
	fs.String(&r.credentials, "credentials", "VERDICT_CREDENTIALS", "", "JSON `FILE` that makes you known to "+service+": {\"accessKeyId\", \"secretAccessKey\"} or {\"tokenFile\"}")
	fs.String(&r.region, "region", "VERDICT_REGION", process.DefaultRegion, "`REGION` to sign for")
	fs.RegisterTLS(&r.files)
}

// client sends requests with the credentials.
func (r *remote) client() (*http.Client, error) {
	t, err := trust.Open(r.files)
	if err != nil {
		return nil, err
	}
	if err := t.URL(r.url); err != nil {
		return nil, fmt.Errorf("%s url: %w", r.service, err)
	}
	transport, err := identity.Present(r.credentials, t.Transport(), r.region)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: transport, CheckRedirect: trust.NoRedirect}, nil
}
