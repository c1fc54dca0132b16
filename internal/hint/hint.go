// Package hint carries the cure of a problem beside the problem.
//
// Wrap an error where the cure is known; the programs print it as a "hint:" line under the "error:" line. The error's own
// text does not change, so a hint is never lost in a long chain and never printed twice.
package hint

import (
	"errors"
	"fmt"
)

type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// Hint returns the cure. Error types of other packages may have this method too: Of finds them all.
func (h *hinted) Hint() string { return h.hint }

// Wrap attaches a cure to err. A nil err stays nil, so a call can be returned directly.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// Of returns the outermost cure attached to err, or "" when there is none: the layer nearest the user knows best what the
// user can do.
func Of(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
