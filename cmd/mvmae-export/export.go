package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/export"
)

// ExportCmd makes a model file of a run.
type ExportCmd struct {
	From      string `name:"run" placeholder:"RUN" help:"Folder of the run to export. Default: the newest under $$MVMAE_RUNS, or ./runs."`
	Precision string `enum:"fp32" default:"fp32" help:"Type of the weights (${enum})."`
	Opset     int    `enum:"17" default:"17" help:"Version of the ONNX operators (${enum})."`
	Model     string `arg:"" name:"model.onnx" help:"File to write. An older one is replaced once the new one is verified."`
}

// Validate wants the ending: without it, a mistyped subcommand would become the name of a file.
func (c *ExportCmd) Validate() error {
	if filepath.Ext(c.Model) != ".onnx" {
		return fmt.Errorf("%s is neither a command nor a name that ends in .onnx", c.Model)
	}
	return nil
}

func (c *ExportCmd) Run(ctx context.Context, out *cli.Output) (err error) {
	run := c.From
	if run == "" {
		if run, err = export.DefaultRun(); err != nil {
			return err
		}
	}
	var progress *cli.Progress
	summary, err := export.Export(ctx, run, c.Model, export.Options{Progress: func(images, total int) {
		if progress == nil {
			progress = out.Progress("verify", int64(total))
		}
		progress.Add(int64(images))
	}})
	if progress != nil {
		progress.Done()
	}
	if err != nil {
		return err
	}
	out.Printf("%s: %d nodes, %.1f MB, from %s\n", summary.Model, summary.Nodes, float64(summary.Bytes)/1e6, summary.Run)
	out.Printf("verified: the logits of %d images differ by at most %.1e\nsha256 %s\n", summary.Compared, summary.MaxDifference, summary.SHA256)
	return out.Result(summary)
}

// InspectCmd prints what a model file says of itself.
type InspectCmd struct {
	Model string `arg:"" name:"model.onnx" help:"File to read."`
}

func (c *InspectCmd) Run(_ context.Context, out *cli.Output) error {
	x, err := export.Inspect(c.Model)
	if err != nil {
		return err
	}
	m := x.Metadata
	line := func(name, format string, args ...any) { out.Printf("%-14s %s\n", name, fmt.Sprintf(format, args...)) }
	line("file", "%s, %.1f MB", x.Model, float64(x.Bytes)/1e6)
	line("sha256", "%s", x.SHA256)
	line("made by", "%s", x.Producer)
	line("graph", "%d nodes, %d values, opset %d, IR version %d", x.Nodes, x.Parameters, x.Opset, x.IRVersion)
	for _, p := range x.Inputs {
		line("input", "%s %s [%s]", p.Name, p.Type, strings.Join(p.Shape, ","))
	}
	for _, p := range x.Outputs {
		line("output", "%s %s [%s]", p.Name, p.Type, strings.Join(p.Shape, ","))
	}
	line("model", "%s %s, preset %s, %s, %s", m.Name, m.Version, m.Spec.Preset, m.Kind+" on "+m.Encoder.Method, m.Precision)
	line("run", "%s, checkpoint sha256 %s", m.RunID, m.CheckpointSHA256)
	line("input from", "recipe %s, views known by %s", m.Preprocessing, strings.Join(m.ViewEvidence, ", "))
	line("fusion", "%s", m.Fusion)
	for i, l := range m.Labels {
		if slices.Contains(m.UntrainedLabels, l) {
			line("not trained", "%s", l)
			continue
		}
		line("threshold", "%.4f %s", m.Thresholds[i], l)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Datasets)) {
		n := m.Datasets[name]
		line("dataset", "%s: %d patients, %d studies, %d images", name, n.Patients, n.Studies, n.Images)
	}
	line("licence", "%s", m.Licence)
	line("intended use", "%s", m.IntendedUse)
	return out.Result(x)
}
