package decision

import (
	"net/http"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// Handler is what a service serves.
func (n *Node) Handler(cfg rpc.Config, publicURL string) http.Handler {
	cfg.Errors, cfg.Timeout = failures, maxWait
	return n.handler(cfg, publicURL)
}
