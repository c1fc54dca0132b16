package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/export"
)

// FromTorchCmd makes a model file of PyTorch weights.
type FromTorchCmd struct {
	Weights string `arg:"" name:"weights" help:"File of a timm ViT, MAE, medical_mae or MVMAE: .safetensors, or what torch.save wrote. Its notes stand beside it, in a file with .toml at the end of its name." type:"existingfile"`
	Model   string `arg:"" name:"model.onnx" help:"File to write."`
	Part    string `enum:",full,encoder" default:"" help:"full, or encoder (default: full where the weights have a head whose labels are known)."`
}

// Validate wants the ending, by which every program knows a model file.
func (c *FromTorchCmd) Validate() error {
	if filepath.Ext(c.Model) != ".onnx" {
		return fmt.Errorf("%s: a model file's name ends in .onnx", c.Model)
	}
	return nil
}

func (c *FromTorchCmd) Run(_ context.Context, out *cli.Output) error {
	s, err := export.FromTorch(c.Weights, c.Model, export.Part(c.Part))
	if err != nil {
		return err
	}
	spec := s.Spec
	out.Printf("%s: %s of layout %s, %d pixels in patches of %d, width %d, depth %d, heads %d\n",
		s.Model, s.Part, s.Layout, spec.ImageSize, spec.PatchSize, spec.Width, spec.Depth, spec.Heads)
	if len(s.LeftOut) > 0 {
		out.Printf("left out: %d tensors, from %s to %s\n", len(s.LeftOut), s.LeftOut[0], s.LeftOut[len(s.LeftOut)-1])
	}
	if s.Notes != "" {
		out.Printf("notes %s\n", s.Notes)
	}
	out.Printf("card %s\nsha256 %s\n", s.Card, s.SHA256)
	return out.Result(s)
}
