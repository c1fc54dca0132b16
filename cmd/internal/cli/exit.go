package cli

import (
	"context"
	"errors"
)

// The exit codes of all programs.
const (
	ExitOK          = 0
	ExitFailure     = 1
	ExitUsage       = 2   // a wrong flag or config file
	ExitRefused     = 3   // done, but some inputs were refused
	ExitMissing     = 4   // a device or a runtime library is missing
	ExitDiverged    = 5   // the loss became NaN or infinite
	ExitInterrupted = 130 // stopped by a signal; where there was something to keep, a checkpoint is left
)

type exitError struct {
	error
	code int
}

func (e *exitError) Unwrap() error { return e.error }
func (e *exitError) ExitCode() int { return e.code }

// Exit gives err an exit code. A nil err stays nil.
func Exit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{err, code}
}

// codeOf returns the exit code of err: the outermost ExitCode method's, else mapped's, else 130 for a cancelled context,
// else 1.
func codeOf(err error, mapped func(error) int) int {
	if err == nil {
		return ExitOK
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) && coded.ExitCode() != 0 {
		return coded.ExitCode()
	}
	if mapped != nil {
		if code := mapped(err); code != 0 {
			return code
		}
	}
	if errors.Is(err, context.Canceled) {
		return ExitInterrupted
	}
	return ExitFailure
}
