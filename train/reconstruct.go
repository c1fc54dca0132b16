package train

import (
	"errors"
	"fmt"
	"image"
	"math"

	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// ErrNoCheckpoint says that a run has not left a checkpoint yet.
var ErrNoCheckpoint = errors.New("no checkpoint yet")

// Reconstruction shows what a pretraining run makes of one held-out study, the same at every checkpoint.
type Reconstruction struct {
	Step int // of the checkpoint
	// Picture has a row for each view and three columns: the image, what the encoder saw of it (the rest is grey), and that with
	// what the decoder put in place of the rest.
	Picture *image.Gray
}

// gap is the width of the lines between the parts of a Reconstruction's picture, pixels.
const gap = 4

// Reconstruct runs the last checkpoint of a pretraining run, which may still be in training.
func Reconstruct(dev *Device, run *Run, pack *data.Pack) (rec Reconstruction, err error) {
	defer recoverGraph(&err)
	if rec, err = reconstruct(dev, run, pack); err != nil {
		err = fmt.Errorf("reconstruct: %w", err)
	}
	return rec, err
}

func reconstruct(dev *Device, run *Run, pack *data.Pack) (Reconstruction, error) {
	if run.Info.Kind != "pretrain" {
		return Reconstruction{}, hint.Wrap(fmt.Errorf("run %s has no decoder", run.Dir), "name a pretraining run")
	}
	spec, err := run.Spec()
	if err != nil {
		return Reconstruction{}, err
	}
	last, err := run.loadCheckpoint()
	if err != nil {
		return Reconstruction{}, err
	}
	if last.tensors == nil {
		return Reconstruction{}, fmt.Errorf("run %s: %w", run.Dir, ErrNoCheckpoint)
	}
	images := pack.Studies[exampleStudy(pack)].Images
	size, n := spec.ImageSize, spec.NumPatches()
	pixels, views := Inputs(pack, images, size)
	visible := run.Config.Visible(n)
	keepOne, restoreOne := mask(newRand(run.Config.Seed, streamPicture, 0), n, visible)
	var view, keep, restore []int32
	for _, v := range views {
		view, keep, restore = append(view, int32(v)), append(keep, keepOne...), append(restore, restoreOne...)
	}

	store, err := newStore(spec.Params(model.PartEncoder, model.PartDecoder), last.tensors)
	if err != nil {
		return Reconstruction{}, fmt.Errorf("checkpoint of %s: %w", run.Dir, err)
	}
	exec, err := gomodel.NewExec(dev.Backend, store, func(_ *gomodel.Scope, in []node) node {
		o := graphOps{store: store, g: in[0].Graph()}
		tokens := model.Encode(o, spec, model.Patchify(o, spec, in[0]), in[1], &model.Visible[node]{Keep: in[2], Count: visible})
		return model.Decode(o, spec, tokens, in[3], in[1], visible)
	})
	if err != nil {
		return Reconstruction{}, err
	}
	v := len(images)
	inputs := []any{
		tensors.FromFlatDataAndDimensions(pixels, v, size, size), tensors.FromFlatDataAndDimensions(view, v),
		tensors.FromFlatDataAndDimensions(keep, v, visible), tensors.FromFlatDataAndDimensions(restore, v, n),
	}
	defer finalize(inputs)
	out, err := exec.Call1(inputs...)
	if err != nil {
		return Reconstruction{}, err
	}
	defer out.FinalizeAll()
	patches, err := tensors.CopyFlatData[float32](out) // [V,N,P*P], normalised
	if err != nil {
		return Reconstruction{}, err
	}
	shown := make([]bool, n)
	for _, p := range keepOne {
		shown[p] = true
	}
	return Reconstruction{last.step, mosaic(spec, pixels, patches, shown, v)}, nil
}

// exampleStudy is the first validation study of several views, or the first of one.
func exampleStudy(pack *data.Pack) int {
	studies := pack.StudiesOf(data.Validate)
	if len(studies) == 0 {
		studies = pack.StudiesOf(data.Train)
	}
	for _, s := range studies {
		if len(pack.Studies[s].Images) > 1 {
			return s
		}
	}
	return studies[0]
}

// mosaic draws a Reconstruction's picture from images [V,S,S] in [0,1] and reconstructed patches [V,N,P*P]; shown says which patches
// the encoder saw.
func mosaic(s model.Spec, pixels, patches []float32, shown []bool, views int) *image.Gray {
	size, p, n := s.ImageSize, s.PatchSize, s.NumPatches()
	img := image.NewGray(image.Rect(0, 0, 3*size+2*gap, views*size+(views-1)*gap))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	const hidden = 128
	for v := range views {
		for y := range size {
			for x := range size {
				patch := y/p*s.Grid() + x/p
				original := grey(float64(pixels[(v*size+y)*size+x]))
				seen, rebuilt := original, original
				if !shown[patch] {
					seen = hidden
					rebuilt = grey(float64(patches[(v*n+patch)*p*p+y%p*p+x%p])*s.PixelStd + s.PixelMean)
				}
				row := img.Pix[(v*(size+gap)+y)*img.Stride:]
				row[x], row[size+gap+x], row[2*(size+gap)+x] = original, seen, rebuilt
			}
		}
	}
	return img
}

// grey is a value in [0,1] as 8 bits; values beyond are cut off.
func grey(x float64) uint8 { return uint8(math.Round(255 * min(max(x, 0), 1))) }
