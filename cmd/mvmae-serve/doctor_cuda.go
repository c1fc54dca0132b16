package main

import (
	"fmt"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/internal/nvidia"
	"github.com/mvmae/mvmae/model/ort"
)

// cuda looks for what ONNX Runtime and XLA need on a GPU, part by part. Where CUDA is not asked for and there is no driver,
// one line says so.
func (c *DoctorCmd) cuda() []check {
	wanted := c.Device == ort.CUDA
	var checks []check
	parts := map[string]bool{}
	add := func(r nvidia.Report, needed bool) {
		for _, p := range r.Parts {
			if p.Optional {
				needed = false
			}
			if !parts[p.File] { // cuBLAS is for both, and stands once
				checks = append(checks, look(p.Name, needed, func() (string, error) { return partDetail(p), p.Err }))
			}
			parts[p.File] = true
		}
	}
	provider, err := ort.CUDAProvider()
	serving := nvidia.Load(nvidia.ONNXRuntime, provider)
	if serving.Driver.Err != nil && !wanted {
		return []check{{Name: "CUDA", Detail: serving.Driver.Err.Error(), Hint: `without a GPU the CPU serves and trains; "mvmae-serve doctor --device cuda" lists what CUDA takes`}}
	}
	checks = append(checks,
		look("NVIDIA driver", wanted, func() (string, error) { return serving.Driver.String(), serving.Driver.Err }),
		look("ORT for CUDA", wanted, func() (string, error) { return provider, err }))
	add(serving, wanted)
	if err == nil && serving.Err() == nil {
		checks = append(checks, look("CUDA serving", wanted, func() (string, error) { return "a model ran on the GPU", ort.Probe(ort.CUDA) }))
	}
	checks = append(checks, look("XLA for CUDA", wanted && c.Train, func() (string, error) { return plugin(libs.PJRTCUDA) }))
	plug, _ := libs.Find(libs.PJRTCUDA) // without it, what CUDA 13 needs is looked for
	add(nvidia.Load(nvidia.XLA, plug), wanted && c.Train)
	return checks
}

func partDetail(p nvidia.Part) string {
	if p.Version == "" {
		return p.Path
	}
	return p.Version + ", " + p.Path
}

// plugin loads an XLA plugin and says which interface it speaks. The trainer's binding was written for PJRT 0.104.
func plugin(lib libs.Library) (string, error) {
	path, err := libs.Find(lib)
	if err != nil {
		return "", err
	}
	version, err := nvidia.PluginVersion(path)
	if err != nil {
		return "", hint.Wrap(err, "install it anew, or name the folder of another in %s", libs.RuntimeEnv)
	}
	return fmt.Sprintf("PJRT %s, %s", version, path), nil
}
