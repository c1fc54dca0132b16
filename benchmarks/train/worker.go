package main

import (
	"context"
	"errors"
	"os"

	"github.com/mvmae/mvmae/benchmarks/made"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
)

// work is the trainer's side: a real run, held between rounds.
func work(ctx context.Context, preset string) error {
	dev, err := train.OpenDevice("cpu")
	if err != nil {
		return err
	}
	folder, err := made.Pack(ctx, paired.WorkDir)
	if err != nil {
		return err
	}
	pack, err := data.Open(folder)
	if err != nil {
		return err
	}
	defer pack.Close()
	cfg := train.Default()
	cfg.Preset, cfg.BatchViews, cfg.Epochs = preset, sizes[preset].batch, 1e5
	cfg.Checkpoint.Minutes = 1e6
	dir, err := os.MkdirTemp(paired.WorkDir, "run")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run, err := train.CreateRun(dir, train.RunInfo{Kind: "pretrain", Data: folder, DataDigest: pack.Digest(), Preprocessing: pack.Recipe.String()}, cfg)
	if err != nil {
		return err
	}
	// Batches are full but for one in thousands: two studies of three have one view, and eight larger ones may wait.
	w := paired.Worker{PerRound: sizes[preset].steps, Amount: float64(sizes[preset].steps * cfg.BatchViews)}
	err = train.Pretrain(ctx, dev, run, pack, func(train.Status) {
		if !w.Done() {
			os.RemoveAll(dir)
			os.Exit(0) // without the checkpoint that an interrupted run leaves
		}
	})
	if errors.Is(err, train.ErrInterrupted) {
		return nil
	}
	return err
}
