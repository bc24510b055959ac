package snapshot

// table holds compiled things by id, and once more in their order, so that a new state is compared with the old one by
// walking both side by side, and only what differs is looked up.
type table[V any] struct {
	sorted []entry[V]
	found  *byID[V]
}

type entry[V any] struct {
	id    string
	value V
}

func newTable[V any]() table[V] { return table[V]{found: newByID[V]()} }

func (t table[V]) get(id string) (V, bool) { return t.found.Get(id) }

// tableUpdate makes the next table out of the things of a new state, which have to come in order of their ids.
type tableUpdate[V any] struct {
	old  []entry[V] // not yet passed
	next table[V]
}

func (t table[V]) update() *tableUpdate[V] {
	return &tableUpdate[V]{old: t.sorted, next: table[V]{sorted: make([]entry[V], 0, len(t.sorted)+1), found: t.found}}
}

// put adds one thing: the old one where it is the same, else what compile makes of the old one, which is the zero V where
// there was none.
func (u *tableUpdate[V]) put(id string, same func(old V) bool, compile func(old V) V) {
	for len(u.old) > 0 && u.old[0].id < id {
		u.drop()
	}
	var old V
	if len(u.old) > 0 && u.old[0].id == id {
		old = u.old[0].value
		u.old = u.old[1:]
		if same(old) {
			u.next.sorted = append(u.next.sorted, entry[V]{id, old})
			return
		}
	}
	value := compile(old)
	u.next.sorted = append(u.next.sorted, entry[V]{id, value})
	u.next.found = u.next.found.Set(id, value)
}

// drop passes an old thing that is gone.
func (u *tableUpdate[V]) drop() {
	u.next.found = u.next.found.Delete(u.old[0].id)
	u.old = u.old[1:]
}

func (u *tableUpdate[V]) done() table[V] {
	for len(u.old) > 0 {
		u.drop()
	}
	return u.next
}
