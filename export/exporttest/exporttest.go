// Package exporttest makes networks that were never trained, and run folders of them, for the tests of whatever reads model
// files.
package exporttest

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mvmae/mvmae/model"
)

// Spec is that of a preset. "nano" runs in well under a millisecond.
func Spec(tb testing.TB, preset string) model.Spec {
	tb.Helper()
	s, err := model.Preset(preset)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// Metadata are complete metadata of a network: every threshold is one half, every embedding is where it should be.
func Metadata(s model.Spec) model.Metadata {
	m := model.Metadata{
		FormatVersion: model.FormatVersion, Name: "test", Version: "1", Spec: s, Labels: model.Labels[:], Preprocessing: "mimic",
		Fusion: "mean_probability", Calibration: json.RawMessage(`{"kind":"none"}`), RunID: "run", Kind: "probe",
		Encoder:      model.Encoder{Method: "random"},
		Datasets:     map[string]model.Counts{"phantom": {Patients: 1, Studies: 2, Images: 3}},
		ViewEvidence: []string{"view_position"}, Licence: "Apache-2.0", IntendedUse: model.IntendedUse,
		Embedding: model.EmbeddingStats{Mean: make([]float32, s.Width), Std: slices.Repeat([]float32{1}, s.Width)},
	}
	for range m.Labels {
		m.Thresholds = append(m.Thresholds, 0.5)
	}
	return m
}

// Weights are the first values of an encoder and head: always the same.
func Weights(s model.Spec) model.Tensors {
	weights := model.Tensors{}
	for _, p := range s.Params(model.PartEncoder, model.PartHead) {
		weights[p.Name] = model.Tensor{Dims: p.Dims, Data: p.Initialise(1)}
	}
	return weights
}

// Inputs are n images [n*S*S] of noise in [0,1], always the same, and views of every kind.
func Inputs(n int, s model.Spec) (images []float32, views []int64) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range n * s.ImageSize * s.ImageSize {
		images = append(images, rng.Float32())
	}
	for i := range n {
		views = append(views, int64(i%model.NumViews))
	}
	return images, views
}

// ParityImages is the number of images in the parity file of Run.
const ParityImages = 11

// Run makes the folder of a run of Metadata and Weights. The logits in its parity file are those that classify gives.
func Run(tb testing.TB, s model.Spec, classify func(images []float32, views []int64) [][model.NumLabels]float32) string {
	tb.Helper()
	const n = ParityImages
	images, views := Inputs(n, s)
	var codes, logits []float32
	for _, v := range views {
		codes = append(codes, float32(v))
	}
	for _, row := range classify(images, views) {
		logits = append(logits, row[:]...)
	}
	dir := tb.TempDir()
	write := func(name string, tensors model.Tensors) {
		if err := model.WriteSafetensors(filepath.Join(dir, name), tensors, nil); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, filepath.Dir(model.RunCheckpoint)), 0o755); err != nil {
		tb.Fatal(err)
	}
	write(model.RunCheckpoint, Weights(s))
	write(model.RunParity, model.Tensors{
		"image": {Dims: []int{n, 1, s.ImageSize, s.ImageSize}, Data: images}, "view": {Dims: []int{n}, Data: codes},
		"logits": {Dims: []int{n, model.NumLabels}, Data: logits},
	})
	doc, err := json.Marshal(Metadata(s))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, model.RunMetadata), doc, 0o644)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}
