package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/report"
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
	r := reproduction{tools{"reproduce", out, c.Out}, budgets[c.Budget], c.Device}
	steps, runs := r.steps()
	for i, s := range steps {
		fmt.Fprintf(out.Stderr, "\n%d/%d: %s", i+1, len(steps), s.makes)
		if err := r.do(ctx, s); err != nil {
			return err
		}
	}
	out.Printf("wrote %s\n", filepath.Join(r.path(comparedFolder), report.MarkdownFile))
	return out.Result(map[string]any{"report": r.path(comparedFolder), "runs": runs})
}

// reproduction is the work in its folder.
type reproduction struct {
	tools
	budget budget
	device string
}

// comparedFolder is where the tables and figures go.
const comparedFolder = "report"

// step is a command and the file or folder that it makes.
type step struct {
	makes string
	args  []string
}

// do runs a step, unless an earlier reproduction did. A training run that was stopped goes on.
func (r reproduction) do(ctx context.Context, s step) error {
	dir := r.path(s.makes)
	if run, err := train.OpenRun(dir); err == nil {
		if run.Finished() {
			return nil
		}
		return r.run(ctx, "mvmae-train", "resume", dir, "--device", r.device)
	}
	seeds := slices.Contains(s.args, "--seeds") // such a command goes on by itself
	if _, err := os.Stat(dir); err == nil && !seeds && s.makes != comparedFolder {
		return nil
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return r.run(ctx, "mvmae-train", s.args...)
}

// steps are all of the work, and the folders of the classifiers' runs.
func (r reproduction) steps() (steps []step, runs []string) {
	steps = r.data()
	fit := func(name, kind string, args ...string) {
		steps = append(steps, step{name, append([]string{kind, "--data", r.path("pack"), "--out", r.path(name), "--device", r.device}, args...)})
	}
	for _, method := range pretrained {
		fit(method, "pretrain", "--recipe", r.budget.pretrain, "--method", method)
	}
	for _, e := range r.experiments() {
		args := append([]string{"--recipe", r.budget.classify}, e.args...)
		if e.method != "" {
			args = append(args, "--init", r.path(e.method))
		}
		fit(e.name(), e.kind, args...)
		runs = append(runs, r.path(e.name()))
	}
	return append(steps, step{comparedFolder, append([]string{"report", "--out", r.path(comparedFolder)}, runs...)}), runs
}

// data makes the four institutions' studies, in the layouts of the paper's datasets, and packs them together.
func (r reproduction) data() (steps []step) {
	pack := step{"pack", []string{"pack", "--out", r.path("pack")}}
	for _, layout := range []string{"mimic", "chexpert", "padchest", "nih"} {
		root, index := r.path(layout), r.path(layout+".parquet")
		steps = append(steps,
			step{layout, []string{"synth", "--layout", layout, "--studies", fmt.Sprint(r.budget.studies), "--size", fmt.Sprint(r.budget.size), "--out", root}},
			// The datasets' own splits would hold few studies for validation: the institutions are smaller.
			step{layout + ".parquet", []string{"index", layout, "--root", root, "--split-shares", "0.6,0.15,0.25", "--out", index}})
		pack.args = append(pack.args, index)
	}
	return append(steps, pack)
}

// pretrained are the methods of the paper's tables that are pretrained here.
var pretrained = []string{"independent", "mvmae-v2t", "mvmae"}

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
func (r reproduction) experiments() (all []experiment) {
	all = append(all, experiment{kind: "probe", variant: "random"}, experiment{kind: "supervised", args: []string{"--set", "finetune.layer_decay=1"}})
	for _, method := range pretrained {
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
