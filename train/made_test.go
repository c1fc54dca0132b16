package train

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// makePack packs n made studies of one, two or three 32-pixel views. A positive study of label l has a bright square in
// place l of a 4x4 grid, in every view. changes may alter what the index says of an image.
func makePack(t testing.TB, n int, changes ...func(*data.Image)) *data.Pack {
	t.Helper()
	root := t.TempDir()
	index := &data.Index{Dataset: "made", Root: root}
	for s := range n {
		rng := rand.New(rand.NewPCG(uint64(s), 5))
		var labels model.LabelSet
		for l := range labels {
			if rng.IntN(3) == 0 {
				labels[l] = model.Positive
			}
		}
		split := []data.Split{data.Train, data.Train, data.Train, data.Validate, data.Test}[s%5]
		for v := range 1 + s%3 {
			name := fmt.Sprintf("%d_%d.png", s, v)
			body := picture(t, rng, labels)
			if err := os.WriteFile(filepath.Join(root, name), body, 0o644); err != nil {
				t.Fatal(err)
			}
			img := data.Image{
				Dataset: "made", PatientID: fmt.Sprint("p", s), StudyID: fmt.Sprint("s", s), ImageID: name, Path: name, Bytes: int64(len(body)),
				View: cxr.View(v), Evidence: cxr.EvidenceTable, Split: split, Labels: labels,
			}
			for _, change := range changes {
				change(&img)
			}
			index.Images = append(index.Images, img)
		}
	}
	file, out := filepath.Join(t.TempDir(), "made.parquet"), filepath.Join(t.TempDir(), "pack")
	if err := data.WriteIndex(file, index); err != nil {
		t.Fatal(err)
	}
	recipe, err := cxr.ParseRecipe("mimic")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.MakePack(t.Context(), []string{file}, data.PackOptions{Out: out, Recipe: recipe}); err != nil {
		t.Fatal(err)
	}
	pack, err := data.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pack.Close() })
	return pack
}

func picture(t testing.TB, rng *rand.Rand, labels model.LabelSet) []byte {
	img := image.NewGray(image.Rect(0, 0, 32, 32))
	for i := range img.Pix {
		place := i/32/8*4 + i%32/8
		img.Pix[i] = byte(60 + rng.IntN(20))
		if place < len(labels) && labels[place] == model.Positive {
			img.Pix[i] += 80
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// testConfig is a run of seconds.
func testConfig() Config {
	cfg := Default()
	cfg.Preset, cfg.BatchViews, cfg.Epochs = "nano", 12, 25
	cfg.Optim.WarmupEpochs, cfg.Optim.BaseLR = 1, 0.05
	cfg.Probe.Epochs, cfg.Probe.WarmupEpochs, cfg.Probe.BaseLR, cfg.Probe.Replicates = 20, 1, 0.3, 50
	return cfg
}

// newRun makes the run folder of a test.
func newRun(t testing.TB, kind, init string, pack *data.Pack, cfg Config) *Run {
	t.Helper()
	run, err := CreateRun(filepath.Join(t.TempDir(), kind), RunInfo{Kind: kind, Data: pack.Dir(), DataDigest: pack.Digest(), Preprocessing: pack.Recipe.String(), Init: init}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// logged reads the lines of a run's metrics.jsonl, of which there is at least one.
func logged[M any](t testing.TB, run *Run) (lines []M) {
	t.Helper()
	log, err := os.ReadFile(run.path(metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		var m M
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, m)
	}
	if len(lines) == 0 {
		t.Fatalf("%s of run %s is empty", metricsFile, run.Info.Kind)
	}
	return lines
}
