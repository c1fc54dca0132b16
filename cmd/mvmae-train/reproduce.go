package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/report"
)

// ReproduceCmd runs all of the paper's experiments on the phantom's four institutions.
type ReproduceCmd struct {
	Budget string `help:"How much to compute: small, for a CPU; or full, for a GPU." enum:"small,full" default:"small"`
	Out    string `help:"Folder to work in; what is done there is not done again." default:"reproduce" placeholder:"DIR"`
	Plan   bool   `help:"Only print the steps, with the time that each is expected to take."`
	Device string `help:"Where to compute: ${enum}." enum:"cpu,cuda,auto" default:"auto"`
}

// budget is how large the experiments are.
type budget struct {
	name      string
	studies   int    // of each institution
	size      int    // side of the images, pixels
	recipe    string // to which the method is given
	probes    []int  // labelled studies: points of the label-efficiency curve of the probes,
	finetunes []int  // and of the finetuned classifiers
	paired    int    // labelled studies of table 8
	seeds     int    // of table 8
}

var budgets = []budget{
	{name: "small", studies: 400, size: 256, recipe: "phantom", probes: []int{50, 100, 200, 400}, finetunes: []int{100, 400}, paired: 100, seeds: 3},
	{
		name: "full", studies: 25_000, size: 512, recipe: "paper", probes: []int{5_000, 10_000, 20_000, 50_000}, finetunes: []int{5_000, 10_000, 20_000, 50_000},
		paired: 5_000, seeds: 3,
	},
}

// Run makes the studies, trains every row of the paper's tables, and compares.
func (c *ReproduceCmd) Run(ctx context.Context, out *cli.Output) error {
	r := reproduction{tools: tools{"reproduce", out, c.Out}, device: c.Device}
	r.command = r.run
	for _, b := range budgets {
		if b.name == c.Budget {
			r.budget = b
		}
	}
	steps, runs, err := r.steps()
	if err != nil {
		return err
	}
	if c.Plan {
		return r.print(steps)
	}
	if err := r.work(ctx, steps); err != nil {
		return err
	}
	out.Printf("wrote %s\n", filepath.Join(r.path(comparedFolder), report.MarkdownFile))
	return out.Result(map[string]any{"report": r.path(comparedFolder), "runs": runs})
}

// reproduction is the work in its folder.
type reproduction struct {
	tools
	budget  budget
	device  string
	command func(ctx context.Context, program string, args ...string) error // runs a program to its end
}

// comparedFolder is where the tables and figures go.
const comparedFolder = "report"

// step is a command and the file or folder that it makes.
type step struct {
	makes    string
	args     []string
	expected time.Duration
	goesOn   bool // by the same command, where it was stopped; else what was left is removed first
}

// work does the steps that no earlier reproduction did, and says before each how far it is.
func (r reproduction) work(ctx context.Context, steps []step) error {
	d, err := openDiary(r.dir, r.budget.name)
	if err != nil {
		return err
	}
	for i, s := range steps {
		fmt.Fprintf(r.out.Stderr, "\n%d/%d: %s (%s)", i+1, len(steps), s.makes, d.progress(steps))
		if d.has(s) {
			continue
		}
		began := time.Now()
		if err := r.do(ctx, s); err != nil {
			return hint.Wrap(err, "the same command goes on from here")
		}
		if err := d.add(s, time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// do runs a step. A training run that was stopped goes on.
func (r reproduction) do(ctx context.Context, s step) error {
	dir := r.path(s.makes)
	if run, err := train.OpenRun(dir); err == nil {
		if run.Finished() { // and its end not noted
			return nil
		}
		return r.command(ctx, "mvmae-train", "resume", dir, "--device", r.device)
	}
	if !s.goesOn {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return r.command(ctx, "mvmae-train", s.args...)
}

// steps are all of the work, and the folders of the classifiers' runs.
func (r reproduction) steps() (steps []step, runs []string, err error) {
	cost, err := r.costs()
	if err != nil {
		return nil, nil, err
	}
	steps = r.data(cost)
	fit := func(name, kind string, expected time.Duration, args ...string) {
		args = append([]string{kind, "--data", r.path("pack"), "--out", r.path(name), "--device", r.device, "--recipe", r.budget.recipe}, args...)
		steps = append(steps, step{makes: name, args: args, expected: expected})
	}
	for _, method := range pretrained {
		fit(method, "pretrain", cost.pretraining(method), "--method", method)
	}
	for _, e := range r.experiments() {
		args := e.args()
		if e.method != "" {
			args = append(args, "--init", r.path(e.method))
		}
		fit(e.name(), e.kind, cost.classifier(e), args...)
		steps[len(steps)-1].goesOn = e.seeds > 1
		runs = append(runs, r.path(e.name()))
	}
	compare := step{makes: comparedFolder, args: append([]string{"report", "--out", r.path(comparedFolder)}, runs...), expected: perCommand}
	return append(steps, compare), runs, nil
}

// data makes the four institutions' studies, in the layouts of the paper's datasets, and packs them together.
func (r reproduction) data(cost costs) (steps []step) {
	pack := step{makes: "pack", args: []string{"pack", "--out", r.path("pack")}, expected: cost.packing(), goesOn: true}
	for _, layout := range []string{"mimic", "chexpert", "padchest", "nih"} {
		root, index := r.path(layout), r.path(layout+".parquet")
		steps = append(steps,
			step{
				makes: layout, expected: cost.drawing(),
				args: []string{"synth", "--layout", layout, "--studies", fmt.Sprint(r.budget.studies), "--size", fmt.Sprint(r.budget.size), "--out", root},
			},
			// The datasets' own splits would hold few studies for validation: the institutions are smaller.
			step{makes: layout + ".parquet", args: []string{"index", layout, "--root", root, "--split-shares", "0.6,0.15,0.25", "--out", index}, expected: time.Second})
		pack.args = append(pack.args, index)
	}
	return append(steps, pack)
}

// pretrained are the methods of the paper's tables that are pretrained here.
var pretrained = []string{"independent", "mvmae-v2t", "mvmae"}

// experiment is a classifier to train; without a method, from random weights.
type experiment struct {
	kind, method string
	labels       int    // 0 for all
	views        string // see train.Config; "" for all
	seeds        int    // 0 for one run
}

// name is that of its folder.
func (e experiment) name() string {
	parts := []string{e.kind}
	switch {
	case e.method != "":
		parts = append(parts, e.method)
	case e.kind == "probe":
		parts = append(parts, "random")
	}
	switch {
	case e.views != "":
		parts = append(parts, e.views)
	case e.labels > 0:
		parts = append(parts, fmt.Sprint(e.labels))
	}
	return strings.Join(parts, "-")
}

func (e experiment) args() (args []string) {
	if e.labels > 0 {
		args = append(args, "--labels", fmt.Sprint(e.labels))
	}
	if e.seeds > 1 {
		args = append(args, "--seeds", fmt.Sprint(e.seeds))
	}
	if e.views != "" {
		args = append(args, "--set", "views="+e.views)
	}
	return args
}

// experiments are those behind every table and figure: all labels (tables 1 to 3 and 5 to 7), some labels (figures 4, 5 and 11), one view
// against two (table 8). A probe of random weights is added: what a representation is worth that has learned nothing.
func (r reproduction) experiments() (all []experiment) {
	all = append(all, experiment{kind: "probe"}, experiment{kind: "supervised"})
	for _, method := range pretrained {
		all = append(all, experiment{kind: "probe", method: method}, experiment{kind: "finetune", method: method})
		for _, n := range r.budget.probes {
			all = append(all, experiment{kind: "probe", method: method, labels: n})
		}
		for _, n := range r.budget.finetunes {
			all = append(all, experiment{kind: "finetune", method: method, labels: n})
		}
	}
	for _, method := range []string{"independent", "mvmae"} {
		for _, views := range []string{"one_of_two", "two"} {
			all = append(all, experiment{kind: "probe", method: method, labels: r.budget.paired, views: views, seeds: r.budget.seeds})
		}
	}
	return all
}
