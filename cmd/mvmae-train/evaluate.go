package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// EvalCmd scores a run or a model file on held-out studies.
type EvalCmd struct {
	Data       string `help:"Folder that pack wrote." required:"" type:"existingdir" placeholder:"DIR"`
	Model      string `help:"Run folder, or model file." required:"" type:"path" placeholder:"RUN|model.onnx"`
	Split      string `help:"Split to report on, at the thresholds of the model." enum:"test" default:"test"`
	Views      string `help:"Views of each study to use: ${enum}." enum:"1,all" default:"all"`
	Replicates int    `help:"Bootstrap replicates behind the intervals; 0 for none." default:"1000"`
	Seed       uint64 `help:"Seed of the bootstrap." default:"1"`
	deviceFlag
}

// Run evaluates a run with XLA, a model file with ONNX Runtime.
func (c *EvalCmd) Run(ctx context.Context, out *cli.Output) error {
	pack, err := openPack(c.Data, out)
	if err != nil {
		return err
	}
	defer pack.Close()
	m, meta, err := c.open(out)
	if err != nil {
		return err
	}
	if got, want := pack.Recipe.String(), meta.Preprocessing; got != want {
		return hint.Wrap(fmt.Errorf("pack %s was made with recipe %s, the model wants %s", c.Data, got, want), "pack again with --recipe %s", want)
	}
	rule, err := fuse.ParseRule(meta.Fusion)
	if err != nil {
		return err
	}
	calibration, err := fuse.ParseCalibration(meta.Calibration)
	if err != nil {
		return err
	}
	thresholds := metrics.Thresholds(meta.Thresholds)
	progress := out.Progress("eval (images)", int64(len(train.ImagesOf(pack, pack.StudiesOf(data.Test)))))
	rep, err := train.EvaluatePack(ctx, m, pack, eval.Options{
		Rule: rule, Replicates: c.Replicates, Seed: c.Seed, OneView: c.Views == "1", Thresholds: &thresholds, Calibration: calibration,
	}, func(n int) { progress.Add(int64(n)) })
	progress.Done()
	if err != nil {
		return err
	}
	out.Printf("%s", rep.Table())
	return out.Result(rep)
}

// open reads the model, which lives as long as the process.
func (c *EvalCmd) open(out *cli.Output) (train.Classifier, model.Metadata, error) {
	if strings.HasSuffix(c.Model, ".onnx") {
		m, err := ort.Open(c.Model, ort.Options{Device: c.Device, Threads: runtime.NumCPU()})
		if err != nil {
			return nil, model.Metadata{}, err
		}
		return onnxClassifier{m}, m.Metadata(), nil
	}
	dev, err := c.deviceFlag.open(out)
	if err != nil {
		return nil, model.Metadata{}, err
	}
	return train.OpenClassifier(dev, c.Model)
}

// onnxClassifier lets ONNX Runtime answer for the trainer.
type onnxClassifier struct{ m *ort.Model }

func (c onnxClassifier) ImageSize() int { return c.m.Metadata().Spec.ImageSize }

func (c onnxClassifier) Classify(ctx context.Context, images []float32, views []cxr.View) (train.Outputs, error) {
	codes := make([]int64, len(views))
	for i, v := range views {
		codes[i] = int64(v)
	}
	out, err := c.m.Run(ctx, images, codes)
	if err != nil {
		return train.Outputs{}, err
	}
	return train.Outputs{Embedding: out.Embedding, Logits: out.Logits}, nil
}
