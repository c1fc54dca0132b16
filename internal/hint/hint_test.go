package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mvmae/mvmae/internal/hint"
)

var errBase = errors.New("unknown key optim.warmup_step")

type ownHint struct{ error }

func (ownHint) Hint() string { return "from its own method" }

func TestOf_FindsTheOutermostHint(t *testing.T) {
	inner := hint.Wrap(errBase, "did you mean %s?", "optim.warmup_steps")
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"none", errBase, ""},
		{"nil", nil, ""},
		{"direct", inner, "did you mean optim.warmup_steps?"},
		{"wrapped", fmt.Errorf("cxr.toml: %w", inner), "did you mean optim.warmup_steps?"},
		{"outer wins", hint.Wrap(inner, "outer"), "outer"},
		{"joined", errors.Join(errBase, inner), "did you mean optim.warmup_steps?"},
		{"foreign type", fmt.Errorf("find: %w", ownHint{errBase}), "from its own method"},
	} {
		if got := hint.Of(c.err); got != c.want {
			t.Errorf("%s: hint %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWrap_KeepsTheError(t *testing.T) {
	err := hint.Wrap(errBase, "cure")
	if !errors.Is(err, errBase) || err.Error() != errBase.Error() {
		t.Errorf("wrapped error is %q and matches the original: %v", err, errors.Is(err, errBase))
	}
	if hint.Wrap(nil, "cure") != nil {
		t.Error("a nil error became an error")
	}
}
