package main

import (
	"context"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/train"
)

// ConfigCmd prints a recipe.
type ConfigCmd struct {
	recipeFlags
	List    bool `help:"Print instead what recipes of experiments there are, each with its command, hardware, hours and expected score."`
	Predict bool `help:"Print instead what a pretraining step takes: work, memory, and the time predicted on some GPUs."`
}

// Run prints the resolved recipe as TOML.
func (c *ConfigCmd) Run(_ context.Context, out *cli.Output) error {
	if c.List {
		return listRecipes(out)
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if c.Predict {
		return predict(out, cfg)
	}
	doc, err := toml.Marshal(cfg)
	if err != nil {
		return err
	}
	out.Printf("%s", doc)
	var tree map[string]any
	if err := toml.Unmarshal(doc, &tree); err != nil {
		return err
	}
	return out.Result(tree)
}

// listRecipes prints the comment that each experiment's recipe opens with.
func listRecipes(out *cli.Output) error {
	about := map[string]string{}
	for _, name := range train.Recipes() {
		doc, err := train.RecipeText(name)
		if err != nil { // paper and code are no files
			continue
		}
		var opening []string
		for line := range strings.Lines(string(doc)) {
			text, comment := strings.CutPrefix(line, "# ")
			if !comment {
				break
			}
			opening = append(opening, text)
		}
		about[name] = strings.Join(opening, "")
		out.Printf("%s\n  %s\n", name, strings.ReplaceAll(strings.TrimSpace(about[name]), "\n", "\n  "))
	}
	return out.Result(map[string]any{"recipes": about})
}
