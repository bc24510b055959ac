package rpc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// late ends when, and as, context.WithTimeout ends, whether or not anybody waits for it, and before or after.
func TestLateEndsLikeATimeout(t *testing.T) {
	type key struct{}
	for name, c := range map[string]struct {
		parent time.Duration // 0: the parent has no deadline
		act    func(cancelParent, cancel context.CancelFunc)
	}{
		"by time":            {act: func(_, _ context.CancelFunc) { time.Sleep(2 * time.Second) }},
		"by cancel":          {act: func(_, cancel context.CancelFunc) { cancel() }},
		"by the parent":      {act: func(parent, _ context.CancelFunc) { parent() }},
		"by parent's time":   {parent: 500 * time.Millisecond, act: func(_, _ context.CancelFunc) { time.Sleep(600 * time.Millisecond) }},
		"not yet":            {act: func(_, _ context.CancelFunc) { time.Sleep(900 * time.Millisecond) }},
		"cancel after time":  {act: func(_, cancel context.CancelFunc) { time.Sleep(2 * time.Second); cancel() }},
		"parent before time": {parent: time.Hour, act: func(parent, _ context.CancelFunc) { parent(); time.Sleep(2 * time.Second) }},
	} {
		for _, waits := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancelParent := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
					defer cancelParent()
					if c.parent > 0 {
						var stop context.CancelFunc
						parent, stop = context.WithTimeout(parent, c.parent)
						defer stop()
					}
					l := newLate(parent, time.Second)
					oracle, cancelOracle := context.WithTimeout(parent, time.Second)
					defer l.cancel()
					defer cancelOracle()
					if waits {
						l.Done()
					}
					c.act(cancelParent, func() { l.cancel(); cancelOracle() })
					synctest.Wait()
					a, _ := l.Deadline()
					b, _ := oracle.Deadline()
					if !errors.Is(l.Err(), oracle.Err()) || (l.Err() == nil) != (oracle.Err() == nil) || !a.Equal(b) || l.Value(key{}) != "value" {
						t.Errorf("%v at %v, want %v at %v", l.Err(), a, oracle.Err(), b)
					}
					if oracle.Err() != nil {
						<-l.Done()
					}
				})
			})
		}
	}
}

// Why a context ended does not change, whoever asks and however late.
func TestLateKeepsItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLate(t.Context(), time.Second)
		l.cancel()
		before := l.Err()
		time.Sleep(2 * time.Second)
		<-l.Done()
		if after := l.Err(); !errors.Is(before, context.Canceled) || !errors.Is(after, before) {
			t.Errorf("%v, and later %v", before, after)
		}
	})
}
