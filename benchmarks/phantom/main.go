// Command phantom asks two observers how hard the phantom is: a linear probe on raw pixels and a small convolutional network. The
// rule that they apply, and their answers, are in docs/phantom.md; the rule was written down before any method was compared.
//
//	go run ./benchmarks/phantom [--studies 6000] [--seed 1] [--work DIR]
//
// It makes the phantom, indexes and packs it as a user would (the folder, and with it the phantom, is kept if it is named), and
// prints the macro AUROC of both over the test studies with its 95 % interval over patients. Exit code 1 says that the rule is broken.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
	"github.com/mvmae/mvmae/train/synth"
)

// rule is what an observer's macro AUROC must lie in.
type rule struct {
	observer
	low, high float64
}

var rules = []rule{
	{observer{name: "linear, raw pixels", side: 32, epochs: 30, rate: 2e-3, decay: 0.05, logits: linear}, 0.60, 0.75},
	{observer{name: "convolutional network", side: 64, epochs: 20, rate: 2e-3, decay: 0.02, shift: 4, logits: network}, 0.75, 0.90},
}

func main() {
	train.KeepMemory()
	studies := flag.Int("studies", 6000, "studies")
	seed := flag.Uint64("seed", 1, "of the phantom and of the observers")
	size := flag.Int("size", cxr.StoredSize, "pixels on a side of the images")
	work := flag.String("work", "", "folder to make and keep; one that exists is observed as it is")
	flag.Parse()
	if err := run(context.Background(), *studies, *size, *seed, *work); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, studies, size int, seed uint64, work string) error {
	if work == "" {
		temp, err := os.MkdirTemp("", "phantom-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		work = temp
	}
	packed := filepath.Join(work, "pack")
	if _, err := os.Stat(packed); err != nil {
		if err := makePack(ctx, studies, size, seed, work); err != nil {
			return err
		}
	}
	pack, err := data.Open(packed)
	if err != nil {
		return err
	}
	defer pack.Close()
	dev, err := train.OpenDevice("cpu")
	if err != nil {
		return err
	}
	test := pack.StudiesOf(data.Test)
	fmt.Printf("%d images; studies: %d to train, %d to choose the epoch, %d to test\n\n", len(pack.Images), len(pack.StudiesOf(data.Train)), len(pack.StudiesOf(data.Validate)), len(test))
	var broken []error
	for _, r := range rules {
		rep, err := r.observe(ctx, dev, pack, seed)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		auroc := rep.Macro.AUROC
		fmt.Printf("%-24s macro AUROC %s, rule %.2f to %.2f\n", r.name, auroc, r.low, r.high)
		for _, label := range model.Labels {
			i := slices.IndexFunc(rep.Labels, func(l eval.LabelReport) bool { return l.Label == label })
			if i >= 0 {
				fmt.Printf("    %-28s %s\n", label, rep.Labels[i].AUROC)
			}
		}
		if v := float64(auroc.Value); !(v >= r.low && v <= r.high) {
			broken = append(broken, fmt.Errorf("%s: %.3f is outside the rule", r.name, v))
		}
	}
	return errors.Join(broken...)
}

// makePack makes a phantom and packs it, by the steps of the commands synth, index and pack.
func makePack(ctx context.Context, studies, size int, seed uint64, work string) error {
	cfg := synth.Config{Studies: studies, Seed: seed, Size: size, Out: filepath.Join(work, "phantom"), Compress: true}
	if _, err := synth.Generate(ctx, cfg, nil); err != nil {
		return err
	}
	index, _, err := data.IndexDICOM(ctx, data.IndexOptions{Root: cfg.Out, Shares: &data.Shares{0.7, 0.1, 0.2}, Limits: dicom.DefaultLimits()})
	if err != nil {
		return err
	}
	file := filepath.Join(work, "index.parquet")
	if err := data.WriteIndex(file, index); err != nil {
		return err
	}
	_, err = data.MakePack(ctx, []string{file}, data.PackOptions{Out: filepath.Join(work, "pack"), Recipe: cxr.Mimic, Limits: dicom.DefaultLimits()})
	return err
}

// report scores the fused probabilities of test studies.
func report(pack *data.Pack, studies []int, logits [][model.NumLabels]float32, replicates int) (eval.Report, error) {
	var none metrics.Thresholds
	return eval.Evaluate(nil, train.Predictions(pack, studies, logits), eval.Options{Rule: fuse.MeanProbability, Replicates: replicates, Seed: 1, Thresholds: &none})
}
