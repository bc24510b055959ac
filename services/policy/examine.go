package policy

import (
	"crypto/sha256"
	"fmt"
)

// Examination is what looking at a policy that is CREATING or UPDATING found. It holds for one version of the policy and
// one set of tools; FinishPolicy refuses it as stale when either has changed.
type Examination struct {
	Version uint64   // of the policy
	Basis   Hash     // of the tools
	Reasons []string // why it cannot be activated; none when it can
}

// Examine checks the candidate of a policy against the tools that it is about: those of the gateway that its scope names,
// or else those of all gateways that its engine is attached to. It is slow (it type-checks), so it runs outside the
// lock. ok is false when nothing waits to be examined.
func Examine(a *Account, ref Ref, region string) (_ Examination, ok bool) {
	return a.examination(ref, region, func(p *Policy) []string { return a.findings(ref.Parent, p.Candidate, region) })
}

// Unexaminable is the examination of a policy that could not be finished in so many attempts: it fails.
func Unexaminable(a *Account, ref Ref, region string, attempts int) (_ Examination, ok bool) {
	return a.examination(ref, region, func(*Policy) []string {
		return []string{fmt.Sprintf("the statement could not be checked in %d attempts, because of an error in this service: write it differently, and report it", attempts)}
	})
}

func (a *Account) examination(ref Ref, region string, reasons func(*Policy) []string) (_ Examination, ok bool) {
	p, err := a.FindPolicy(ref.Parent, ref.ID)
	if err != nil || !p.waits() {
		return Examination{}, false
	}
	return Examination{Version: p.Version, Basis: a.basis(ref.Parent, p.Candidate, region), Reasons: fitting(reasons(p))}, true
}

// maxReasonBytes is how much of the reasons an event holds. There may be a hundred of 2,048 characters, which can be 800 KB:
// such an event could not be recorded, and the policy would wait for ever.
const maxReasonBytes = 128 << 10

// fitting is as many of the first reasons as fit. One always does.
func fitting(reasons []string) []string {
	size := 0
	for i, r := range reasons {
		if size += len(r); size > maxReasonBytes {
			return reasons[:i]
		}
	}
	return reasons
}

func (a *Account) findings(engineID string, b *Body, region string) []string {
	s, err := ParseStatement(b.Statement)
	if err != nil {
		// It parsed when it was created, so an older version accepted what this one does not.
		return []string{err.Error()}
	}
	gateways := a.examined(engineID, b, region)
	if b.Resource != "" && len(gateways) == 0 {
		return []string{fmt.Sprintf("the statement names the gateway %q, which does not exist in this account and region: create the gateway and its targets first", b.Resource)}
	}
	tools := make([]GatewayTools, 0, len(gateways))
	for _, g := range gateways {
		tools = append(tools, g.tools(ARN(region, a.ID, GatewayRef(g.ID))))
	}
	return Validate(s, tools)
}

// examined are the gateways whose tools a policy is checked against.
func (a *Account) examined(engineID string, b *Body, region string) []*Gateway {
	if b.Resource != "" {
		ref, err := ParseARN(region, a.ID, "resource", b.Resource)
		if err != nil || ref.Kind != KindGateway || a.Gateway(ref.ID) == nil {
			return nil
		}
		return []*Gateway{a.Gateway(ref.ID)}
	}
	var gateways []*Gateway
	for g := range a.AttachedGateways(engineID) {
		gateways = append(gateways, g)
	}
	return gateways
}

func (g *Gateway) tools(arn string) GatewayTools {
	tools := GatewayTools{ARN: arn}
	for t := range g.TargetsAfter("") {
		if t.InForce != nil {
			tools.Targets = append(tools.Targets, TargetTools{Name: t.Name, Tools: t.InForce.Tools()})
		}
	}
	return tools
}

// basis names the tools that examined gives, without looking at them: which targets, each as of which revision.
func (a *Account) basis(engineID string, b *Body, region string) Hash {
	h := sha256.New()
	for _, g := range a.examined(engineID, b, region) {
		fmt.Fprintf(h, "%s\n", g.ID)
		for t := range g.TargetsAfter("") {
			fmt.Fprintf(h, "\t%s %d\n", t.ID, t.ActiveRevision)
		}
	}
	return Hash(h.Sum(nil))
}
