package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// describer runs a checkpoint's encoder on whole images and its text decoder on what that makes of them.
type describer struct {
	*writer
	spec           model.Spec
	encode, decode *gomodel.Exec
}

func newDescriber(dev *Device, run *Run, pack *data.Pack) (*describer, int, error) {
	if run.Info.Kind != "pretrain" || run.Config.Method != methodV2T {
		return nil, 0, hint.Wrap(fmt.Errorf("run %s has no text decoder", run.Dir), `name a run of "mvmae-train pretrain --method %s"`, methodV2T)
	}
	if pack.Digest() != run.Info.DataDigest {
		return nil, 0, fmt.Errorf("the pack is not the one that run %s was trained on", run.Dir)
	}
	last, err := run.loadCheckpoint()
	if err != nil {
		return nil, 0, err
	}
	if last.tensors == nil {
		return nil, 0, hint.Wrap(fmt.Errorf("run %s has no checkpoint", run.Dir), `let it train: "mvmae-train resume %s"`, run.Dir)
	}
	w, err := newWriter(run, pack)
	if err != nil {
		return nil, 0, err
	}
	spec, err := run.Spec()
	if err != nil {
		return nil, 0, err
	}
	spec.Text = run.Config.Text.spec(w.tok.Size())
	params := spec.Params(model.PartEncoder, model.PartText)
	if spec.Decoder.OwnViews {
		params = spec.Params(model.PartEncoder, model.PartDecoder, model.PartText) // the decoder's table of views
	}
	store, err := newStore(params, last.tensors)
	if err != nil {
		return nil, 0, fmt.Errorf("checkpoint of %s: %w", run.Dir, err)
	}
	d, err := describerOf(dev, spec, store, w)
	return d, last.step, err
}

// describerOf describes with the parameters that a store has when it is asked.
func describerOf(dev *Device, spec model.Spec, store *gomodel.Store, w *writer) (d *describer, err error) {
	d = &describer{writer: w, spec: spec}
	if d.encode, err = gomodel.NewExec(dev.Backend, store, func(_ *gomodel.Scope, in []node) node {
		o := graphOps{store: store, g: in[0].Graph()}
		tokens := model.Encode(o, spec, model.Patchify(o, spec, in[0]), in[1], nil)
		return (&pretrainLoss{tokens: tokens}).memory(w.cfg)
	}); err != nil {
		return nil, err
	}
	d.decode, err = gomodel.NewExec(dev.Backend, store, func(_ *gomodel.Scope, in []node) []node {
		return d.answers(graphOps{store: store, g: in[0].Graph()}, in[0], in[1], textBatch{tokens: in[2], target: in[3], form: in[4]})
	})
	return d, err
}

// answers are, of each view, right [V] and nats [V] of its targets, and the likeliest next token at each step [V,T].
func (d *describer) answers(o graphOps, memory, view node, t textBatch) []node {
	n := d.spec.NumPatches()
	keep := graph.Iota(o.g, shapes.Make(dtypes.Int32, describeViews, n), 1) // every patch, in order
	report := t.report(pretrainBatch{keep: keep}, false)
	logits := model.DecodeText(o, d.spec, memory, view, report)
	best := graph.ArgMax(logits, -1, dtypes.Int32)
	right := graph.ConvertDType(graph.Equal(best, t.target), dtypes.Float32)
	return []node{graph.ReduceSum(right, 1), graph.ReduceSum(entropies(logits, t.target), 1), best}
}

// batch are describeViews of images, as the encoder's tokens with their views; places beyond the images are black.
func (d *describer) batch(images []int) (memory *tensors.Tensor, view []int32, err error) {
	size := d.spec.ImageSize
	pixels, views := Inputs(d.pack, images, size)
	pixels = append(pixels, make([]float32, (describeViews-len(images))*size*size)...)
	view = make([]int32, describeViews)
	for i, v := range views {
		view[i] = int32(v)
	}
	in := []any{tensors.FromFlatDataAndDimensions(pixels, describeViews, size, size), tensors.FromFlatDataAndDimensions(view, describeViews)}
	defer finalize(in)
	memory, err = d.encode.Call1(in...)
	return memory, view, err
}

// step runs the decoder on describeViews reports.
func (d *describer) step(memory *tensors.Tensor, view, tokens, target []int32) (right, nats []float32, best []int32, err error) {
	n := d.cfg.MaxTokens - 1
	in := []any{
		tensors.FromFlatDataAndDimensions(view, describeViews),
		tensors.FromFlatDataAndDimensions(tokens, describeViews, n), tensors.FromFlatDataAndDimensions(target, describeViews, n),
		tensors.FromFlatDataAndDimensions(make([]int32, describeViews), describeViews), // causal
	}
	defer finalize(in)
	out, err := d.decode.Call(append([]any{memory}, in...)...)
	if err != nil {
		return nil, nil, nil, err
	}
	defer finalize(out)
	if right, err = tensors.CopyFlatData[float32](out[0]); err == nil {
		if nats, err = tensors.CopyFlatData[float32](out[1]); err == nil {
			best, err = tensors.CopyFlatData[int32](out[2])
		}
	}
	return right, nats, best, err
}

// judge asks the reports of images, each before the image of the same place in shown.
func (d *describer) judge(ctx context.Context, images, shown []int) ([]answer, error) {
	reportOf := map[int]string{}
	for _, s := range d.pack.Studies {
		for _, image := range s.Images {
			reportOf[image] = s.Report
		}
	}
	var out []answer
	for from := 0; from < len(images); from += describeViews {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		to := min(from+describeViews, len(images))
		memory, view, err := d.batch(shown[from:to])
		if err != nil {
			return nil, err
		}
		tokens, target := d.none()
		count := make([]float64, describeViews)
		n := d.cfg.MaxTokens - 1
		for i, image := range images[from:to] {
			own, next := d.append(nil, nil, d.labels(reportOf[image]), 0)
			copy(tokens[i*n:], own)
			copy(target[i*n:], next)
			for _, t := range next {
				if t >= 0 {
					count[i]++
				}
			}
		}
		right, nats, _, err := d.step(memory, view, tokens, target)
		memory.FinalizeAll()
		if err != nil {
			return nil, err
		}
		for i, image := range images[from:to] {
			img := d.pack.Images[image]
			out = append(out, answer{img.Dataset + "/" + img.PatientID, count[i], float64(right[i]), float64(nats[i])})
		}
	}
	return out, nil
}

// none are the tokens and targets of reports that are not there.
func (d *describer) none() (tokens, target []int32) {
	n := d.cfg.MaxTokens - 1
	tokens, target = make([]int32, describeViews*n), make([]int32, describeViews*n)
	for i := range target {
		target[i] = -1
	}
	return tokens, target
}

// write writes the reports of studies from their first frontal view, or their first: from the start on, at each step the
// likeliest token, until the end. A decoder that never learned to end stops where the true report does.
func (d *describer) write(ctx context.Context, studies []int) ([]Sample, error) {
	if len(studies) == 0 {
		return nil, nil
	}
	images := make([]int, len(studies))
	for i, s := range studies {
		all := d.pack.Studies[s].Images
		frontal := slices.IndexFunc(all, func(image int) bool { return d.pack.Images[image].View == cxr.Frontal })
		images[i] = all[max(frontal, 0)]
	}
	memory, view, err := d.batch(images)
	if err != nil {
		return nil, err
	}
	defer memory.FinalizeAll()
	n := d.cfg.MaxTokens - 1
	tokens, target := d.none()
	written, limit := make([][]int32, len(studies)), make([]int, len(studies))
	for i, s := range studies {
		tokens[i*n], limit[i] = model.TextStart, n
		if !d.cfg.End {
			limit[i] = min(n, len(d.tok.Encode(d.pack.Studies[s].Report)))
		}
	}
	for k, going := 0, true; going && k < n; k++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, _, best, err := d.step(memory, view, tokens, target)
		if err != nil {
			return nil, err
		}
		going = false
		for i := range studies {
			if len(written[i]) < k || k >= limit[i] || best[i*n+k] == model.TextEnd {
				continue
			}
			written[i], going = append(written[i], best[i*n+k]), true
			if k+1 < n {
				tokens[i*n+k+1] = best[i*n+k]
			}
		}
	}
	samples := make([]Sample, len(studies))
	for i, s := range studies {
		study := d.pack.Studies[s]
		samples[i] = Sample{data.Hashed(study.Dataset, study.ID), d.pack.Images[images[i]].View.String(), d.tok.Decode(written[i]), study.Report}
	}
	return samples, nil
}
