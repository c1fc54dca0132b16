// Package made makes the data of benchmarks: what does not matter is noise, and always the same.
package made

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/train/data"
)

// ViewsPerStudy is the mean of the four datasets of the MVMAE paper, and of the pack made here.
const ViewsPerStudy = 1.4

// Pack packs 200 studies of noise in a folder, once, and returns the pack's: 13 of 20 have one view, 6 two, 1 three.
func Pack(ctx context.Context, dir string) (string, error) {
	pack := filepath.Join(dir, "pack")
	if _, err := os.Stat(pack); err == nil {
		return pack, nil
	}
	root, err := filepath.Abs(filepath.Join(dir, "png"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
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
			name := fmt.Sprintf("%d_%d.png", s, v)
			size, err := noise(rng, filepath.Join(root, name))
			if err != nil {
				return "", err
			}
			index.Images = append(index.Images, data.Image{
				Dataset: "noise", PatientID: fmt.Sprint("p", s), StudyID: fmt.Sprint("s", s), ImageID: name, Path: name, Bytes: size,
				View: cxr.View(v), Evidence: cxr.EvidenceTable, Split: data.Train,
			})
		}
	}
	file := filepath.Join(dir, "noise.parquet")
	if err := data.WriteIndex(file, index); err != nil {
		return "", err
	}
	_, err = data.MakePack(ctx, []string{file}, data.PackOptions{Out: pack, Recipe: cxr.Mimic})
	return pack, err
}

// noise writes a picture and returns the file's size.
func noise(rng *rand.Rand, path string) (int64, error) {
	picture := image.NewGray(image.Rect(0, 0, cxr.StoredSize, cxr.StoredSize))
	for i := range picture.Pix {
		picture.Pix[i] = byte(rng.Uint32())
	}
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		return 0, err
	}
	return int64(file.Len()), os.WriteFile(path, file.Bytes(), 0o644)
}

// Model writes a network that was never trained, once: graph of a preset, for images of a recipe.
func Model(path, preset string, recipe cxr.Recipe, graph export.Graph) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	spec, err := model.Preset(preset)
	if err != nil {
		return err
	}
	metadata := exporttest.Metadata(spec)
	metadata.Preprocessing = recipe.String()
	if metadata.Calibration, err = json.Marshal(fuse.Calibration{Kind: fuse.NoCalibration}); err != nil {
		return err
	}
	file, err := graph.Build(metadata, exporttest.Weights(spec))
	if err != nil {
		return err
	}
	doc, err := proto.Marshal(file)
	if err != nil {
		return err
	}
	return model.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(doc)
		return err
	})
}
