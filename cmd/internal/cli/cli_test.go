package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
)

// errForeign stands for an error of a library, whose exit code the program's own mapping gives.
var errForeign = errors.New("plugin did not load")

type program struct {
	Train trainCmd `cmd:"" help:"Train."`
	Wait  waitCmd  `cmd:"" help:"Wait for an interrupt."`
}

type trainCmd struct {
	Steps int    `help:"Number of steps." default:"3"`
	Fail  string `help:"How to fail."`
}

func (c *trainCmd) Run(_ context.Context, out *Output) error {
	switch c.Fail {
	case "plain":
		return errors.New("step 2: disk full")
	case "hint":
		return hint.Wrap(Exit(ExitUsage, errors.New("cxr.toml:14: unknown key optim.warmup_step")), "did you mean optim.warmup_steps?")
	case "joined":
		return Exit(ExitUsage, errors.Join(errors.New("steps is 0"), hint.Wrap(errors.New("batch is 0"), "use 64")))
	case "foreign":
		return fmt.Errorf("open device: %w", errForeign)
	case "cancelled":
		return fmt.Errorf("step 2: %w", context.Canceled)
	}
	out.Printf("trained %d steps\n", c.Steps)
	return out.Result(map[string]int{"steps": c.Steps})
}

type waitCmd struct{}

func (waitCmd) Run(ctx context.Context, out *Output) error {
	out.Printf("ready\n")
	<-ctx.Done()
	select {} // a step that never finishes
}

func TestMain(m *testing.M) {
	if os.Getenv("CLI_TEST_PROGRAM") != "" {
		Main("prog", "A program.", &program{}, nil)
	}
	os.Exit(m.Run())
}

func TestRun_OutputAndExitCode(t *testing.T) {
	foreign := func(err error) int {
		if errors.Is(err, errForeign) {
			return ExitMissing
		}
		return 0
	}
	for _, c := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"train", ExitOK, "trained 3 steps\n", ""},
		{"train --json", ExitOK, "{\n  \"schema_version\": 1,\n  \"steps\": 3\n}\n", ""},
		{"--json train", ExitOK, "{\n  \"schema_version\": 1,\n  \"steps\": 3\n}\n", ""},
		{"train --fail plain", ExitFailure, "", "error: step 2: disk full\n"},
		{"train --fail hint", ExitUsage, "", "error: cxr.toml:14: unknown key optim.warmup_step\nhint: did you mean optim.warmup_steps?\n"},
		{"train --fail joined", ExitUsage, "", "error: steps is 0\nerror: batch is 0\nhint: use 64\n"},
		{"train --fail foreign", ExitMissing, "", "error: open device: plugin did not load\n"},
		{"train --fail cancelled", ExitInterrupted, "", "error: step 2: context canceled\n"},
		{"train --step 4", ExitUsage, "", "error: unknown flag --step\nhint: did you mean \"--steps\"?\n"},
		{"tran", ExitUsage, "", "error: unexpected argument tran\nhint: did you mean \"train\"?\n"},
		{"train --steps x", ExitUsage, "", "error: --steps: expected a valid 64 bit int but got \"x\"\nhint: run \"prog train --help\"\n"},
		{"", ExitUsage, "", "error: expected one of \"train\", \"wait\"\nhint: run \"prog --help\"\n"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), "prog", "A program.", &program{}, foreign, strings.Fields(c.args), &Output{Stdout: &stdout, Stderr: &stderr})
		if code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
		if diff := cmp.Diff([]string{c.stdout, c.stderr}, []string{stdout.String(), stderr.String()}); diff != "" {
			t.Errorf("%q: output (-want +got)\n%s", c.args, diff)
		}
	}
}

func TestMain_SecondInterruptLeavesAtOnce(t *testing.T) {
	prog := exec.CommandContext(t.Context(), os.Args[0], "wait")
	prog.Env = append(os.Environ(), "CLI_TEST_PROGRAM=1")
	stdout, err := prog.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := prog.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := prog.Start(); err != nil {
		t.Fatal(err)
	}
	// Each line read says that the program is ready for the next signal.
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("first line %q, %v", line, err)
	}
	if err := prog.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stderr).ReadString('\n'); !strings.HasPrefix(line, "interrupted:") {
		t.Fatalf("after the first interrupt: %q, %v", line, err)
	}
	if err := prog.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := prog.Wait(); !errors.As(err, &exit) || exit.ExitCode() != ExitInterrupted {
		t.Errorf("after the second: %v, want exit code %d", err, ExitInterrupted)
	}
}
