package studies

import (
	"context"
	"sync"
	"time"
)

// Gate says when a study is complete: when nothing of it has arrived for a quiet period, when it has been arriving for longer
// than a limit, or when its sender says so. While an object is on its way the quiet period does not begin, so a slow sender
// does not split a study.
type Gate struct {
	quiet, limit time.Duration
	wake         chan struct{} // holds one

	mu      sync.Mutex
	waiting map[string]*waiting
}

// waiting is a study that is not complete.
type waiting struct {
	first, last time.Time
	arriving    int // objects on their way
	arrived     bool
	closed      bool // by its sender
	senders     map[string]bool
}

// NewGate makes a gate. Run opens it.
func NewGate(quiet, limit time.Duration) *Gate {
	return &Gate{quiet: quiet, limit: limit, wake: make(chan struct{}, 1), waiting: map[string]*waiting{}}
}

// at returns the entry of a study, made if need be. The caller holds g.mu.
func (g *Gate) at(uid string) *waiting {
	w := g.waiting[uid]
	if w == nil {
		now := time.Now()
		w = &waiting{first: now, last: now, senders: map[string]bool{}}
		g.waiting[uid] = w
	}
	return w
}

func (g *Gate) changed() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Arriving says that an object of a study is on its way. The caller calls ended, once, when it is there or lost.
func (g *Gate) Arriving(uid string) (ended func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at(uid).arriving++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		w := g.at(uid)
		w.arriving--
		if w.last = time.Now(); w.arriving == 0 && !w.arrived {
			delete(g.waiting, uid) // it never came, and nothing else is waited for
		}
		g.changed()
	}
}

// Arrived says that an object of a study is durable.
func (g *Gate) Arrived(uid, sender string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.at(uid)
	w.last, w.arrived, w.closed = time.Now(), true, false
	if sender != "" {
		w.senders[sender] = true
	}
	g.changed()
}

// Close says that a study's sender has sent all of it.
func (g *Gate) Close(uid string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.waiting[uid]; w != nil {
		w.closed = true
		g.changed()
	}
}

// Released says that a sender has sent all that it meant to send.
func (g *Gate) Released(sender string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.waiting {
		w.closed = w.closed || w.senders[sender]
	}
	g.changed()
}

// Waiting says whether a study is waited for.
func (g *Gate) Waiting(uid string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting[uid] != nil
}

// Run calls complete for each study that is, one at a time, until ctx ends. A study of which an object arrives later is
// waited for again.
func (g *Gate) Run(ctx context.Context, complete func(ctx context.Context, uid string)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		ready, next := g.ready(time.Now())
		for _, uid := range ready {
			complete(ctx, uid)
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-g.wake:
		}
	}
}

// idle is how long Run sleeps with nothing to wait for.
const idle = time.Hour

// ready takes out the studies that are complete and says when to look again.
func (g *Gate) ready(now time.Time) (uids []string, next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next = idle
	for uid, w := range g.waiting {
		if !w.arrived {
			continue
		}
		left := w.first.Add(g.limit).Sub(now)
		if w.arriving == 0 {
			if w.closed {
				left = 0
			}
			left = min(left, w.last.Add(g.quiet).Sub(now))
		}
		if left > 0 {
			next = min(next, left)
			continue
		}
		uids = append(uids, uid)
		if delete(g.waiting, uid); w.arriving > 0 { // past the limit: what is on its way is late
			g.waiting[uid] = &waiting{first: now, last: now, arriving: w.arriving, senders: w.senders}
		}
	}
	return uids, next
}
