package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// cacheFlag says where embeddings of ONNX encoders are kept.
type cacheFlag struct {
	Cache string `help:"Folder that keeps what an ONNX encoder says of a pack's images (default: mvmae in the user's cache)." env:"MVMAE_CACHE" placeholder:"DIR"`
}

// encoderFlags choose an encoder that this project did not train.
type encoderFlags struct {
	Encoder string `help:"ONNX image encoder to use, with its notes beside it in FILE.onnx.toml." type:"existingfile" placeholder:"FILE.onnx" xor:"encoder"`
	cacheFlag
}

// openEncoder reads an ONNX encoder and makes it ready to run. It lives as long as the process.
func openEncoder(path, device, cache string) (train.Encoder, error) {
	e, err := export.OpenEncoder(path)
	if err != nil {
		return train.Encoder{}, err
	}
	m, err := e.Run(ort.Options{Device: device, Threads: 1})
	if err != nil {
		return train.Encoder{}, err
	}
	if cache == "" {
		if user, err := os.UserCacheDir(); err == nil {
			cache = filepath.Join(user, "mvmae")
		}
	}
	return train.Encoder{Classifier: parallel{onnxClassifier{m}}, File: e.File, Spec: e.Spec(), Cache: cache}, nil
}

// probeWith is probe on an ONNX encoder.
func probeWith(e train.Encoder) fitter {
	return func(ctx context.Context, out *cli.Output, dev *train.Device, run *train.Run, pack *data.Pack) (eval.Report, error) {
		return showProbe(out, func(report func(train.ProbeStatus)) (eval.Report, error) {
			return train.ProbeEncoder(ctx, dev, run, pack, e, report)
		})
	}
}

// parallel runs a model on a few images at a time, one run for each core: as fast as larger batches on a CPU, in a fraction
// of their memory. A GPU gets more at once.
type parallel struct{ onnxClassifier }

const (
	imagesPerRun    = 4
	imagesPerGPURun = 32
)

func (c parallel) Classify(ctx context.Context, images []float32, views []cxr.View) (train.Outputs, error) {
	n, pixels := len(views), c.ImageSize()*c.ImageSize()
	size, runs := imagesPerRun, runtime.GOMAXPROCS(0)
	if c.m.Device() != ort.CPU {
		size, runs = imagesPerGPURun, 1
	}
	parts := make([]train.Outputs, (n+size-1)/size)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runs)
	for i := range parts {
		from, to := i*size, min((i+1)*size, n)
		group.Go(func() (err error) {
			parts[i], err = c.onnxClassifier.Classify(ctx, images[from*pixels:to*pixels], views[from:to])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return train.Outputs{}, err
	}
	var out train.Outputs
	for _, p := range parts {
		out.Embedding, out.Logits = append(out.Embedding, p.Embedding...), append(out.Logits, p.Logits...)
	}
	return out, nil
}
