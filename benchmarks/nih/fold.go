package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
)

// fold is one part of the cross-validation.
type fold struct {
	number       int
	data, python string
	scores       map[string][]scored // of the test images, by contender
}

// The settings, the same in every fold. docs/results.md says how they were chosen.
var (
	augment  = []string{"augment.brightness=0.1", "augment.contrast=0.1"}
	pretrain = []string{"epochs=100", "optim.warmup_epochs=10", "batch_views=32", "optim.base_lr=4e-3"}
	finetune = []string{
		"finetune.epochs=20", "finetune.batch_views=16", "finetune.pool=mean", "finetune.drop_path=0.1",
		"finetune.optim.base_lr=6e-3", "finetune.optim.warmup_epochs=2",
	}
)

func (f fold) path(name string) string { return filepath.Join(workDir, fmt.Sprint(f.number), name) }

// train makes everything of a fold that is to be scored.
func (f fold) train(ctx context.Context) error {
	if err := os.MkdirAll(f.path(""), 0o755); err != nil {
		return err
	}
	index, pack, program := f.path("nih.parquet"), f.path("pack"), filepath.Join(bin, "mvmae-train")
	run := func(out string, args ...string) func() error {
		return func() error { return once(ctx, f.path(out), program, args...) }
	}
	network := func(settings ...[]string) []string {
		args := []string{"--data", pack, "--device", "cpu", "--set", fmt.Sprint("seed=", f.number)}
		for _, group := range append(settings, augment) {
			for _, s := range group {
				args = append(args, "--set", s)
			}
		}
		return args
	}
	tiny := []string{"--preset", "tiny"}
	for _, step := range []func() error{
		run("nih.parquet", "index", "nih", "--root", f.data, "--labels", label, "--split-shares", shares, "--fold", fmt.Sprintf("%d/%d", f.number, folds)),
		run("pack", "pack", index, "--recipe", "display", "--no-deidentify"), // the images' names tell their projection, for the report
		run("pretrain", append(append([]string{"pretrain", "--method", "independent"}, tiny...), network(pretrain)...)...),
		run("finetune", append([]string{"finetune", "--init", f.path("pretrain")}, network(finetune, []string{"finetune.layer_decay=0.75"})...)...),
		run("supervised", append(append([]string{"supervised"}, tiny...), network(finetune, []string{"finetune.layer_decay=1"})...)...),
		run("probe", append([]string{"probe", "--init", f.path("pretrain")}, network()...)...),
		run("random", append(append([]string{"probe"}, tiny...), network()...)...),
		func() error { return f.hog(ctx, "hog", 1) },
		func() error { return f.hog(ctx, "hog64", 4) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("fold %d: %w", f.number, err)
		}
	}
	return nil
}

// hog fits the classical baseline on the fold's published files, averaged over squares of shrink pixels.
func (f fold) hog(ctx context.Context, name string, shrink int) error {
	x, err := data.ReadIndex(f.path("nih.parquet"))
	if err != nil {
		return err
	}
	type image struct {
		File     string     `json:"file"`
		Split    data.Split `json:"split"`
		Positive bool       `json:"positive"`
	}
	var images []image
	for _, img := range x.Images {
		images = append(images, image{filepath.Join(x.Root, img.Path), img.Split, img.Labels[pneumonia] == model.Positive})
	}
	task, err := json.Marshal(images)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path("hog-task.json"), task, 0o644); err != nil {
		return err
	}
	out, err := command(ctx, f.python, filepath.Join(source, "hog.py"), f.path("hog-task.json"), fmt.Sprint(shrink))
	if err != nil {
		return err
	}
	return os.WriteFile(f.path(name+".json"), out, 0o644)
}

// score reads what every contender says of the fold's test images.
func (f *fold) score(ctx context.Context, projections map[string]string) error {
	pack, err := data.Open(f.path("pack"))
	if err != nil {
		return err
	}
	defer pack.Close()
	dev, err := train.OpenDevice("cpu")
	if err != nil {
		return err
	}
	f.scores = map[string][]scored{}
	for _, name := range networks {
		c, meta, err := train.OpenClassifier(dev, f.path(name))
		if err != nil {
			return err
		}
		predictions, err := train.PredictPack(ctx, c, pack, data.Test, func(int) {})
		if err != nil {
			return err
		}
		if f.scores[name], err = scoredBy(predictions, meta, projections); err != nil {
			return err
		}
	}
	for _, s := range f.scores[networks[0]] {
		f.scores["view"] = append(f.scores["view"], s.with(map[string]float64{"PA": 1}[s.projection]))
	}
	for _, name := range []string{"hog", "hog64"} {
		if f.scores[name], err = f.hogScores(name); err != nil {
			return err
		}
	}
	return f.agrees(ctx)
}

// hogScores reads what hog left: the images of the networks, in their order.
func (f fold) hogScores(name string) (out []scored, err error) {
	doc, err := os.ReadFile(f.path(name + ".json"))
	if err != nil {
		return nil, err
	}
	var hog struct{ Probability map[string]float64 }
	if err := json.Unmarshal(doc, &hog); err != nil {
		return nil, fmt.Errorf("%s.json: %w", name, err)
	}
	byImage := map[string]float64{}
	for file, p := range hog.Probability {
		byImage[strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))] = p
	}
	for _, s := range f.scores[networks[0]] {
		p, ok := byImage[s.image]
		if !ok {
			return nil, fmt.Errorf("%s.json lacks a test image", name)
		}
		out = append(out, s.with(p))
	}
	return out, nil
}
