package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve"
)

// startWorker starts this program as a contender.
func startWorker(ctx context.Context, kind, preset string, precision export.Precision, clients, studies int) (*paired.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return paired.Start(ctx, self, "-worker", kind, "-preset", preset, "-precisions", string(precision),
		"-clients", strconv.Itoa(clients), "-studies", strconv.Itoa(studies))
}

// work is a contender without HTTP. "bare" runs the views of a study side by side on as many threads as there are cores; "engine"
// is the server's engine, given the studies of the overhead measurement.
func work(ctx context.Context, kind, modelFile string, clients, studies int) error {
	var study func(context.Context) error
	switch kind {
	case "bare":
		m, err := ort.Open(modelFile, ort.Options{})
		if err != nil {
			return err
		}
		defer m.Close()
		images, _ := exporttest.Inputs(1, m.Metadata().Spec)
		cores := newCores()
		study = func(ctx context.Context) error {
			return cores.both(func(view int) error {
				_, err := m.Run(ctx, images, []int64{int64(view)})
				return err
			})
		}
	case "engine":
		e, err := serve.Open(modelFile, serve.Options{})
		if err != nil {
			return err
		}
		defer e.Close()
		files, err := load.Files(1, overheadSide)
		if err != nil {
			return err
		}
		study = func(ctx context.Context) error {
			_, err := e.Classify(ctx, serve.Uploads(serve.Upload{Name: "0.dcm", Data: files[0]}))
			return err
		}
	default:
		return fmt.Errorf("no worker %q", kind)
	}
	w := paired.Worker{PerRound: 1, Amount: float64(studies)}
	for {
		var err error
		if w.Extra, err = timed(ctx, clients, studies, study); err != nil {
			return err
		}
		if w.Extra["memory"], err = memoryMB(os.Getpid()); err != nil {
			return err
		}
		if !w.Done() {
			return nil
		}
	}
}
