package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mvmae/mvmae/benchmarks/made"
	"github.com/mvmae/mvmae/model"
)

// measure is one case: a kind and its parameters as JSON. It leaves its values as one line, with the error too if they are not what they should be.
func measure(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("case KIND PARAMETERS")
	}
	var values any
	var err error
	switch args[0] {
	case "train":
		values, err = with(ctx, args[1], measureTrain)
	case "peer":
		values, err = with(ctx, args[1], measurePeer)
	case "model":
		values, err = with(ctx, args[1], measureModel)
	case "serve":
		values, err = with(ctx, args[1], measureServe)
	default:
		return fmt.Errorf("no kind of case %q", args[0])
	}
	if values != nil {
		doc, encode := json.Marshal(values)
		err = errors.Join(err, encode)
		fmt.Printf("%s\n", doc)
	}
	return err
}

func with[P any](ctx context.Context, doc string, f func(context.Context, P) (any, error)) (any, error) {
	var p P
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return nil, err
	}
	return f(ctx, p)
}

// peerParams are PyTorch's side of a training case.
type peerParams struct {
	Preset     string `json:"preset"`
	Compile    bool   `json:"compile"`
	Half       bool   `json:"half"` // AMP in bfloat16
	Device     string `json:"device"`
	Batch      int    `json:"batch"`
	Warm       int    `json:"warm"`
	Steps      int    `json:"steps"`
	Beforehand bool   `json:"beforehand"`
}

// measurePeer has PyTorch do the same work, and adds what the datasheet says of it.
func measurePeer(ctx context.Context, p peerParams) (any, error) {
	dir, err := work()
	if err != nil {
		return nil, err
	}
	pack, err := made.Pack(ctx, dir)
	if err != nil {
		return nil, err
	}
	spec, err := model.Preset(p.Preset)
	if err != nil {
		return nil, err
	}
	params, err := json.Marshal(struct {
		peerParams
		Spec   model.Spec `json:"spec"`
		Pixels string     `json:"pixels"`
	}{p, spec, filepath.Join(pack, "images.u8")})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, os.Getenv("MVMAE_GPU_PYTHON"), filepath.Join(filepath.Dir(dir), "peers", "gpu", "peer.py"))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(params), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("PyTorch: %w", err)
	}
	values := map[string]any{}
	if err := json.Unmarshal(lastObject(out), &values); err != nil {
		return nil, fmt.Errorf("PyTorch's answer: %w", err)
	}
	step, err := model.PredictStep(spec, int(values["visible"].(float64)), p.Batch, p.Half)
	if err != nil {
		return nil, err
	}
	seconds := values["step_seconds"].(float64)
	values["images_per_sec"], values["flops_per_step"], values["tflops_per_sec"] = float64(p.Batch)/seconds, step.FLOPs, float64(step.FLOPs)/seconds/1e12
	if g := gpuOf(ctx); g != nil {
		values["mfu"] = float64(step.FLOPs) / seconds / g.BFloat16
	}
	return values, nil
}
