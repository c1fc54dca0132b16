package main

import (
	"cmp"
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
	Part      string `enum:"full,encoder,head" default:"full" help:"What the file holds (${enum})."`
	Precision string `enum:"fp32,fp16,int8" default:"fp32" help:"Type it computes in (${enum})."`
	Data      string `placeholder:"DIR" help:"Pack whose held-out studies prove fp16 and int8. Default: that of the run."`
	Force     bool   `help:"Write fp16 or int8 even if it loses too much, or if that is not measured."`
	Attention bool   `help:"Add the output attention: the share of each patch, by attention rollout."`
	Opset     int    `placeholder:"N" help:"Version of the ONNX operators, 17 to 23. Default: 17, which most programs read; for int8 23, which runs fastest."`
	Model     string `arg:"" name:"model.onnx" help:"File to write. An older one is replaced once the new one is verified."`
}

// Validate wants the ending: without it, a mistyped subcommand would become the name of a file.
func (c *ExportCmd) Validate() error {
	if filepath.Ext(c.Model) != ".onnx" {
		return fmt.Errorf("%s is neither a command nor a name that ends in .onnx", c.Model)
	}
	return c.graph().Validate()
}

func (c *ExportCmd) graph() export.Graph {
	return export.Graph{Part: export.Part(c.Part), Precision: export.Precision(c.Precision), Opset: c.Opset, Attention: c.Attention}
}

func (c *ExportCmd) Run(ctx context.Context, out *cli.Output) (err error) {
	run := c.From
	if run == "" {
		if run, err = export.DefaultRun(); err != nil {
			return err
		}
	}
	opts := export.Options{Force: c.Force, Graph: c.graph()}
	if opts.Precision == export.FP16 || opts.Precision == export.INT8 {
		held, err := openHeldOut(run, c.Data)
		switch {
		case err == nil:
			defer held.Close()
			opts.HeldOut = held.studies()
		case !c.Force:
			return err
		}
	}
	var progress *cli.Progress
	opts.Progress = func(stage string, images, total int) {
		if images == 0 {
			if progress != nil {
				progress.Done()
			}
			progress = out.Progress(stage, int64(total))
		}
		progress.Add(int64(images))
	}
	summary, err := export.Export(ctx, run, c.Model, opts)
	if progress != nil {
		progress.Done()
	}
	if err != nil {
		return err
	}
	out.Printf("%s: %s, %d nodes, %.1f MB, from %s\n", summary.Model, summary.Precision, summary.Nodes, float64(summary.Bytes)/1e6, summary.Run)
	out.Printf("verified: the logits of %d images differ by at most %.1e\n", summary.Compared, summary.MaxDifference)
	if k := summary.Check; k != nil {
		out.Printf("against fp32 on %d studies of %d patients: macro AUROC %+.4f [%+.4f, %+.4f] lost, Brier score %+.4f [%+.4f, %+.4f], limit %g\n",
			k.Studies, k.Patients, k.AUROCLoss.Value, k.AUROCLoss.Low, k.AUROCLoss.High, k.BrierLoss.Value, k.BrierLoss.Low, k.BrierLoss.High, k.Limit)
	}
	out.Printf("card %s\nsha256 %s\n", summary.Card, summary.SHA256)
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
	line("operators", "%s", operators(x.Operators))
	if x.GFLOPs > 0 {
		line("cost", "%.3g GFLOPs an image", x.GFLOPs)
	} else if op := m.Encoder.Uncounted; op != "" {
		line("cost", "not known: operator %s is not counted", op)
	}
	for _, p := range x.Inputs {
		line("input", "%s %s [%s]", p.Name, p.Type, strings.Join(p.Shape, ","))
	}
	for _, p := range x.Outputs {
		line("output", "%s %s [%s]", p.Name, p.Type, strings.Join(p.Shape, ","))
	}
	line("model", "%s %s, preset %s, %s, %s", m.Name, m.Version, m.Spec.Preset, m.Kind+" on "+m.Encoder.Method, m.Precision)
	line("run", "%s, checkpoint sha256 %s", cmp.Or(m.RunID, "none"), m.CheckpointSHA256)
	line("input from", "recipe %s, views known by %s", m.Preprocessing, cmp.Or(strings.Join(m.ViewEvidence, ", "), "what nobody noted"))
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
	switch card := x.Card; {
	case card == nil:
		line("card", "none beside the file")
	case card.Current:
		line("card", "%s", card.Text)
	default:
		line("card", "%s, of another file: its digest differs", card.Text)
	}
	line("licence", "%s", m.Licence)
	line("intended use", "%s", m.IntendedUse)
	return out.Result(x)
}

// operators lists how many nodes there are of each, the most frequent first.
func operators(counts map[string]int) string {
	ops := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], strings.Compare(a, b)) })
	for i, op := range ops {
		ops[i] = fmt.Sprintf("%d %s", counts[op], op)
	}
	return strings.Join(ops, ", ")
}
