package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train"
)

// Every command line of a reproduction is one that this program takes, with recipes that it has, and makes what later ones need.
func TestReproduce_StepsAreCommandsOfThisProgram(t *testing.T) {
	for _, budget := range budgets {
		name := budget.name
		r := reproduction{tools: tools{"reproduce", nil, t.TempDir()}, budget: budget, device: "cpu"}
		steps, runs, err := r.steps()
		if err != nil {
			t.Fatal(err)
		}
		made := map[string]bool{}
		for _, s := range steps {
			for i, word := range s.args {
				if word == "--recipe" && !slices.Contains(train.Recipes(), s.args[i+1]) {
					t.Errorf("%s: there is no recipe %s", name, s.args[i+1])
				}
				if strings.HasPrefix(word, r.dir) && s.args[max(i-1, 0)] != "--out" {
					if !made[word] {
						t.Errorf("%s: %q needs %s, which is not made before it", name, s.args, word)
					}
				}
			}
			parser, err := kong.New(&commands{}, kong.Name("mvmae-train"), kong.Exit(func(int) {}), kong.Vars{"version": ""})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(s.args); err != nil {
				t.Errorf("%s: mvmae-train %s: %v", name, strings.Join(s.args, " "), err)
			}
			if s.expected < time.Second {
				t.Errorf("%s: %s is expected to take %v", name, s.makes, s.expected)
			}
			path := r.path(s.makes)
			if made[path] {
				t.Errorf("%s: %s is made twice", name, s.makes)
			}
			made[path] = true
			create := func() error { return os.MkdirAll(path, 0o755) } // for flags that want what they name to be there
			if filepath.Ext(path) != "" {
				create = func() error { return os.WriteFile(path, nil, 0o644) }
			}
			if err := create(); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"supervised", "probe-random", "probe-mvmae", "finetune-mvmae-v2t", "probe-independent-two", "probe-mvmae-one_of_two"} {
			if !slices.Contains(runs, filepath.Join(r.dir, want)) {
				t.Errorf("%s: no run %s among %d", name, want, len(runs))
			}
		}
	}
}

// Stopped at any step, the same command removes what was left half done, or goes on with it, and does nothing twice.
func TestReproduce_GoesOnWhereItWasStopped(t *testing.T) {
	var said bytes.Buffer
	r := reproduction{tools: tools{"reproduce", &cli.Output{Stdout: &said, Stderr: &said}, t.TempDir()}, budget: budgets[0], device: "cpu"}
	steps, _, err := r.steps()
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]int{}
	var stopAt string
	r.command = func(_ context.Context, _ string, args ...string) error {
		made := args[slices.Index(args, "--out")+1]
		if left, err := os.ReadDir(made); err == nil && len(left) > 0 && !slices.ContainsFunc(steps, func(s step) bool { return s.goesOn && r.path(s.makes) == made }) {
			t.Errorf("%s holds %d things before its command", made, len(left))
		}
		if err := os.MkdirAll(filepath.Join(made, "something"), 0o755); err != nil {
			return err
		}
		if made == r.path(stopAt) {
			return context.Canceled
		}
		done[made]++
		return nil
	}
	for _, stopAt = range []string{"padchest", "pack", "probe-mvmae", "probe-mvmae-two", ""} {
		if err := r.work(t.Context(), steps); (stopAt == "") != (err == nil) || err != nil && !strings.Contains(hint.Of(err), "the same command goes on") {
			t.Fatalf("stopped at %q: %v, hint %q", stopAt, err, hint.Of(err))
		}
	}
	for _, s := range steps {
		if done[r.path(s.makes)] != 1 {
			t.Errorf("%s was made %d times", s.makes, done[r.path(s.makes)])
		}
	}
	if !strings.Contains(said.String(), "1/43: mimic (0s done, about ") || !strings.Contains(said.String(), "done, about 0s left") {
		t.Errorf("how far it is:\n%s", &said)
	}

	r.budget.name = "full"
	if err := r.work(t.Context(), steps); err == nil || !strings.Contains(hint.Of(err), "--out") {
		t.Errorf("a folder of another budget: %v", err)
	}
}
