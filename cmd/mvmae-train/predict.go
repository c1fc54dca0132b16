package main

import (
	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
)

// prediction is a GPU's range of images a second for a step, slowest first, and of its use of the products' rate.
type prediction struct {
	GPU          string     `json:"gpu"`
	Fits         bool       `json:"fits"` // in its memory
	ImagesPerSec [2]float64 `json:"images_per_sec"`
	MFU          [2]float64 `json:"mfu"`
}

// predict says what a recipe's pretraining step takes: see docs/gpu.md.
func predict(out *cli.Output, cfg train.Config) error {
	spec, err := cfg.Spec()
	if err != nil {
		return err
	}
	half := cfg.Compute == "bfloat16"
	step, err := model.PredictStep(spec, cfg.Visible(spec.NumPatches()), cfg.BatchViews, half)
	if err != nil {
		return err
	}
	out.Printf("preset %s, %s: %v\n\n%-6s %20s %15s  memory\n", cfg.Preset, cfg.Compute, step, "", "images/s", "MFU")
	var all []prediction
	for _, g := range model.GPUs {
		best, worst := g.Time(step, half)
		p := prediction{GPU: g.Name, Fits: step.MemoryBytes() < g.MemoryBytes}
		p.ImagesPerSec = [2]float64{float64(step.Views) / worst.Seconds(), float64(step.Views) / best.Seconds()}
		p.MFU = [2]float64{g.Utilisation(step, worst, half), g.Utilisation(step, best, half)}
		all = append(all, p)
		fits := "fits"
		if !p.Fits {
			fits = "too large"
		}
		out.Printf("%-6s %9.0f - %8.0f %7.2f - %5.2f  %s\n", g.Name, p.ImagesPerSec[0], p.ImagesPerSec[1], p.MFU[0], p.MFU[1], fits)
	}
	return out.Result(map[string]any{
		"preset": cfg.Preset, "compute": cfg.Compute, "views": step.Views, "flops": step.FLOPs, "parameters": step.Parameters,
		"state_bytes": step.StateBytes, "update_bytes": step.UpdateBytes, "activation_bytes": step.ActivationBytes, "gpus": all,
	})
}
