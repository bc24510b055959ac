package authzen

import (
	"net/http"
	"regexp"

	"connectrpc.com/connect"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// MetadataPath is where the API is described.
const MetadataPath = "/.well-known/authzen-configuration"

// metadata is the description. What is absent is not offered.
//
//nolint:tagliatelle // AuthZEN names them so
type metadata struct {
	PolicyDecisionPoint string `json:"policy_decision_point"`
	Evaluation          string `json:"access_evaluation_endpoint"`
	Evaluations         string `json:"access_evaluations_endpoint"`
}

// Metadata serves the description to everybody: AuthZEN has it asked for without credentials, and it says nothing but where to ask
// with them. So it stands outside of the edge.
func (a *API) Metadata() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		base, err := a.base(r)
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			writeJSON(w, http.StatusMethodNotAllowed, map[string]failure{"error": {Status: http.StatusMethodNotAllowed, Code: "method", Message: "the metadata is read with GET"}})
		case err != nil:
			a.Refuse(w, err)
		default:
			w.Header().Set("Cache-Control", "max-age=300")
			writeJSON(w, http.StatusOK, metadata{base, base + evaluationPath, base + evaluationsPath})
		}
	})
}

// hosts are what a Host header may be: a name or an address, and a port.
var hosts = regexp.MustCompile(`^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// base is the URL that a caller is told to ask: the one it asked, since it takes nothing else for this service's.
func (a *API) base(r *http.Request) (string, *rpc.Error) {
	switch {
	case a.cfg.PublicURL != "":
		return a.cfg.PublicURL, nil
	case !hosts.MatchString(r.Host):
		return "", rpc.Errorf(connect.CodeInvalidArgument, "host", "the Host of the request is no name of a host")
	case r.TLS != nil:
		return "https://" + r.Host, nil
	}
	return "http://" + r.Host, nil
}
