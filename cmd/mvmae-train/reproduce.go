package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/train"
)

// ReproduceCmd runs all of the paper's experiments on the phantom's four institutions.
type ReproduceCmd struct {
	Budget string `help:"How much to compute: small, for a CPU; or full, for a GPU." enum:"small,full" default:"small"`
	Out    string `help:"Folder to work in; what is done there is not done again." default:"reproduce" placeholder:"DIR"`
	Device string `help:"Where to compute: ${enum}." enum:"cpu,cuda,auto" default:"auto"`
}

// budget is how large the experiments are.
type budget struct {
	studies  int    // of each institution
	size     int    // side of the images, pixels
	pretrain string // recipe, to which the method is given
	classify string
	labels   []int // points of the label-efficiency curves
	paired   int   // labelled studies of table 8
	seeds    int   // of table 8
}

var budgets = map[string]budget{
	"small": {studies: 400, size: 256, pretrain: "phantom", classify: "phantom", labels: []int{50, 100, 200, 400}, paired: 100, seeds: 3},
	"full":  {studies: 25_000, size: 512, pretrain: "paper", classify: "paper", labels: []int{5_000, 10_000, 20_000, 50_000}, paired: 5_000, seeds: 3},
}

// Run makes the studies, trains every row of the paper's tables, and compares.
func (c *ReproduceCmd) Run(ctx context.Context, out *cli.Output) error {
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("reproduce: %w", err)
	}
	r := reproduction{tools{"reproduce", out, c.Out}, budgets[c.Budget], c.Device, nil}
	if err := r.data(ctx); err != nil {
		return err
	}
	if err := r.train(ctx); err != nil {
		return err
	}
	if err := r.run(ctx, "mvmae-train", append([]string{"report", "--out", r.path("report")}, r.runs...)...); err != nil {
		return err
	}
	out.Printf("wrote %s\n", r.path(filepath.Join("report", "report.md")))
	return out.Result(map[string]any{"report": r.path("report"), "runs": r.runs})
}

// reproduction is the work in its folder.
type reproduction struct {
	tools
	budget budget
	device string
	runs   []string // of classifiers, to be compared
}

// unless runs a program if a path of the folder does not exist yet.
func (r *reproduction) unless(ctx context.Context, name string, args ...string) error {
	if _, err := os.Stat(r.path(name)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return r.run(ctx, "mvmae-train", args...)
}

// data makes the four institutions' studies, in the layouts of the paper's datasets, and packs them together.
func (r *reproduction) data(ctx context.Context) error {
	var indexes []string
	for _, layout := range []string{"mimic", "chexpert", "padchest", "nih"} {
		root, index := r.path(layout), r.path(layout+".parquet")
		if err := r.unless(ctx, layout, "synth", "--layout", layout, "--studies", fmt.Sprint(r.budget.studies), "--size", fmt.Sprint(r.budget.size), "--out", root); err != nil {
			return err
		}
		// Its own splits hold few studies for validation: the institutions are smaller than the datasets.
		if err := r.unless(ctx, layout+".parquet", "index", layout, "--root", root, "--split-shares", "0.6,0.15,0.25", "--out", index); err != nil {
			return err
		}
		indexes = append(indexes, index)
	}
	return r.unless(ctx, "pack", append(append([]string{"pack"}, indexes...), "--out", r.path("pack"))...)
}

// rows are the methods of the paper's tables that are pretrained here.
var rows = []string{"independent", "mvmae-v2t", "mvmae"}

func (r *reproduction) train(ctx context.Context) error {
	for _, method := range rows {
		if err := r.fit(ctx, method, "pretrain", "--recipe", r.budget.pretrain, "--method", method); err != nil {
			return err
		}
	}
	for _, e := range r.experiments() {
		args := append([]string{e.kind, "--recipe", r.budget.classify}, e.args...)
		if e.method != "" {
			args = append(args, "--init", r.path(e.method))
		}
		if err := r.fit(ctx, e.name(), args[0], args[1:]...); err != nil {
			return err
		}
		r.runs = append(r.runs, r.path(e.name()))
	}
	return nil
}

// fit trains a run, or goes on with one that was stopped.
func (r *reproduction) fit(ctx context.Context, name, kind string, args ...string) error {
	dir := r.path(name)
	if run, err := train.OpenRun(dir); err == nil {
		if run.Finished() {
			return nil
		}
		return r.run(ctx, "mvmae-train", "resume", dir, "--device", r.device)
	}
	return r.run(ctx, "mvmae-train", append([]string{kind, "--data", r.path("pack"), "--out", dir, "--device", r.device}, args...)...)
}

// experiment is a classifier to train; without a method, from random weights.
type experiment struct {
	kind, method, variant string
	args                  []string
}

func (e experiment) name() string {
	parts := []string{e.kind}
	for _, p := range []string{e.method, e.variant} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, "-")
}

// experiments are those behind every table and figure: all labels (tables 1 to 3 and 5 to 7), some labels (figures 4, 5 and 11), one view
// against two (table 8). A probe of random weights is added: what a representation is worth that has learned nothing.
func (r *reproduction) experiments() (all []experiment) {
	all = append(all, experiment{kind: "probe", variant: "random"}, experiment{kind: "supervised"})
	for _, method := range rows {
		all = append(all, experiment{kind: "probe", method: method}, experiment{kind: "finetune", method: method})
		for _, n := range r.budget.labels {
			labels := []string{"--labels", fmt.Sprint(n)}
			all = append(all, experiment{"probe", method, fmt.Sprint(n), labels}, experiment{"finetune", method, fmt.Sprint(n), labels})
		}
	}
	for _, method := range []string{"independent", "mvmae"} {
		for _, views := range []string{"one_of_two", "two"} {
			args := []string{"--labels", fmt.Sprint(r.budget.paired), "--seeds", fmt.Sprint(r.budget.seeds), "--set", "views=" + views}
			all = append(all, experiment{"probe", method, views, args})
		}
	}
	return all
}
