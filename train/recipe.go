package train

import (
	"embed"
	"fmt"
	"os"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
)

// The recipes of the paper's experiments. Each opens with its command, its hardware and hours, and the score to expect.
//
//go:embed recipes/*.toml
var recipes embed.FS

// Recipes lists the names that LoadConfig knows besides files: the two that decide everything, then those of experiments.
func Recipes() []string {
	names := []string{"paper", "code"}
	entries, err := recipes.ReadDir("recipes")
	if err != nil {
		panic(err) // they are part of the program
	}
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".toml"))
	}
	return names
}

// RecipeText is a recipe as it was written, comments and all: of an experiment, or a file's.
func RecipeText(name string) ([]byte, error) {
	doc, err := recipes.ReadFile("recipes/" + name + ".toml")
	if err == nil {
		return doc, nil
	}
	if doc, err = os.ReadFile(name); err != nil {
		return nil, hint.Wrap(fmt.Errorf("read recipe: %w", err), "a recipe is a TOML file or one of: %s", strings.Join(Recipes(), ", "))
	}
	return doc, nil
}
