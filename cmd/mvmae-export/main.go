// Command mvmae-export turns a run into a model file, and refuses to leave one that does not reproduce the run.
package main

import "github.com/mvmae/mvmae/cmd/internal/cli"

type commands struct {
	Export    ExportCmd    `cmd:"" default:"withargs" help:"Make a model file of a run (the default command)."`
	FromTorch FromTorchCmd `cmd:"" help:"Make a model file of PyTorch weights."`
	Inspect   InspectCmd   `cmd:"" help:"Show what a model file says of itself."`
	Diff      DiffCmd      `cmd:"" help:"Show what two model files differ in."`
}

func main() {
	cli.Main("mvmae-export", "Export trained models to ONNX, verified against the run they come from.", &commands{}, nil)
}
