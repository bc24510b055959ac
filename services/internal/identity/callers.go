package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Grant is for whom a caller acts, and as what.
type Grant struct {
	Account string   `json:"account"`
	Roles   []string `json:"roles"`
}

// AccessKey is a caller who signs.
type AccessKey struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	ID              string `json:"id"` // the access key's when empty
	Grant
}

// Certificate is a caller whose connections have a client certificate. Name is one of the names in it: dns:NAME or uri:URI of its
// subject's alternative names, or cn:NAME of its subject.
type Certificate struct {
	Name string `json:"name"`
	ID   string `json:"id"` // Name when empty
	Grant
}

// File is the form of the file of callers, which is JSON.
type File struct {
	AccessKeys   []AccessKey   `json:"accessKeys,omitempty"`
	Issuers      []Issuer      `json:"issuers,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
}

// maxFile bounds the file of callers.
const maxFile = 4 << 20

// callers are those of a file, in force.
type callers struct {
	keys         map[string]AccessKey
	issuers      map[string]*issuer
	certificates map[string]Certificate
}

func readCallers(name string) (*File, error) {
	var f File
	return &f, readJSON(name, &f)
}

// readJSON reads a file of exactly one JSON value, of which every member is known. Its errors show nothing of what is in it.
func readJSON(name string, to any) error {
	data, err := readBounded(name, maxFile)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err = d.Decode(to)
	if err == nil && d.More() {
		err = errors.New("there is more behind the first JSON value")
	}
	if err == nil {
		return nil
	}
	at := d.InputOffset()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = syntax.Offset
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at, err = kind.Offset, fmt.Errorf("%s is a %s, which it must not be", kind.Field, kind.Value)
	}
	return fmt.Errorf("%s, line %d: %w", name, 1+bytes.Count(data[:min(int(at), len(data))], []byte("\n")), err)
}

func readBounded(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return data, err
}

func (a *Authenticator) newCallers(f *File) (*callers, error) {
	c := &callers{keys: map[string]AccessKey{}, issuers: map[string]*issuer{}, certificates: map[string]Certificate{}}
	for i, key := range f.AccessKeys {
		if err := key.check(c); err != nil {
			return nil, fmt.Errorf("accessKeys[%d]: %w", i, err)
		}
		if key.ID == "" {
			key.ID = key.AccessKeyID
		}
		c.keys[key.AccessKeyID] = key
	}
	for i, from := range f.Issuers {
		is, err := a.newIssuer(from)
		if err == nil && c.issuers[from.Issuer] != nil {
			err = errors.New("the issuer is there twice: put its rules together")
		}
		if err != nil {
			return nil, fmt.Errorf("issuers[%d]: %w", i, err)
		}
		c.issuers[from.Issuer] = is
	}
	for i, cert := range f.Certificates {
		if err := cert.check(c); err != nil {
			return nil, fmt.Errorf("certificates[%d]: %w", i, err)
		}
		if cert.ID == "" {
			cert.ID = cert.Name
		}
		c.certificates[cert.Name] = cert
	}
	return c, nil
}

func (k AccessKey) check(c *callers) error {
	_, twice := c.keys[k.AccessKeyID]
	switch {
	case k.AccessKeyID == "" || len(k.AccessKeyID) > 128 || strings.ContainsAny(k.AccessKeyID, "/, =\t\r\n"):
		return errors.New("accessKeyId needs 1 to 128 characters, none of them a blank, a comma, / or =")
	case k.SecretAccessKey == "":
		return errors.New("secretAccessKey is missing")
	case twice:
		return fmt.Errorf("accessKeyId %q is there twice", k.AccessKeyID)
	}
	return k.Grant.check()
}

func (cert Certificate) check(c *callers) error {
	kind, name, _ := strings.Cut(cert.Name, ":")
	_, twice := c.certificates[cert.Name]
	switch {
	case name == "" || !slices.Contains([]string{"dns", "uri", "cn"}, kind):
		return fmt.Errorf("name is %q: it must be dns:NAME, uri:URI or cn:NAME", cert.Name)
	case twice:
		return fmt.Errorf("name %q is there twice", cert.Name)
	}
	return cert.Grant.check()
}

func (g Grant) check() error {
	if err := ValidAccount(g.Account); err != nil {
		return err
	}
	if len(g.Roles) == 0 {
		return fmt.Errorf("roles is empty: it needs some of %s", strings.Join(Roles(), ", "))
	}
	for _, role := range g.Roles {
		if !slices.Contains(Roles(), role) {
			return fmt.Errorf("there is no role %q; there are %s", role, strings.Join(Roles(), ", "))
		}
	}
	return nil
}

// certificate is who has a certificate that TLS has verified. Of several names the first that the file has counts: alternative
// names as they stand in the certificate, URIs before DNS names, and then the common name.
func (c *callers) certificate(of *x509.Certificate) (Caller, error) {
	var names []string
	for _, uri := range of.URIs {
		names = append(names, "uri:"+uri.String())
	}
	for _, name := range of.DNSNames {
		names = append(names, "dns:"+name)
	}
	names = append(names, "cn:"+of.Subject.CommonName)
	for _, name := range names {
		if found, ok := c.certificates[name]; ok {
			return Caller{Account: found.Account, ID: found.ID, Roles: found.Roles}, nil
		}
	}
	return Caller{}, fmt.Errorf("%w: the client certificate is genuine, and none of its names (%s) is among the callers of this "+
		"service: an operator adds one to certificates in the file of --callers", ErrForbidden, strings.Join(names, ", "))
}
