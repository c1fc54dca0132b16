// Train compares one training step of recipe "paper" with PyTorch eager: the trainer's own loop (augmentation, losses,
// gradients, AdamW, batches prepared beside it) against the same model written in PyTorch, on the CPU. Run it from the
// repository's root:
//
//	go run ./benchmarks/train
//
// The peer is first checked against a golden case, losses and gradients. It gets finished images, so what reading and
// augmentation cost is counted on the trainer's side only.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/benchmarks/made"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
)

// sizes are batch (view images) and steps a round of each preset: a round takes some seconds.
var sizes = map[string]struct{ batch, steps int }{
	"nano":  {16, 10}, // to try the benchmark itself
	"tiny":  {64, 10},
	"small": {16, 1},
	"base":  {16, 1},
}

func main() {
	presets := flag.String("presets", "tiny,small,base", "presets to measure")
	rounds := flag.Int("rounds", 10, "rounds of each")
	worker := flag.String("worker", "", "be the trainer's side for this preset")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *worker != "" {
		train.KeepMemory()
		err = work(ctx, *worker)
	} else {
		err = run(ctx, strings.Split(*presets, ","), *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, presets []string, rounds int) error {
	report := paired.NewReport("train")
	report.Variant = strings.Join(presets, "-")
	python, err := paired.Python(paired.Folder)
	if err != nil {
		return err
	}
	version, err := exec.CommandContext(ctx, python, peer, "check", golden).Output()
	if err != nil {
		return fmt.Errorf("the peer does not reproduce %s: %w", golden, err)
	}
	report.Peers["PyTorch"] = strings.TrimSpace(string(version))
	if _, err := made.Pack(ctx, paired.WorkDir); err != nil {
		return err
	}
	report.Printf("Peer: PyTorch %s eager on all cores, scaled_dot_product_attention, fused AdamW; %d rounds.\n"+
		"Images/s: a batch of whole studies side by side, for both. Studies/s: 1.40 views a study; the peer pads every study to three slots.\n"+
		"CPU ratio: the same per second of processor time.\n\n"+
		"| preset | batch | images/s | PyTorch | ratio | CPU ratio | studies/s | PyTorch, 3 slots | ratio | CPU ratio |\n|---|---|---|---|---|---|---|---|---|---|\n",
		report.Peers["PyTorch"], rounds)
	for _, preset := range presets {
		samples, err := compare(ctx, python, preset, rounds)
		if err != nil {
			return err
		}
		report.Parts[preset] = samples
		perStudy := func(s paired.Sample) float64 { return s.Rate() / made.ViewsPerStudy }
		report.Printf("| %s | %d | %v | %v | **%v** | %v | %v | %v | **%v** | %v |\n", preset, sizes[preset].batch,
			samples.Of("xla", paired.Sample.Rate), samples.Of("packed", paired.Sample.Rate),
			samples.Ratio("xla", "packed", paired.Sample.Rate), samples.Ratio("xla", "packed", paired.Sample.PerCPU),
			samples.Of("xla", perStudy), samples.Of("slots", perStudy),
			samples.Ratio("xla", "slots", paired.Sample.Rate), samples.Ratio("xla", "slots", paired.Sample.PerCPU))
		if err := report.Write(); err != nil { // after each preset: the run is long
			return err
		}
	}
	return nil
}

const (
	peer   = paired.Folder + "/train/peer.py"
	golden = "testdata/golden/paper_mvmae_0.safetensors"
)

// compare runs the three contenders on one preset.
func compare(ctx context.Context, python, preset string, rounds int) (paired.Samples, error) {
	spec, err := model.Preset(preset)
	if err != nil {
		return nil, err
	}
	size, ok := sizes[preset]
	if !ok {
		return nil, fmt.Errorf("no batch size for preset %s", preset)
	}
	doc, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	specFile := filepath.Join(paired.WorkDir, "spec.json")
	if err := os.WriteFile(specFile, doc, 0o644); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var contenders []paired.Contender
	for _, c := range []struct {
		name    string
		command []string
	}{
		{"xla", []string{self, "-worker", preset}},
		{"packed", []string{python, peer, "run", specFile, strconv.Itoa(size.batch), "packed", strconv.Itoa(size.steps)}},
		{"slots", []string{python, peer, "run", specFile, strconv.Itoa(size.batch), "slots", strconv.Itoa(size.steps)}},
	} {
		p, err := paired.Start(ctx, c.command[0], c.command[1:]...)
		if err != nil {
			return nil, err
		}
		defer p.Close()
		contenders = append(contenders, paired.Contender{Name: c.name, Round: p.Round})
	}
	return paired.Run(ctx, os.Stderr, rounds, contenders...)
}
