package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// attentionImages is how many of them have their attention rollout left too: it takes a graph of its own.
const attentionImages = 4

// parityImages is how many held-out inputs a run leaves with their logits, for the exporter to reproduce.
const parityImages = 64

// evalOptions is how a run's classifier is evaluated.
func evalOptions(run *Run, pack *data.Pack) (eval.Options, error) {
	c := run.Config.Probe
	rule, err := fuse.ParseRule(c.Fusion)
	if err != nil {
		return eval.Options{}, err
	}
	tune, err := metrics.ParseThresholdRule(c.Threshold)
	return eval.Options{
		Rule: rule, Replicates: c.Replicates, Seed: run.Config.Seed, Calibrate: c.Calibration, Tune: tune, Untrained: untrained(pack),
	}, err
}

// untrained lists the labels that no training study knows: nothing can be learned about them.
func untrained(pack *data.Pack) (labels []string) {
	var known [model.NumLabels]bool
	for _, s := range pack.StudiesOf(data.Train) {
		for l, state := range pack.Studies[s].Labels {
			known[l] = known[l] || state != model.Absent
		}
	}
	for l, k := range known {
		if !k {
			labels = append(labels, model.Labels[l])
		}
	}
	return labels
}

// silentLogit is the logit of an untrained label, whatever the image: a probability of 2e-9.
const silentLogit = -20

// silence makes a head say the same of every image for labels that were not trained: left alone, their random first weights
// would pass for findings.
func silence(head model.Tensors, labels []string) {
	w, b := head["head.weight"], head["head.bias"].Data
	width := w.Dims[1]
	for _, name := range labels {
		l := model.LabelIndex(name)
		clear(w.Data[l*width : (l+1)*width])
		b[l] = silentLogit
	}
}

// leavePredictions writes what the classifier says of the test studies, under names that tell nobody who they are of.
func (r *Run) leavePredictions(test []eval.Prediction) error {
	named := slices.Clone(test)
	for i, p := range named {
		named[i].Patient, named[i].Study = data.Hashed(p.Person.Dataset, p.Patient), data.Hashed(p.Person.Dataset, p.Study)
	}
	doc, err := json.Marshal(named)
	if err != nil {
		return err
	}
	return r.write(predictionsFile, doc)
}

// Predictions are what the run's classifier says of its test studies; none where the folder has none.
func (r *Run) Predictions() (test []eval.Prediction, err error) {
	doc, err := os.ReadFile(r.path(predictionsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(doc, &test)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.path(predictionsFile), err)
	}
	return test, nil
}

// finish leaves in a run's folder what makes its classifier a servable model.
func finish(ctx context.Context, c Classifier, spec model.Spec, params model.Tensors, run *Run, pack *data.Pack, stats model.EmbeddingStats, rep eval.Report) error {
	calibration, err := json.Marshal(rep.Calibration.Calibration)
	if err != nil {
		return err
	}
	encoder, err := run.encoder()
	if err != nil {
		return err
	}
	thresholds, silent := rep.Thresholds(), untrained(pack)
	for _, name := range silent {
		thresholds[model.LabelIndex(name)] = 1
	}
	name := "mvmae-" + spec.Preset
	if e := run.Info.Encoder; e != nil {
		name = strings.TrimSuffix(filepath.Base(e.Path), filepath.Ext(e.Path)) + "-probe"
	}
	meta := model.Metadata{
		FormatVersion: model.FormatVersion, Name: name, Version: run.Info.ID, Spec: spec, Labels: model.Labels[:],
		Preprocessing: pack.Recipe.String(), Fusion: run.Config.Probe.Fusion, Thresholds: thresholds[:], Calibration: calibration, ThresholdRule: rep.ThresholdRule,
		UntrainedLabels: silent, RunID: run.Info.ID, Kind: run.Info.Kind, Encoder: encoder, Datasets: datasetCounts(pack), ViewEvidence: pack.Manifest.Evidence,
		Embedding: stats, Licence: "Apache-2.0", IntendedUse: model.IntendedUse,
	}
	if err := leaveParity(ctx, c, run, pack); err != nil {
		return err
	}
	err = model.WriteSafetensors(run.path(model.RunCheckpoint), params, map[string]string{"run_id": run.Info.ID})
	if err != nil {
		return err
	}
	if err := run.WriteJSON(model.RunEvaluation, rep); err != nil {
		return err
	}
	if run.Info.Encoder != nil {
		if err := run.WriteJSON(model.RunEncoder, run.Info.Encoder); err != nil {
			return err
		}
	}
	return run.WriteJSON(model.RunMetadata, meta) // last: a folder with this file is a whole model
}

// EvaluatePack reports on the labelled test studies of a pack, at thresholds tuned on the labelled validation studies.
func EvaluatePack(ctx context.Context, c Classifier, pack *data.Pack, opts eval.Options) (eval.Report, error) {
	var sets [2][]eval.Prediction
	for i, split := range []data.Split{data.Validate, data.Test} {
		var err error
		if sets[i], err = PredictPack(ctx, c, pack, split, func(int) {}); err != nil {
			return eval.Report{}, err
		}
	}
	return eval.Evaluate(sets[0], sets[1], opts)
}

// PredictPack classifies the labelled studies of a pack's split. progress is told of every few images done.
func PredictPack(ctx context.Context, c Classifier, pack *data.Pack, split data.Split, progress func(done int)) ([]eval.Prediction, error) {
	studies, err := labelled(pack, split)
	if err != nil {
		return nil, err
	}
	out, err := ClassifyPack(ctx, c, pack, ImagesOf(pack, studies), progress)
	if err != nil {
		return nil, err
	}
	return Predictions(pack, studies, out.Logits), nil
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
	if meta.Spec.Foreign() {
		return nil, meta, hint.Wrap(fmt.Errorf("open model %s: its encoder is an ONNX file", dir), `make one file of both with "mvmae-export --run %s model.onnx", and name that`, dir)
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
func leaveParity(ctx context.Context, c Classifier, run *Run, pack *data.Pack) error {
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
	parity := model.Tensors{
		"image":  {Dims: []int{len(images), 1, size, size}, Data: pixels},
		"view":   {Dims: []int{len(images)}, Data: view},
		"logits": {Dims: []int{len(images), model.NumLabels}, Data: logits},
	}
	if own, ok := c.(*XLAClassifier); ok { // an encoder of an ONNX file shows no attention
		attention, err := own.attention(pixels, views, attentionImages)
		if err != nil {
			return fmt.Errorf("parity: %w", err)
		}
		s := own.spec
		parity["attention"] = model.Tensor{Dims: []int{len(attention) / s.NumPatches(), s.Grid(), s.Grid()}, Data: attention}
	}
	return model.WriteSafetensors(run.path(model.RunParity), parity, map[string]string{"run_id": run.Info.ID})
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
		for _, image := range study.Images {
			switch pack.Images[image].View {
			case cxr.Frontal:
				n.Frontal++
			case cxr.Lateral:
				n.Lateral++
			default:
				n.Unknown++
			}
		}
		if key := study.Dataset + "/" + study.Patient; !patients[key] {
			patients[key] = true
			n.Patients++
		}
		out[study.Dataset] = n
	}
	return out
}
