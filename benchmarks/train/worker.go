package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
)

// viewsPerStudy is the mean of the four datasets of the MVMAE paper, and of the pack made here.
const viewsPerStudy = 1.4

func packDir() string { return filepath.Join(paired.WorkDir, "pack") }

// makePack packs 200 studies of noise, once: 13 of 20 have one view, 6 two, 1 three.
func makePack(ctx context.Context) error {
	if _, err := os.Stat(packDir()); err == nil {
		return nil
	}
	root, err := filepath.Abs(filepath.Join(paired.WorkDir, "png"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	index := &data.Index{Dataset: "noise", Root: root}
	rng := rand.New(rand.NewPCG(1, 1))
	for s := range 200 {
		views := 1
		if s%20 >= 13 {
			views = 2
		}
		if s%20 == 19 {
			views = 3
		}
		for v := range views {
			picture := image.NewGray(image.Rect(0, 0, cxr.StoredSize, cxr.StoredSize))
			for i := range picture.Pix {
				picture.Pix[i] = byte(rng.Uint32())
			}
			var file bytes.Buffer
			if err := png.Encode(&file, picture); err != nil {
				return err
			}
			name := fmt.Sprintf("%d_%d.png", s, v)
			if err := os.WriteFile(filepath.Join(root, name), file.Bytes(), 0o644); err != nil {
				return err
			}
			index.Images = append(index.Images, data.Image{
				Dataset: "noise", PatientID: fmt.Sprint("p", s), StudyID: fmt.Sprint("s", s), ImageID: name, Path: name, Bytes: int64(file.Len()),
				View: cxr.View(v), Evidence: cxr.EvidenceTable, Split: data.Train,
			})
		}
	}
	file := filepath.Join(paired.WorkDir, "noise.parquet")
	if err := data.WriteIndex(file, index); err != nil {
		return err
	}
	_, err = data.MakePack(ctx, []string{file}, data.PackOptions{Out: packDir(), Recipe: cxr.Mimic})
	return err
}

// work is the trainer's side: a real run, held between rounds.
func work(ctx context.Context, preset string) error {
	dev, err := train.OpenDevice("cpu")
	if err != nil {
		return err
	}
	pack, err := data.Open(packDir())
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
	run, err := train.CreateRun(dir, train.RunInfo{Kind: "pretrain", Data: packDir(), DataDigest: pack.Digest(), Preprocessing: pack.Recipe.String()}, cfg)
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
