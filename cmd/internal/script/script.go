// Package script runs the programs' command lines as a person would: the txtar files in testdata/script, by testscript.
//
// Beside testscript's own commands a script may say
//
//	exits CODE program args...
//
// which runs a program and wants exactly that exit code; stdout and stderr then match its output.
package script

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mvmae/mvmae/internal/libs"
)

// Main is the TestMain of a program's package: it lets scripts run the program by its name.
func Main(m *testing.M, name string, program func()) {
	testscript.Main(m, map[string]func(){name: program})
}

// Run runs the scripts of the package, which find the runtime libraries of the module.
func Run(t *testing.T) {
	libs.ForTests(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv(libs.RuntimeEnv, os.Getenv(libs.RuntimeEnv))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("run %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s left with exit code %d, want %d", args[1], got, want)
	}
}
