package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/mvmae/mvmae/train"
)

// Every recipe of an experiment opens with a command that this program takes, which names the recipe, and with hardware, hours and score.
func TestRecipes_OpenWithCommandHardwareHoursAndScore(t *testing.T) {
	command := regexp.MustCompile(`(?m)^#   mvmae-train (.*)$`)
	recipes := train.Recipes()[2:] // after paper and code, which are no files
	if len(recipes) < 9 {
		t.Fatalf("%d recipes: %v", len(recipes), recipes)
	}
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("pack", 0o755); err != nil { // for flags that want what they name to be there
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join("runs", "mvmae"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range recipes {
		doc, err := train.RecipeText(name)
		if err != nil {
			t.Fatal(err)
		}
		opening, _, _ := strings.Cut(string(doc), "\nrecipe =")
		for _, want := range []string{"Hardware: ", "Hours: ", "Expected score"} {
			if !strings.Contains(opening, want) {
				t.Errorf("%s does not say %q:\n%s", name, want, opening)
			}
		}
		found := command.FindStringSubmatch(opening)
		if found == nil {
			t.Errorf("%s has no command:\n%s", name, opening)
			continue
		}
		words := strings.Fields(found[1])
		if at := slices.Index(words, "--recipe"); at < 0 || words[at+1] != name {
			t.Errorf("%s: its command takes another recipe: %v", name, words)
		}
		parser, err := kong.New(&commands{}, kong.Name("mvmae-train"), kong.Exit(func(int) {}), kong.Vars{"version": ""})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(words); err != nil {
			t.Errorf("%s: mvmae-train %s: %v", name, found[1], err)
		}
		if _, err := train.LoadConfig(name, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
