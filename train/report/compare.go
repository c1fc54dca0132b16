package report

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// Result is a classifier's run that has ended.
type Result struct {
	Dir    string
	Method string // Supervised, Random, Independent, MVMAE, MVMAE-V2T, or the name of an encoder's file
	Kind   string // probe or finetune; a supervised run counts as finetune
	Labels int    // labelled training studies; 0 for all of the pack
	Views  string // see train.Config
	Seed   uint64
	Data   string // the pack
	Eval   eval.Report
	test   []eval.Prediction // none where the run left none
}

// Comparison is what a set of runs says, grouped by everything but the seed.
type Comparison struct {
	Packs  []string // in the order of the runs
	Groups []Group  // in the order of the paper's tables
	Left   []string // runs that were left out, with the reason
}

// Group are the runs that differ by their seed alone.
type Group struct {
	Method, Kind string
	Labels       int
	Views        string
	Runs         []Result
}

// name is a group's row in a table of one kind.
func (g Group) name() string {
	if g.Labels == 0 {
		return g.Method
	}
	return fmt.Sprintf("%s, %d studies", g.Method, g.Labels)
}

// methods in the order of the paper's tables; others come between Independent and MVMAE-V2T, by name.
var methods = []string{"Random", "Supervised", "Independent", "", "MVMAE-V2T", "MVMAE"}

func place(method string) int {
	if i := slices.Index(methods, method); i >= 0 {
		return i
	}
	return slices.Index(methods, "")
}

// Compare reads runs. A pretraining run has nothing to compare and one that has not ended is left out, both by name; none at all is
// an error.
func Compare(dirs []string) (Comparison, error) {
	var c Comparison
	for _, dir := range withSeeds(dirs) {
		r, err := readResult(dir)
		switch {
		case errors.Is(err, errNoResult):
			c.Left = append(c.Left, fmt.Sprintf("%s: %v", filepath.Base(dir), err))
			continue
		case err != nil:
			return c, fmt.Errorf("compare: %w", err)
		}
		if !slices.Contains(c.Packs, r.Data) {
			c.Packs = append(c.Packs, r.Data)
		}
		c.add(r)
	}
	if len(c.Groups) == 0 {
		return c, hint.Wrap(errors.New("compare: none of the runs is a classifier that has ended"), `name folders that "mvmae-train probe", "finetune" or "supervised" wrote`)
	}
	slices.SortStableFunc(c.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(place(a.Method), place(b.Method)), strings.Compare(a.Method, b.Method), -strings.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Labels, b.Labels), strings.Compare(a.Views, b.Views))
	})
	return c, nil
}

// withSeeds puts the runs of a folder that "--seeds" filled in its place.
func withSeeds(dirs []string) (all []string) {
	for _, dir := range dirs {
		if seeds := train.SeedFolders(dir); len(seeds) > 0 {
			all = append(all, seeds...)
			continue
		}
		all = append(all, dir)
	}
	return all
}

var errNoResult = errors.New("not a classifier that has ended")

func readResult(dir string) (Result, error) {
	run, err := train.OpenRun(dir)
	if err != nil {
		return Result{}, err
	}
	if !run.Finished() {
		return Result{}, errNoResult
	}
	rep, err := optional[eval.Report](run, model.RunEvaluation)
	if err != nil || rep == nil {
		return Result{}, cmp.Or(err, errNoResult)
	}
	r := Result{
		Dir: dir, Method: methodOf(run), Kind: run.Info.Kind, Labels: run.Config.Labels, Views: run.Config.Views, Seed: run.Config.Seed, Data: run.Info.Data, Eval: *rep,
	}
	if r.test, err = run.Predictions(); err != nil {
		return Result{}, err
	}
	if r.Kind == "supervised" {
		r.Kind = "finetune"
	}
	return r, nil
}

// methodOf names the row of a run in the paper's tables.
func methodOf(run *train.Run) string {
	switch {
	case run.Info.Kind == "supervised":
		return "Supervised"
	case run.Info.Encoder != nil, run.Info.Weights != nil:
		name := beginning(run)
		return strings.TrimSuffix(name, filepath.Ext(name))
	case run.Info.Init == "":
		return "Random"
	}
	switch run.Config.Method { // that of the pretraining run
	case "independent":
		return "Independent"
	case "mvmae-v2t":
		return "MVMAE-V2T"
	}
	return "MVMAE"
}

func (c *Comparison) add(r Result) {
	for i, g := range c.Groups {
		if g.Method == r.Method && g.Kind == r.Kind && g.Labels == r.Labels && g.Views == r.Views {
			c.Groups[i].Runs = append(g.Runs, r)
			return
		}
	}
	c.Groups = append(c.Groups, Group{r.Method, r.Kind, r.Labels, r.Views, []Result{r}})
}

// of are the groups of a kind and of views.
func (c Comparison) of(kind, views string) (groups []Group) {
	for _, g := range c.Groups {
		if g.Kind == kind && g.Views == views {
			groups = append(groups, g)
		}
	}
	return groups
}

// combined stands for all datasets of a pack together.
const combined = "Combined"

// datasets are those of the runs' test studies, by name, and Combined.
func (c Comparison) datasets() (names []string) {
	for _, g := range c.Groups {
		for _, r := range g.Runs {
			for _, d := range r.Eval.ByGroup {
				if d.By == "dataset" && !slices.Contains(names, d.Group) {
					names = append(names, d.Group)
				}
			}
		}
	}
	slices.Sort(names)
	return append(names, combined)
}

// part is what a run says of one dataset, or of all.
type part struct {
	studies int
	macro   eval.Scores
	top     eval.TopFive
	labels  [model.NumLabels]eval.Scores
	known   [model.NumLabels]int // studies that know the label
}

// on returns a run's part of a dataset; false where its test studies have none of it.
func (r Result) on(dataset string) (p part, ok bool) {
	if dataset == combined {
		p = part{studies: r.Eval.Test.Studies, macro: r.Eval.Macro.Scores, top: r.Eval.TopFive}
		for l, one := range r.Eval.Labels {
			p.labels[l], p.known[l] = one.Scores, one.Studies
		}
		return p, true
	}
	for _, g := range r.Eval.ByGroup {
		if g.By == "dataset" && g.Group == dataset {
			p = part{studies: g.Studies, macro: g.Macro}
			if g.TopFive != nil {
				p.top = *g.TopFive
			}
			for l, one := range g.Labels {
				p.labels[l], p.known[l] = one.Scores, one.Studies
			}
			return p, true
		}
	}
	return p, false
}

// packs opens the packs that are still where the runs found them, and says which are not.
func (c Comparison) packs() (open []*data.Pack, left []string) {
	for _, dir := range c.Packs {
		p, err := data.Open(dir)
		if err != nil {
			left = append(left, fmt.Sprintf("pack %s: %v", filepath.Base(dir), err))
			continue
		}
		open = append(open, p)
	}
	return open, left
}
