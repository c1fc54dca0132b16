package serve

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
)

// urgent is the key of a context's mark.
type urgent struct{}

// Stat marks the work done under a context as urgent: wherever work waits, it goes before what is not. What has begun is
// finished first.
func Stat(ctx context.Context) context.Context { return context.WithValue(ctx, urgent{}, true) }

func isStat(ctx context.Context) bool { return ctx.Value(urgent{}) != nil }

// lanes are those who wait, in the order they came, the urgent before the others.
type lanes struct{ stat, routine list.List }

func (l *lanes) of(ctx context.Context) *list.List {
	if isStat(ctx) {
		return &l.stat
	}
	return &l.routine
}

// first is the lane of the next one, or one that is empty.
func (l *lanes) first() *list.List {
	if l.stat.Len() > 0 {
		return &l.stat
	}
	return &l.routine
}

func (l *lanes) len() int { return l.stat.Len() + l.routine.Len() }

// workers is how much work is done at a time, whoever asked for it: one place per core.
type workers struct {
	mu    sync.Mutex
	free  int
	lanes lanes // of chan struct{}, closed when the place is theirs
}

// start waits for a place, then hands work to spawn (an errgroup's Go). So the caller stands still while all places are
// taken, and holds no more than the one object it came with.
func (w *workers) start(ctx context.Context, spawn func(func() error), work func() error) error {
	if err := w.acquire(ctx); err != nil {
		return err
	}
	spawn(func() error {
		defer w.release()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return guard(work)
	})
	return nil
}

// do waits for a place and does work there.
func (w *workers) do(ctx context.Context, work func() error) error {
	if err := w.acquire(ctx); err != nil {
		return err
	}
	defer w.release()
	return guard(work)
}

func (w *workers) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.mu.Lock()
	if w.free > 0 {
		w.free--
		w.mu.Unlock()
		return nil
	}
	turn, lane := make(chan struct{}), w.lanes.of(ctx)
	place := lane.PushBack(turn)
	w.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	select {
	case <-turn: // given and not wanted any more
		w.mu.Unlock()
		w.release()
	default:
		lane.Remove(place)
		w.mu.Unlock()
	}
	return context.Cause(ctx)
}

func (w *workers) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	lane := w.lanes.first()
	if lane.Len() == 0 {
		w.free++
		return
	}
	close(lane.Remove(lane.Front()).(chan struct{}))
}

// waiting is how many wait for a place.
func (w *workers) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lanes.len()
}

// panicError is a defect of this program that one object brought to light.
type panicError struct{ what string }

func (e *panicError) Error() string { return "panic: " + e.what }

// guard keeps a panic from ending the process and every other study with it. The value of a panic may hold anything, so
// only the runtime's own words are kept.
func guard(work func() error) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		what := fmt.Sprintf("%T", v)
		if r, ok := v.(interface {
			error
			RuntimeError()
		}); ok {
			what = r.Error()
		}
		slog.Error("panic", "what", what, "stack", string(debug.Stack()))
		err = &panicError{what}
	}()
	return work()
}
