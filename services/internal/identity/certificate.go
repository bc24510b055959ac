package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
)

// certificate is whom the client certificate of a connection names.
//
// The names are compared whole: first the URIs of the certificate (spiffe://…), then its DNS names without regard to
// case, then its common name, written in the file as CN=…. Names of a kind that comes first decide alone. When a
// certificate has names of two different callers in one kind, it is refused rather than one of them taken.
func (k *callers) certificate(state *tls.ConnectionState) (Caller, error) {
	if len(state.VerifiedChains) == 0 {
		return Caller{}, refuse("the client certificate was not verified: this service was not told whose certificates to trust")
	}
	for _, names := range namesOf(state.VerifiedChains[0][0]) {
		found, more := k.named(names)
		if more {
			return Caller{}, fmt.Errorf("%w: the client certificate has names of several callers of this service, and must be one's",
				ErrForbidden)
		}
		if found != nil {
			return *found, nil
		}
	}
	return Caller{}, fmt.Errorf("%w: the client certificate is valid, but none of its names (URI, DNS, or CN) is that of a "+
		"caller of this service: its operator must add one to the callers file", ErrForbidden)
}

// named is the caller whom some of the names mean, and whether they mean another one too.
func (k *callers) named(names []string) (found *Caller, more bool) {
	for _, name := range names {
		switch caller := k.certificates[name]; {
		case caller == nil:
		case found == nil:
			found = caller
		case caller.Account != found.Account || caller.ID != found.ID || !slices.Equal(caller.Roles, found.Roles):
			return nil, true
		}
	}
	return found, false
}

const commonName = "CN="

// namesOf are the names of a certificate as the callers file writes them, the kind that decides first first.
func namesOf(cert *x509.Certificate) [][]string {
	var uris, dns, cn []string
	for _, uri := range cert.URIs {
		uris = append(uris, uri.String())
	}
	for _, name := range cert.DNSNames {
		// A name of another kind that an authority put here must not pass for it.
		if name = strings.ToLower(name); validDNS(name) == nil {
			dns = append(dns, name)
		}
	}
	if cert.Subject.CommonName != "" {
		cn = append(cn, commonName+cert.Subject.CommonName)
	}
	return [][]string{uris, dns, cn}
}

// subjectName is a subject of the callers file as namesOf writes it.
func subjectName(subject string) (string, error) {
	if name, ok := strings.CutPrefix(subject, commonName); ok {
		if name == "" {
			return "", fmt.Errorf("subject %q has no name behind %s", subject, commonName)
		}
		return subject, nil
	}
	if strings.Contains(subject, "://") {
		uri, err := parseURL(subject)
		if err != nil {
			return "", fmt.Errorf("subject: %w", err)
		}
		return uri.String(), nil
	}
	name := strings.ToLower(subject)
	if err := validDNS(name); err != nil {
		return "", fmt.Errorf("subject %w", err)
	}
	return name, nil
}

func validDNS(name string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}
	if name == "" || strings.ContainsFunc(name, odd) || net.ParseIP(name) != nil {
		return fmt.Errorf("%q is neither a URI (spiffe://cluster/gateway), nor a DNS name, nor a common name (CN=gateway)", name)
	}
	return nil
}
