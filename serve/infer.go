package serve

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve/inference"
)

// Infer runs images [n*S*S] that are prepared already, as cxr.Input makes them, with one view code each (model.NumViews of
// them). They wait for cores and batches like the views of studies.
func (e *Engine) Infer(ctx context.Context, images []float32, views []int64) (*ort.Output, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.requests.Done()
	size := e.metadata.Spec.ImageSize * e.metadata.Spec.ImageSize
	outputs := make([]*ort.Output, len(views))
	group, running := errgroup.WithContext(ctx)
	for i, code := range views {
		group.Go(func() (err error) {
			v := &view{image: &cxr.Image{View: cxr.View(code)}}
			outputs[i], err = e.runInput(running, v, func() []float32 { return images[i*size:][:size] })
			if err == nil && !fuse.Finite(outputs[i].Logits[0]) {
				err = errNotFinite
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := &ort.Output{}
	for _, o := range outputs {
		all.Logits, all.Probability = append(all.Logits, o.Logits...), append(all.Probability, o.Probability...)
		all.Embedding, all.Attention = append(all.Embedding, o.Embedding...), append(all.Attention, o.Attention...)
	}
	return all, nil
}

var errNotFinite = errors.New("run the model: it gave a logit that is not a finite number")

// outputs are the model's outputs, as the protocol describes them.
func (e *Engine) outputs() []InferenceSpec {
	s := e.metadata.Spec
	list := []InferenceSpec{
		{"logits", inference.FP32, []int64{-1, model.NumLabels}}, {"probability", inference.FP32, []int64{-1, model.NumLabels}},
		{"embedding", inference.FP32, []int64{-1, int64(s.Width)}},
	}
	if e.metadata.Attention {
		list = append(list, InferenceSpec{"attention", inference.FP32, []int64{-1, int64(s.Grid()), int64(s.Grid())}})
	}
	return list
}

// tensor is one of the outputs for so many images.
func (o InferenceSpec) tensor(out *ort.Output) inference.Tensor {
	t := inference.Tensor{Name: o.Name, Datatype: o.Datatype, Shape: slices.Clone(o.Shape)}
	t.Shape[0] = int64(len(out.Logits))
	flat := func(rows [][model.NumLabels]float32) (all []float32) {
		for _, r := range rows {
			all = append(all, r[:]...)
		}
		return all
	}
	switch o.Name {
	case "logits":
		t.Floats = flat(out.Logits)
	case "probability":
		t.Floats = flat(out.Probability)
	case "embedding":
		t.Floats = slices.Concat(out.Embedding...)
	case "attention":
		t.Floats = slices.Concat(out.Attention...)
	}
	return t
}
