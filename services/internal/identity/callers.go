package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// callersFile is the form of the callers file:
//
//	{
//	  "accessKeys": [
//	    {"accessKeyId": "dev", "secretAccessKey": "dev", "account": "000000000000", "id": "dev", "roles": ["admin"]}
//	  ],
//	  "issuers": [
//	    {"issuer": "https://login.example", "audiences": ["verdict"],
//	     "rules": [{"claims": {"groups": "policy-authors"}, "account": "123456789012", "roles": ["author"], "idClaim": "email"}]}
//	  ],
//	  "certificates": [
//	    {"subject": "spiffe://example/gateway", "account": "123456789012", "id": "gateway", "roles": ["gateway"]}
//	  ]
//	}
type callersFile struct {
	AccessKeys   []accessKeyEntry   `json:"accessKeys"`
	Issuers      []issuerEntry      `json:"issuers"`
	Certificates []certificateEntry `json:"certificates"`
}

// place is where a caller belongs.
type place struct {
	Account string   `json:"account"`
	Roles   []string `json:"roles"`
}

type accessKeyEntry struct {
	place
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	ID              string `json:"id"`
}

type certificateEntry struct {
	place
	Subject string `json:"subject"` // see callers.certificate
	ID      string `json:"id"`
}

// issuerEntry is an OpenID Connect issuer. Its keys are found by discovery unless JWKSURL says where they are.
type issuerEntry struct {
	Issuer    string   `json:"issuer"`    // exactly as in the tokens
	Audiences []string `json:"audiences"` // one of them must be in a token
	JWKSURL   string   `json:"jwksUrl"`
	CAFile    string   `json:"caFile"` // PEM of who signs the issuer's certificate; the system's roots without it
	// IDPrefix stands before the id of each caller. Two issuers can give the same id to different people, so that
	// with several of them each must say its prefix, and equal ones say that they mean the same people.
	IDPrefix *string     `json:"idPrefix"`
	Rules    []ruleEntry `json:"rules"` // the first that fits a token decides
}

// ruleEntry fits a token that has all of the claims.
type ruleEntry struct {
	place
	Claims  map[string]claim `json:"claims"`
	IDClaim string           `json:"idClaim"` // whose text becomes the caller's id; "sub" when empty
}

// maxCallersFile bounds the callers file: some thousand callers.
const maxCallersFile = 1 << 20

// readCallersFile reads and decodes. No error repeats a value of the file.
func readCallersFile(name string) (*callersFile, error) {
	data, err := readBounded(name, maxCallersFile)
	if err != nil {
		return nil, fmt.Errorf("callers: %w", err)
	}
	var file callersFile
	if err := decodeStrictly(data, &file); err != nil {
		return nil, fmt.Errorf("callers %s: %w", name, err)
	}
	return &file, nil
}

// readBounded reads a file that must not be larger than limit.
func readBounded(name string, limit int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, nil
}

// decodeStrictly refuses what encoding/json takes: fields that are not known, fields twice, more than one value.
// Its errors name fields and places, never values, which may be secrets.
func decodeStrictly(data []byte, into any) error {
	if err := findRepeated(data); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		text := fmt.Sprintf("field %q must be %s", wrong.Field, jsonKind(wrong.Type))
		if wrong.Offset > 0 {
			text = position(data, wrong.Offset) + ": " + text
		}
		return errors.New(text)
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// jsonKind is how the writer of a file calls what a type is made from.
func jsonKind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[claim]():
		return "a string, number or boolean, an array of such, or an object of further claims"
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Slice:
		return "an array"
	}
	return "an object"
}

// findRepeated walks through the JSON value that data must be.
func findRepeated(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := walk(decoder, data); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("%s: this is not JSON", position(data, syntax.Offset))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%s: the JSON ends too early", position(data, int64(len(data))))
		}
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: something stands behind the JSON", position(data, decoder.InputOffset()))
	}
	return nil
}

// walk takes one value from the decoder.
func walk(decoder *json.Decoder, data []byte) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	delim, composite := token.(json.Delim)
	if !composite {
		return nil
	}
	seen := map[string]bool{}
	for decoder.More() {
		if delim == '{' {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			// encoding/json takes "Roles" for "roles".
			field := strings.ToLower(name.(string))
			if seen[field] {
				return fmt.Errorf("%s: field %q is there twice", position(data, decoder.InputOffset()), name)
			}
			seen[field] = true
		}
		if err := walk(decoder, data); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}

// position is where an offset is, for people.
func position(data []byte, offset int64) string {
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf("line %d, column %d", line, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])+1)
}

// callers are who is recognised by credentials: what the callers file says, made fit for looking up. It does not change.
type callers struct {
	region       string
	accessKeys   map[string]*accessKey // :: access key id → key
	decoy        *accessKey
	issuers      map[string]*issuer // :: claim iss → issuer
	tokens       *tokenCache
	certificates map[string]*Caller // :: name as namesOf writes it → caller
}

// nobody says that no credentials are known.
func (k *callers) nobody() bool {
	return len(k.accessKeys) == 0 && len(k.issuers) == 0 && len(k.certificates) == 0
}

// methods says to callers what they can do.
func (k *callers) methods() string {
	var ways []string
	if len(k.accessKeys) > 0 {
		ways = append(ways, fmt.Sprintf("AWS Signature Version 4 for region %s and service %s", k.region, SigningName))
	}
	if len(k.issuers) > 0 {
		ways = append(ways, "Authorization: Bearer with a token of an issuer that its operator named")
	}
	if len(k.certificates) > 0 {
		ways = append(ways, "a client certificate")
	}
	if len(ways) == 0 {
		return "no Authorization header, on the loopback interface of its machine; its operator named no other callers"
	}
	return strings.Join(ways, ", or ")
}

// buildLocked checks the file and makes it fit for looking up. It changes a only by adding to a.repeat and a.keys, and
// drops from the latter what the file no longer names.
func (a *Authenticator) buildLocked(file *callersFile) (*callers, error) {
	k := &callers{
		region: a.cfg.Region, decoy: newDecoy(), tokens: newTokenCache(),
		accessKeys: map[string]*accessKey{}, issuers: map[string]*issuer{}, certificates: map[string]*Caller{},
	}
	for i, entry := range file.AccessKeys {
		if err := a.addAccessKeyLocked(k, entry); err != nil {
			return nil, fmt.Errorf("accessKeys[%d]: %w", i, err)
		}
	}
	for i, entry := range file.Certificates {
		if err := k.addCertificate(entry); err != nil {
			return nil, fmt.Errorf("certificates[%d]: %w", i, err)
		}
	}
	keys := map[keySource]*keySet{}
	for i, entry := range file.Issuers {
		if err := a.addIssuerLocked(k, keys, entry, len(file.Issuers) > 1); err != nil {
			return nil, fmt.Errorf("issuers[%d]: %w", i, err)
		}
	}
	a.keys = keys
	return k, nil
}

func (a *Authenticator) addAccessKeyLocked(k *callers, entry accessKeyEntry) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	id := entry.AccessKeyID
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, odd) {
		return errors.New("accessKeyId must be 1 to 128 letters, digits, '-' or '_'")
	}
	if entry.SecretAccessKey == "" {
		return fmt.Errorf("secretAccessKey of %s is missing", id)
	}
	if k.accessKeys[id] != nil {
		return fmt.Errorf("accessKeyId %s is there twice", id)
	}
	caller, err := entry.caller(entry.ID, MethodSigV4)
	if err != nil {
		return err
	}
	if err := ownARN(caller); err != nil {
		return err
	}
	key := newAccessKey(id, entry.SecretAccessKey)
	if a.repeat[id] == nil {
		a.repeat[id] = newMemory(a.cfg.Signatures)
	}
	key.caller, key.memory = caller, a.repeat[id]
	k.accessKeys[id] = key
	return nil
}

func (k *callers) addCertificate(entry certificateEntry) error {
	name, err := subjectName(entry.Subject)
	if err != nil {
		return err
	}
	if k.certificates[name] != nil {
		return fmt.Errorf("subject %q is there twice", entry.Subject)
	}
	caller, err := entry.caller(entry.ID, MethodMTLS)
	if err != nil {
		return err
	}
	k.certificates[name] = &caller
	return nil
}

func (a *Authenticator) addIssuerLocked(k *callers, keys map[keySource]*keySet, entry issuerEntry, several bool) error {
	if k.issuers[entry.Issuer] != nil {
		return fmt.Errorf("issuer %q is there twice", entry.Issuer)
	}
	if several && entry.IDPrefix == nil {
		return fmt.Errorf("idPrefix of issuer %q is missing: with several issuers each must have one, since the same id can "+
			"mean different people; equal ones say that it does not", entry.Issuer)
	}
	source, err := entry.source(filepath.Dir(a.cfg.CallersFile))
	if err != nil {
		return err
	}
	set := a.keys[source]
	if set == nil {
		if set, err = newKeySet(source, a.cfg.Logger, a.metrics); err != nil {
			return err
		}
	}
	is := &issuer{name: entry.Issuer, audiences: entry.Audiences, keys: set}
	if entry.IDPrefix != nil {
		is.idPrefix = *entry.IDPrefix
	}
	if is.rules, err = entry.rules(); err != nil {
		return err
	}
	keys[source], k.issuers[entry.Issuer] = set, is
	return nil
}

// source is where the keys of the issuer come from. File names are relative to the folder of the callers file.
func (e issuerEntry) source(folder string) (keySource, error) {
	if err := secureURL("issuer", e.Issuer); err != nil {
		return keySource{}, err
	}
	if e.JWKSURL != "" {
		if err := secureURL("jwksUrl", e.JWKSURL); err != nil {
			return keySource{}, err
		}
	}
	if len(e.Audiences) == 0 || slices.Contains(e.Audiences, "") {
		return keySource{}, fmt.Errorf("audiences of issuer %q must name what its tokens are for, at least one: otherwise "+
			"a token for another service would be taken", e.Issuer)
	}
	source := keySource{issuer: e.Issuer, jwksURL: e.JWKSURL}
	if e.CAFile != "" {
		name := e.CAFile
		if !filepath.IsAbs(name) {
			name = filepath.Join(folder, name)
		}
		pem, err := readBounded(name, maxCallersFile)
		if err != nil {
			return keySource{}, fmt.Errorf("caFile: %w", err)
		}
		source.roots = string(pem)
	}
	return source, nil
}

// rules are those of the issuer.
func (e issuerEntry) rules() ([]rule, error) {
	if len(e.Rules) == 0 {
		return nil, fmt.Errorf("rules of issuer %q are missing: without one no token is taken", e.Issuer)
	}
	var rules []rule
	for i, entry := range e.Rules {
		if entry.Claims == nil {
			return nil, fmt.Errorf("rules[%d]: claims are missing; {} is for every token of the issuer", i)
		}
		caller, err := entry.caller("-", MethodOIDC) // each token brings its own
		if err != nil {
			return nil, fmt.Errorf("rules[%d]: %w", i, err)
		}
		idClaim := entry.IDClaim
		if idClaim == "" {
			idClaim = "sub"
		}
		rules = append(rules, rule{claims: entry.Claims, idClaim: idClaim, caller: caller})
	}
	return rules, nil
}

// caller is one of the place.
func (p place) caller(id, method string) (Caller, error) {
	if err := validID(id); err != nil {
		return Caller{}, err
	}
	if err := ValidAccount(p.Account); err != nil {
		return Caller{}, fmt.Errorf("account of %q: %w", id, err)
	}
	if len(p.Roles) == 0 {
		return Caller{}, fmt.Errorf("roles of %q are missing: some of %s", id, strings.Join(roles, ", "))
	}
	for i, role := range p.Roles {
		if !slices.Contains(roles, role) {
			return Caller{}, fmt.Errorf("roles of %q: %q is none of %s", id, role, strings.Join(roles, ", "))
		}
		if slices.Contains(p.Roles[:i], role) {
			return Caller{}, fmt.Errorf("roles of %q: %s is there twice", id, role)
		}
	}
	return Caller{Account: p.Account, ID: id, Roles: slices.Clip(p.Roles), Method: method}, nil
}

// ownARN refuses an id that is an ARN of another account: gateways name the caller by it, and policies believe that name.
func ownARN(c Caller) error {
	if !strings.HasPrefix(c.ID, "arn:") {
		return nil
	}
	if parts := strings.SplitN(c.ID, ":", 6); len(parts) != 6 || parts[4] != c.Account || parts[5] == "" {
		return fmt.Errorf("id %q begins as an ARN does, and is none of account %s: write it as arn:aws:iam::%s:user/NAME, say, or "+
			"another name without arn: in front", c.ID, c.Account, c.Account)
	}
	return nil
}

// validID is nil for what can stand in events and logs as somebody's name.
func validID(id string) error {
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if id == "" || len(id) > 256 || !utf8.ValidString(id) || strings.ContainsFunc(id, odd) {
		return errors.New("id must be 1 to 256 bytes of printable text")
	}
	return nil
}

// secureURL is nil for an address whose answers can be trusted: https, or http on this machine.
func secureURL(field, text string) error {
	u, err := parseURL(text)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Host)) {
		return fmt.Errorf("%s %q must begin with https://; http:// is for loopback addresses", field, text)
	}
	return nil
}

// parseURL takes absolute URLs without user, query and fragment.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not a URL of scheme, host and path", clip(text))
	}
	return u, nil
}
