package inbound

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/policy"
)

const sigV4 = "AWS4-HMAC-SHA256"

// signed is who signed the request. Other ways to be known, by a certificate or on the loopback interface, are for who looks after
// Verdict, and must not stand in for what the gateway asks for.
func (a *Authenticator) signed(r *http.Request, account string) (Caller, *Refusal) {
	if header := r.Header.Get("Authorization"); !strings.HasPrefix(header, sigV4+" ") {
		return Caller{}, &Refusal{
			Status: http.StatusUnauthorized, Challenge: sigV4, outcome: isMissing, reason: "no signature",
			Message: "Missing signature: sign the request with AWS Signature Version 4, for the service " + identity.SigningName,
		}
	}
	caller, err := a.cfg.Callers.Authenticate(r)
	if err != nil {
		return Caller{}, unknown(err)
	}
	switch {
	case caller.Method != identity.MethodSigV4:
		return Caller{}, forbidden("This gateway takes signed requests alone", "recognised by "+caller.Method)
	case caller.Account != account:
		return Caller{}, forbidden("The access key belongs to another account than the gateway", "of another account")
	}
	if err := a.cfg.Access.Check(caller, access.Invoke); err != nil {
		return Caller{}, forbidden(err.Error(), err.Error())
	}
	arn, err := principalARN(caller.Account, caller.ID)
	if err != nil {
		return Caller{}, forbidden("The access key has no place here: "+err.Error(), err.Error())
	}
	// A POST may call a tool, a DELETE ends a session. Which POST does is for whoever reads it to find out: all are taken once.
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if err := a.cfg.Callers.Once(caller); err != nil {
			return Caller{}, unknown(err)
		}
	}
	return Caller{Principal: &decisionv1.Principal{Type: policy.TypeIamEntity, Id: arn}}, nil
}

// unknown is the refusal for an error of identity, whose texts are for the caller.
func unknown(err error) *Refusal {
	out := &Refusal{Status: http.StatusBadRequest, Message: "The body of the request could not be read", outcome: isInvalid, reason: err.Error()}
	large, isLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isLarge:
		out.Status, out.Message = http.StatusRequestEntityTooLarge, fmt.Sprintf("The request has more than %d bytes", large.Limit)
	case errors.Is(err, identity.ErrUnauthenticated):
		out.Status, out.Message, out.Challenge = http.StatusUnauthorized, err.Error(), sigV4
	case errors.Is(err, identity.ErrForbidden):
		out.Status, out.Message, out.outcome = http.StatusForbidden, err.Error(), isForbidden
	case errors.Is(err, identity.ErrExhausted):
		out.Status, out.Message, out.RetryAfter, out.outcome = http.StatusTooManyRequests, err.Error(), time.Minute, isUnavailable
	case errors.Is(err, identity.ErrUnavailable):
		out.Status, out.Message, out.RetryAfter, out.outcome = http.StatusServiceUnavailable, err.Error(), time.Second, isUnavailable
	}
	return out
}

// principalARN is the ARN of a caller: its id, when that is one of the account, without the session of an assumed role, so that
// policies name the role; else that of a user of this name.
func principalARN(account, id string) (string, error) {
	if !strings.HasPrefix(id, "arn:") {
		return "arn:aws:iam::" + account + ":user/" + id, nil
	}
	parts := strings.SplitN(id, ":", 6)
	if len(parts) != 6 || parts[4] != account || parts[5] == "" {
		return "", errors.New("its id in the callers file looks like an ARN, and is none of its account")
	}
	if kind, rest, _ := strings.Cut(parts[5], "/"); parts[2] == "sts" && kind == "assumed-role" {
		role, _, _ := strings.Cut(rest, "/")
		parts[5] = kind + "/" + role
	}
	return strings.Join(parts, ":"), nil
}
