package follow

import (
	"net/http"

	"connectrpc.com/connect"

	"github.com/verdict-io/verdict/proto/gen/verdict/event/v1/eventv1connect"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// maxEvents bounds a message of control: a page of events has about 2 MiB at most.
const maxEvents = 4 << 20

// NewEvents is the control at a URL. transport carries the caller's credentials, which must be in the role node.
func NewEvents(url string, transport http.RoundTripper) EventSource {
	return eventv1connect.NewEventServiceClient(&http.Client{Transport: transport, CheckRedirect: trust.NoRedirect}, url, connect.WithReadMaxBytes(maxEvents))
}
