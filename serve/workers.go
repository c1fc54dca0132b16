package serve

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// workers is how much work is done at a time, whoever asked for it: one place per core. Those who wait are served in the
// order they came.
type workers chan struct{}

// start waits for a place, then hands work to spawn (an errgroup's Go). So the caller stands still while all places are
// taken, and holds no more than the one object it came with.
func (w workers) start(ctx context.Context, spawn func(func() error), work func() error) error {
	select {
	case w <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	spawn(func() error {
		defer func() { <-w }()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return guard(work)
	})
	return nil
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
