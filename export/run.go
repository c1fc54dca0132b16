package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// RunsEnv names the environment variable for the folder that holds the run folders; without it that is ./runs.
const RunsEnv = "MVMAE_RUNS"

// ErrNoRun says that there is no run that could be exported.
var ErrNoRun = errors.New("no run to export")

const trainCure = `"mvmae-train probe" makes a run that can be exported; name its folder with --run`

// DefaultRun returns the folder of the newest run that can be exported: the one whose model.RunMetadata was written last.
func DefaultRun() (string, error) {
	root := os.Getenv(RunsEnv)
	if root == "" {
		root = "runs"
	}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	newest, at := "", time.Time{}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(root, e.Name(), model.RunMetadata))
		if err == nil && (newest == "" || info.ModTime().After(at)) {
			newest, at = filepath.Join(root, e.Name()), info.ModTime()
		}
	}
	if newest == "" {
		return "", hint.Wrap(fmt.Errorf("%w in %s", ErrNoRun, root), trainCure+", or the folder of runs with "+RunsEnv)
	}
	return newest, nil
}

// run is what a run folder says of its classifier.
type run struct {
	metadata model.Metadata
	weights  model.Tensors
	parity   parity
	encoder  *ONNXEncoder // of a probe on one; nil for a network of this project
	report   []byte       // the run's evaluation, as JSON; nil if it left none
}

// parity are inputs with the logits that the trainer got for them.
type parity struct {
	path   string
	images []float32                  // [n*S*S]
	views  []int64                    // [n]
	logits [][model.NumLabels]float32 // [n]
	// attention is the rollout of the first images, [g*g] each, as many as the trainer left.
	attention [][]float32
}

func readRun(dir string) (*run, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, hint.Wrap(fmt.Errorf("run %s: no such folder", dir), trainCure)
	}
	var r run
	path := filepath.Join(dir, model.RunMetadata)
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(err)
	}
	if r.metadata, err = model.ParseMetadata(doc); err != nil {
		return nil, hint.Wrap(fmt.Errorf("%s: %w", path, err), `run "mvmae-train probe" again`)
	}
	if r.metadata.Spec.Foreign() {
		if r.encoder, err = readEncoder(filepath.Join(dir, model.RunEncoder)); err != nil {
			return nil, err
		}
	}

	path = filepath.Join(dir, model.RunCheckpoint)
	if r.metadata.CheckpointSHA256, err = model.FileDigest(path); err != nil {
		return nil, unreadable(err)
	}
	if r.weights, _, err = model.ReadSafetensors(path); err != nil {
		return nil, unreadable(err)
	}
	if err := r.weights.CheckParams(r.metadata.Spec.Params(model.PartEncoder, model.PartHead)); err != nil {
		return nil, hint.Wrap(fmt.Errorf("%s does not fit %s: %w", path, model.RunMetadata, err), "are both of the same run?")
	}
	if r.report, err = os.ReadFile(filepath.Join(dir, model.RunEvaluation)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	r.parity, err = readParity(filepath.Join(dir, model.RunParity), r.metadata.Spec)
	return &r, err
}

// readEncoder opens the ONNX encoder that a probe's head belongs to.
func readEncoder(path string) (*ONNXEncoder, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(err)
	}
	var want model.EncoderFile
	if err := json.Unmarshal(doc, &want); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	const cure = "put the encoder and its notes back as they were for the probe"
	e, err := OpenEncoder(want.Path)
	if err != nil {
		return nil, hint.Wrap(err, cure)
	}
	if e.File != want {
		return nil, hint.Wrap(fmt.Errorf("encoder %s is not the one that the head was trained on", want.Path), cure)
	}
	return e, nil
}

func readParity(path string, s model.Spec) (parity, error) {
	tensors, _, err := model.ReadSafetensors(path)
	if err != nil {
		return parity{}, unreadable(err)
	}
	image, view, logits := tensors["image"], tensors["view"], tensors["logits"]
	n := len(view.Data)
	if n < 2 || len(image.Data) != n*s.ImageSize*s.ImageSize || len(logits.Data) != n*model.NumLabels {
		return parity{}, hint.Wrap(fmt.Errorf("%s holds image %v, view %v, logits %v: want [n,1,%d,%d], [n], [n,%d] with n at least 2",
			path, image.Dims, view.Dims, logits.Dims, s.ImageSize, s.ImageSize, model.NumLabels), "is it of this run?")
	}
	p := parity{path: path, images: image.Data}
	for i := range n {
		p.views = append(p.views, int64(view.Data[i]))
		p.logits = append(p.logits, [model.NumLabels]float32(logits.Data[i*model.NumLabels:]))
	}
	attention := tensors["attention"].Data
	if len(attention)%s.NumPatches() != 0 {
		return parity{}, fmt.Errorf("%s holds attention %v: want [k,%d,%d]", path, tensors["attention"].Dims, s.Grid(), s.Grid())
	}
	p.attention = slices.Collect(slices.Chunk(attention, s.NumPatches()))
	return p, nil
}

// unreadable adds the cure to an error of reading a file of a run.
func unreadable(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return hint.Wrap(fmt.Errorf("the run is not complete: %w", err), trainCure)
	}
	if errors.Is(err, model.ErrCorrupt) {
		return hint.Wrap(err, "copy the run folder again, or train it again")
	}
	return err
}
