package example

import (
	"errors"
	"net/http"
)

// IssuerConfig is what an issuer needs.
type IssuerConfig struct {
	// URL is the issuer's name, "http://127.0.0.1:7405"; its paths are below it.
	URL string
	// KeyFile keeps the key that signs, so that tokens outlive a restart. It is made when it is not there. "" keeps none.
	KeyFile string
	Clients []Client
}

// Client may ask for tokens.
type Client struct {
	ID, Secret string
	Scopes     []string // those that it may ask for; it gets all when it asks for none
	// Claims are those that it may ask for with the parameter "claims"; nil allows any.
	Claims []string
}

// Issuer hands out tokens.
type Issuer struct{ http.Handler }

// NewIssuer reads or makes the key.
func NewIssuer(IssuerConfig) (*Issuer, error) { return nil, errors.New("not there yet") }
