// Package example is what a Verdict on one machine needs around it: an OpenID Connect issuer that hands out tokens, and a
// server of functions that speaks Lambda's Invoke API. `verdict dev` and tests run them.
//
// They are for development on the loopback interface and nothing else: the issuer puts any claim into a token that its client
// asks for, and the functions run for whoever asks, since no signature is checked.
package example
