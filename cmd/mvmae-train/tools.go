package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
)

// tools runs the programs that lie beside this one, as a person would run them.
type tools struct {
	caller string // the command that does, for errors
	out    *cli.Output
	dir    string // to work in
}

func (t tools) path(name string) string { return filepath.Join(t.dir, name) }

// command prepares a program, and shows it as a person would type it.
func (t tools) command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(filepath.Dir(self), program)
	if _, err := os.Stat(file); err != nil {
		return nil, hint.Wrap(fmt.Errorf("%s: %w", t.caller, err), `it runs all three programs: build them with "make build"`)
	}
	fmt.Fprintf(t.out.Stderr, "\n$ %s %s\n", program, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stderr = t.out.Stderr
	return cmd, nil
}

// run runs a program to its end. Its results go where logs go: the caller's own result comes last.
func (t tools) run(ctx context.Context, program string, args ...string) error {
	cmd, err := t.command(ctx, program, args...)
	if err != nil {
		return err
	}
	cmd.Stdout = t.out.Stderr
	return t.ended(ctx, program, args, cmd.Run())
}

// result runs a program with --json and reads its document.
func (t tools) result(ctx context.Context, v any, program string, args ...string) error {
	cmd, err := t.command(ctx, program, append(args, "--json")...)
	if err != nil {
		return err
	}
	doc, err := cmd.Output()
	if err := t.ended(ctx, program, args, err); err != nil {
		return err
	}
	return json.Unmarshal(doc, v)
}

// ended gives a failed program's error its exit code.
func (t tools) ended(ctx context.Context, program string, args []string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %s %s: %w", t.caller, program, args[0], ctx.Err())
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return cli.Exit(exit.ExitCode(), fmt.Errorf("%s: %s %s failed", t.caller, program, args[0]))
	}
	return fmt.Errorf("%s: %s %s: %w", t.caller, program, args[0], err)
}
