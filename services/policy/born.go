package policy

// Born is an account in which nothing is but what the events of one command made, as they left it; of the engine or
// gateway that it is in there is the id alone. It is what the answer to a request is made of that is asked a second time,
// when the thing itself has long gone on.
func Born(events []Recorded) (*Account, error) {
	a := newAccount(events[0].Account)
	switch ref := events[0].Event.Ref(); ref.Kind {
	case KindPolicy:
		a.engines = a.engines.Set(ref.Parent, &Engine{Resource: Resource[EngineDefinition]{ID: ref.Parent}, policies: newIndex[*Policy]()})
	case KindTarget:
		a.gateways = a.gateways.Set(ref.Parent, &Gateway{Resource: Resource[GatewayDefinition]{ID: ref.Parent}, targets: newIndex[*Target]()})
	case KindLog, KindAccount, KindEngine, KindGateway, KindChange:
	}
	for _, r := range events {
		if err := a.apply(r); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// With is the account after one event of it, whatever command the event belongs to.
func (a *Account) With(r Recorded) (*Account, error) {
	next := *a
	err := next.apply(r)
	return &next, err
}
