package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// heldOut are the studies of a pack that no training saw, for the images' size of a run.
type heldOut struct {
	*data.Pack
	size int
}

// openHeldOut opens a pack or, without a name, that of a run, which must not have changed since.
func openHeldOut(run, dir string) (*heldOut, error) {
	var info struct {
		Data   string `json:"data"`
		Digest string `json:"data_sha256"`
	}
	var meta model.Metadata
	doc, err := os.ReadFile(filepath.Join(run, model.RunMetadata))
	if err == nil {
		meta, err = model.ParseMetadata(doc)
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("held-out studies: %w", err), "name the folder of a whole run with --run")
	}
	if dir == "" {
		doc, err := os.ReadFile(filepath.Join(run, "run.json"))
		if err == nil {
			err = json.Unmarshal(doc, &info)
		}
		if err != nil || info.Data == "" {
			return nil, hint.Wrap(fmt.Errorf("held-out studies: %s does not say which pack it was trained on", run), "name it with --data, or write the file unproven with --force")
		}
		dir = info.Data
	}
	pack, err := data.Open(dir)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("held-out studies: %w", err), "where is the pack of the run now? Name it with --data, or write the file unproven with --force")
	}
	switch {
	case info.Digest != "" && pack.Digest() != info.Digest:
		err = hint.Wrap(fmt.Errorf("held-out studies: %s is not the pack that the run was trained on", dir), "is its test split still held out? Then name it with --data")
	case pack.Recipe.String() != meta.Preprocessing:
		err = hint.Wrap(fmt.Errorf("held-out studies: pack %s was made with recipe %s, the model wants %s", dir, pack.Recipe, meta.Preprocessing), "pack again with --recipe %s", meta.Preprocessing)
	default:
		return &heldOut{pack, meta.Spec.ImageSize}, nil
	}
	pack.Close()
	return nil, err
}

// studies are the labelled studies of validation and test: two precisions of one model are compared, and neither was trained on
// either.
func (h *heldOut) studies() *export.HeldOut {
	out := &export.HeldOut{Image: func(image int, dst []float32) { cxr.Input(h.Pixels(image), h.size, dst) }}
	for _, i := range append(h.StudiesOf(data.Validate), h.StudiesOf(data.Test)...) {
		s := h.Studies[i]
		if s.Labels == model.AbsentLabels() {
			continue
		}
		study := export.HeldOutStudy{Patient: s.Dataset + "/" + s.Patient, Labels: s.Labels, Images: s.Images}
		for _, image := range s.Images {
			study.Views = append(study.Views, int64(h.Images[image].View))
		}
		out.Studies = append(out.Studies, study)
	}
	return out
}
