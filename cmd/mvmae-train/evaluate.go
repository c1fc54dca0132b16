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
	Against    string `help:"A second model to compare with on the same studies: paired differences with their intervals." type:"path" placeholder:"RUN|model.onnx"`
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
	test, opts, err := c.predict(ctx, out, pack, c.Model)
	if err != nil {
		return err
	}
	rep, err := eval.Evaluate(nil, test, opts)
	if err != nil {
		return err
	}
	if c.Against != "" {
		other, otherOpts, err := c.predict(ctx, out, pack, c.Against)
		if err != nil {
			return err
		}
		against, err := eval.Compare(test, other, opts, otherOpts)
		if err != nil {
			return err
		}
		against.Model = c.Against
		rep.Against = &against
	}
	out.Printf("%s", rep.Table())
	return out.Result(rep)
}

// predict is what a model says of the test studies, and how it wants that to be read.
func (c *EvalCmd) predict(ctx context.Context, out *cli.Output, pack *data.Pack, path string) ([]eval.Prediction, eval.Options, error) {
	m, meta, err := c.open(out, path)
	if err != nil {
		return nil, eval.Options{}, err
	}
	if got, want := pack.Recipe.String(), meta.Preprocessing; got != want {
		return nil, eval.Options{}, hint.Wrap(fmt.Errorf("pack %s was made with recipe %s, the model wants %s", c.Data, got, want), "pack again with --recipe %s", want)
	}
	rule, err := fuse.ParseRule(meta.Fusion)
	if err != nil {
		return nil, eval.Options{}, err
	}
	calibration, err := fuse.ParseCalibration(meta.Calibration)
	if err != nil {
		return nil, eval.Options{}, err
	}
	thresholds := metrics.Thresholds(meta.Thresholds)
	progress := out.Progress("eval (images)", int64(len(train.ImagesOf(pack, pack.StudiesOf(data.Test)))))
	test, err := train.PredictPack(ctx, m, pack, data.Test, func(n int) { progress.Add(int64(n)) })
	progress.Done()
	return test, eval.Options{
		Rule: rule, Replicates: c.Replicates, Seed: c.Seed, OneView: c.Views == "1", Thresholds: &thresholds, Calibration: calibration,
	}, err
}

// open reads a model, which lives as long as the process.
func (c *EvalCmd) open(out *cli.Output, path string) (train.Classifier, model.Metadata, error) {
	if strings.HasSuffix(path, ".onnx") {
		m, err := ort.Open(path, ort.Options{Device: c.Device, Threads: runtime.NumCPU()})
		if err != nil {
			return nil, model.Metadata{}, err
		}
		return onnxClassifier{m}, m.Metadata(), nil
	}
	dev, err := c.deviceFlag.open(out)
	if err != nil {
		return nil, model.Metadata{}, err
	}
	return train.OpenClassifier(dev, path)
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
