package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/benchmarks/made"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
)

// paritySteps is how many steps are compared with the CPU's.
const paritySteps = 20

// parityBatch are the batches of that: small, for the CPU's sake.
var parityBatch = map[string]int{"nano": 16, "tiny": 64, "base": 8}

// parityTolerance is how much a loss may differ from the CPU's, as a share of it. Both add up in different orders, and twenty steps of
// AdamW, which divides by small numbers, carry that on; bfloat16 has 8 bits.
var parityTolerance = map[string]float64{"float32": 1e-3, "bfloat16": 1e-2}

// referenceFile holds the CPU's losses, by preset and compute: "pack" leaves it.
const referenceFile = "reference.json"

type trainParams struct {
	Preset     string `json:"preset"`
	Compute    string `json:"compute"`
	Device     string `json:"device"`
	Devices    int    `json:"devices"`
	Batch      int    `json:"batch"`
	Warm       int    `json:"warm"` // steps before the timed ones
	Steps      int    `json:"steps"`
	Beforehand bool   `json:"beforehand"`
	Parity     bool   `json:"parity"`
}

// trainValues is what a training case found. Rates are of the median step.
type trainValues struct {
	trainParams
	Plugin         string     `json:"plugin_sha256"`
	Losses         []float64  `json:"losses"`
	FirstStep      float64    `json:"first_step_seconds"` // with the compilation
	StepSeconds    float64    `json:"step_seconds,omitempty"`
	Quartiles      [2]float64 `json:"step_seconds_quartiles,omitzero"`
	ImagesPerSec   float64    `json:"images_per_sec,omitempty"`
	FLOPs          int64      `json:"flops_per_step"`
	TFLOPsPerSec   float64    `json:"tflops_per_sec,omitempty"`
	MFU            float64    `json:"mfu,omitempty"` // of the datasheet's rate
	Planned        int64      `json:"planned_bytes"` // memory of the step, by XLA
	PredictedBytes int64      `json:"predicted_bytes"`
	Predicted      [2]float64 `json:"predicted_images_per_sec,omitzero"`
	// Of a parity case:
	Reference   []float64 `json:"cpu_losses,omitempty"`
	Difference  *float64  `json:"largest_relative_difference,omitempty"`
	Tolerance   float64   `json:"tolerance,omitempty"`
	OfTheDevice string    `json:"device_name"`
}

// work is where cases keep their files, the same for all.
func work() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(self), "work")
	return dir, os.MkdirAll(dir, 0o755)
}

// measureTrain runs steps of a pretraining run.
func measureTrain(ctx context.Context, p trainParams) (any, error) {
	dev, err := train.OpenDevices(p.Device, p.Devices)
	if err != nil {
		return nil, err
	}
	dir, err := work()
	if err != nil {
		return nil, err
	}
	steps, plan, err := trainSteps(ctx, dev, dir, p)
	if err != nil {
		return nil, err
	}
	v := trainValues{trainParams: p, Plugin: dev.PluginDigest, FirstStep: steps[0].Seconds, Planned: plan.Total(), OfTheDevice: dev.String()}
	for _, s := range steps {
		v.Losses = append(v.Losses, s.Loss)
	}
	spec, err := model.Preset(p.Preset)
	if err != nil {
		return nil, err
	}
	step, err := model.PredictStep(spec, train.Default().Visible(spec.NumPatches()), p.Batch, p.Compute == "bfloat16")
	if err != nil {
		return nil, err
	}
	v.FLOPs, v.PredictedBytes = step.FLOPs, step.MemoryBytes()
	if p.Parity {
		return v, v.compare(filepath.Join(filepath.Dir(dir), referenceFile))
	}
	v.rates(ctx, step, steps[p.Warm:])
	return v, nil
}

// trainSteps makes the steps of a case.
func trainSteps(ctx context.Context, dev *train.Device, dir string, p trainParams) ([]train.Measured, train.Plan, error) {
	folder, err := made.Pack(ctx, dir)
	if err != nil {
		return nil, train.Plan{}, err
	}
	pack, err := data.Open(folder)
	if err != nil {
		return nil, train.Plan{}, err
	}
	defer pack.Close()
	cfg := train.Default()
	cfg.Preset, cfg.Compute, cfg.BatchViews, cfg.Epochs, cfg.Optim.WarmupEpochs = p.Preset, p.Compute, p.Batch, 1e5, 0
	runDir, err := os.MkdirTemp(dir, "run")
	if err != nil {
		return nil, train.Plan{}, err
	}
	defer os.RemoveAll(runDir)
	run, err := train.CreateRun(runDir, train.RunInfo{Kind: "pretrain", Data: folder, DataDigest: pack.Digest(), Preprocessing: pack.Recipe.String()}, cfg)
	if err != nil {
		return nil, train.Plan{}, err
	}
	return train.Measure(ctx, dev, run, pack, p.Warm+p.Steps, p.Beforehand)
}

// rates fills in what the timed steps say.
func (v *trainValues) rates(ctx context.Context, step model.Step, timed []train.Measured) {
	seconds, views := make([]float64, len(timed)), 0
	for i, s := range timed {
		seconds[i] = s.Seconds
		views += s.Views
	}
	v.StepSeconds, v.Quartiles = middle(seconds), [2]float64{paired.Quantile(seconds, 0.25), paired.Quantile(seconds, 0.75)}
	v.ImagesPerSec = float64(views) / float64(len(timed)) / v.StepSeconds
	v.TFLOPsPerSec = float64(step.FLOPs) / v.StepSeconds / 1e12
	half := v.Compute == "bfloat16"
	if g := gpuOf(ctx); g != nil {
		rate := g.Float32
		if half {
			rate = g.BFloat16
		}
		v.MFU = v.TFLOPsPerSec * 1e12 / rate / float64(v.Devices)
		best, worst := g.Time(step, half)
		v.Predicted = [2]float64{float64(step.Views) / worst.Seconds(), float64(step.Views) / best.Seconds()}
	}
}

// compare compares the losses with the CPU's.
func (v *trainValues) compare(file string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	reference := map[string][]float64{}
	if err := json.Unmarshal(doc, &reference); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	v.Reference, v.Tolerance = reference[v.Preset+"/"+v.Compute], parityTolerance[v.Compute]
	if len(v.Reference) != len(v.Losses) {
		return fmt.Errorf("%s has %d losses of %s in %s, want %d", file, len(v.Reference), v.Preset, v.Compute, len(v.Losses))
	}
	most, at := 0.0, 0
	for i, want := range v.Reference {
		if d := math.Abs(v.Losses[i]-want) / want; !(d <= most) {
			most, at = d, i
		}
	}
	v.Difference = &most
	if !(most <= v.Tolerance) {
		return fmt.Errorf("loss %d is %v, the CPU's %v: off by %.2g of it, more than %g", at+1, v.Losses[at], v.Reference[at], most, v.Tolerance)
	}
	return nil
}

// makeReference computes the CPU's losses.
func makeReference(ctx context.Context, dir string, presets []string) (map[string][]float64, error) {
	dev, err := train.OpenDevice("cpu")
	if err != nil {
		return nil, err
	}
	out := map[string][]float64{}
	for _, preset := range presets {
		for compute := range parityTolerance {
			fmt.Fprintf(os.Stderr, "%d steps of %s in %s on the CPU\n", paritySteps, preset, compute)
			steps, _, err := trainSteps(ctx, dev, dir, trainParams{Preset: preset, Compute: compute, Batch: parityBatch[preset], Steps: paritySteps})
			if err != nil {
				return nil, err
			}
			for _, s := range steps {
				out[preset+"/"+compute] = append(out[preset+"/"+compute], s.Loss)
			}
		}
	}
	return out, nil
}

// middle is the median.
func middle(values []float64) float64 { return paired.Quantile(values, 0.5) }
