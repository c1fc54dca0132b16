package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/mvmae/mvmae/train"
)

// Every command line of a reproduction is one that this program takes, with recipes that it has, and makes what later ones need.
func TestReproduce_StepsAreCommandsOfThisProgram(t *testing.T) {
	for name, budget := range budgets {
		r := reproduction{tools{"reproduce", nil, t.TempDir()}, budget, "cpu"}
		steps, runs := r.steps()
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
