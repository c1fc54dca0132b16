package train

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// parityImages is how many held-out inputs a run leaves with their logits, for the exporter to reproduce.
const parityImages = 64

// finish evaluates a classifier and leaves in its run folder what makes it a servable model.
func finish(ctx context.Context, c *XLAClassifier, params model.Tensors, run *Run, pack *data.Pack, stats model.EmbeddingStats) (eval.Report, error) {
	cfg := run.Config.Probe
	rule, err := fuse.ParseRule(cfg.Fusion)
	if err != nil {
		return eval.Report{}, err
	}
	rep, err := EvaluatePack(ctx, c, pack, eval.Options{Rule: rule, Replicates: cfg.Replicates, Seed: run.Config.Seed}, func(int) {})
	if err != nil {
		return rep, err
	}
	calibration, err := json.Marshal(fuse.Calibration{Kind: fuse.NoCalibration})
	if err != nil {
		return rep, err
	}
	thresholds, method := rep.Thresholds(), run.Config.Method
	if run.Info.Kind == "supervised" {
		method = "supervised"
	}
	meta := model.Metadata{
		FormatVersion: model.FormatVersion, Name: "mvmae-" + c.spec.Preset, Version: run.Info.ID, Spec: c.spec, Labels: model.Labels[:],
		Preprocessing: pack.Recipe.String(), Fusion: string(rule), Thresholds: thresholds[:], Calibration: calibration,
		RunID: run.Info.ID, Method: method, Datasets: datasetCounts(pack), ViewEvidence: pack.Manifest.Evidence,
		Embedding: stats, Licence: "Apache-2.0", IntendedUse: model.IntendedUse,
	}
	if err := leaveParity(ctx, c, run, pack); err != nil {
		return rep, err
	}
	err = model.WriteSafetensors(run.path(model.RunCheckpoint), params, map[string]string{"run_id": run.Info.ID})
	if err != nil {
		return rep, err
	}
	if err := run.WriteJSON("eval.json", rep); err != nil {
		return rep, err
	}
	return rep, run.WriteJSON(model.RunMetadata, meta) // last: a folder with this file is a whole model
}

// EvaluatePack classifies the validation and test studies of a pack, tunes thresholds on the one and reports on the other.
// progress is told of every few images done.
func EvaluatePack(ctx context.Context, c Classifier, pack *data.Pack, opts eval.Options, progress func(done int)) (eval.Report, error) {
	predict := func(split data.Split) ([]eval.Prediction, error) {
		studies := pack.StudiesOf(split)
		out, err := ClassifyPack(ctx, c, pack, ImagesOf(pack, studies), progress)
		if err != nil {
			return nil, err
		}
		return Predictions(pack, studies, out.Logits), nil
	}
	val, err := predict(data.Validate)
	if err != nil {
		return eval.Report{}, err
	}
	test, err := predict(data.Test)
	if err != nil {
		return eval.Report{}, err
	}
	return eval.Evaluate(val, test, opts)
}

// OpenClassifier reads the model that a probe, finetune or supervised run left in its folder.
func OpenClassifier(dev *Device, dir string) (*XLAClassifier, model.Metadata, error) {
	doc, err := os.ReadFile(filepath.Join(dir, model.RunMetadata))
	if err != nil {
		return nil, model.Metadata{}, hint.Wrap(fmt.Errorf("open model: %w", err), `name a folder that "mvmae-train probe", "finetune" or "supervised" wrote, or a file that ends in .onnx`)
	}
	meta, err := model.ParseMetadata(doc)
	if err != nil {
		return nil, meta, fmt.Errorf("open model %s: %w", dir, err)
	}
	params, _, err := model.ReadSafetensors(filepath.Join(dir, model.RunCheckpoint))
	if err != nil {
		return nil, meta, fmt.Errorf("open model: %w", err)
	}
	c, err := NewXLAClassifier(dev, meta.Spec, params)
	if err != nil {
		return nil, meta, fmt.Errorf("open model %s: %w", dir, err)
	}
	return c, meta, nil
}

// leaveParity writes inputs of held-out images with the logits that this trainer computes for them.
func leaveParity(ctx context.Context, c *XLAClassifier, run *Run, pack *data.Pack) error {
	images := ImagesOf(pack, pack.StudiesOf(data.Test))
	images = images[:min(len(images), parityImages)]
	size := c.ImageSize()
	pixels, views := Inputs(pack, images, size)
	out, err := c.Classify(ctx, pixels, views)
	if err != nil {
		return fmt.Errorf("parity: %w", err)
	}
	view, logits := make([]float32, len(images)), make([]float32, 0, len(images)*model.NumLabels)
	for i := range images {
		view[i] = float32(views[i])
		logits = append(logits, out.Logits[i][:]...)
	}
	return model.WriteSafetensors(run.path(model.RunParity), model.Tensors{
		"image":  {Dims: []int{len(images), 1, size, size}, Data: pixels},
		"view":   {Dims: []int{len(images)}, Data: view},
		"logits": {Dims: []int{len(images), model.NumLabels}, Data: logits},
	}, map[string]string{"run_id": run.Info.ID})
}

// datasetCounts is the size of each dataset's training split.
func datasetCounts(pack *data.Pack) map[string]model.Counts {
	out := map[string]model.Counts{}
	patients := map[string]bool{}
	for _, s := range pack.StudiesOf(data.Train) {
		study := pack.Studies[s]
		n := out[study.Dataset]
		n.Studies++
		n.Images += len(study.Images)
		if key := study.Dataset + "/" + study.Patient; !patients[key] {
			patients[key] = true
			n.Patients++
		}
		out[study.Dataset] = n
	}
	return out
}
