package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// Finetune trains encoder and head together, from the encoder of run.Info.Init or, for a supervised run, from random weights.
// It goes on from the run's last checkpoint and stops as Pretrain does. The epoch is chosen by macro AUROC on validation, the
// thresholds are tuned there, and the report is of the test studies. The run folder gets what a probe's gets.
func Finetune(ctx context.Context, dev *Device, run *Run, pack *data.Pack, report func(Status)) (rep eval.Report, err error) {
	defer recoverGraph(&err)
	end, err := run.begin(pack)
	if err != nil {
		return rep, fmt.Errorf("%s: %w", run.Info.Kind, err)
	}
	defer end()
	if pack, err = run.Config.fewer(pack); err != nil {
		return rep, fmt.Errorf("%s: %w", run.Info.Kind, err)
	}
	return fitClassifier(ctx, dev, run, pack, report)
}

// fitClassifier trains a classifier in the loop to the end of the run, and leaves it.
func fitClassifier(ctx context.Context, dev *Device, run *Run, pack *data.Pack, report func(Status)) (rep eval.Report, err error) {
	l, t, err := newFinetuning(dev, run, pack)
	if err == nil {
		err = l.fit(ctx, report)
	}
	if err == nil {
		rep, err = leaveClassifier(ctx, l, t, pack)
	}
	if err != nil {
		return rep, fmt.Errorf("%s: %w", run.Info.Kind, err)
	}
	return rep, nil
}

// leaveClassifier gives the classifier the best epoch's parameters and finishes the run with it.
func leaveClassifier(ctx context.Context, l *loop, t *finetuning, pack *data.Pack) (eval.Report, error) {
	c := t.classifier
	params, err := readVariables(l.store, l.frozen, "")
	if err != nil {
		return eval.Report{}, err
	}
	for _, p := range l.params {
		params[p.Name] = l.best[bestPrefix+p.Name]
	}
	silence(params, untrained(pack))
	for _, p := range l.params {
		err := l.store.GetVariable("/" + p.Name).SetValue(tensors.FromFlatDataAndDimensions(params[p.Name].Data, p.Dims...))
		if err != nil {
			return eval.Report{}, err
		}
	}
	studies := pack.StudiesOf(data.Train)
	out, err := ClassifyPack(ctx, c, pack, ImagesOf(pack, studies), func(int) {})
	if err != nil {
		return eval.Report{}, err
	}
	var predicted [2][]eval.Prediction
	for i, split := range []data.Split{data.Validate, data.Test} {
		if predicted[i], err = PredictPack(ctx, c, pack, split, func(int) {}); err != nil {
			return eval.Report{}, err
		}
	}
	rep, err := t.chosen.judge(l.run, predicted[0], predicted[1])
	if err != nil {
		return rep, err
	}
	return rep, finish(ctx, c, c.spec, params, l.run, pack, embeddingStats(out.Embedding), rep)
}

// finetuning is the task of a classifier of which every weight is trained.
type finetuning struct {
	cfg        Config
	spec       model.Spec
	pack       *data.Pack
	rate       Schedule
	classifier *XLAClassifier // of the parameters in training
	chosen     *selection
}

func newFinetuning(dev *Device, run *Run, pack *data.Pack) (*loop, *finetuning, error) {
	cfg := run.Config
	trained, frozen := []model.Part{model.PartEncoder, model.PartHead}, []model.Part(nil)
	if run.Info.Kind == "probe" {
		cfg.Finetune = cfg.Probe.finetune()
		trained, frozen = []model.Part{model.PartHead}, []model.Part{model.PartEncoder}
	}
	f := cfg.Finetune
	spec, first, err := startClassifier(run, pack)
	if err != nil {
		return nil, nil, err
	}
	if frozen == nil && spec.Pool != model.PoolMeanFirst { // weights from elsewhere that were trained so
		spec.Pool = model.Pool(f.Pool)
	}
	t := &finetuning{cfg: cfg, spec: spec, pack: pack}
	if t.chosen, err = newSelection(run, pack); err != nil {
		return nil, nil, err
	}
	studies, err := labelled(pack, data.Train)
	if err != nil {
		return nil, nil, err
	}
	l, err := newLoop(run, pack, spec, spec.Params(trained...), f.Epochs, f.Optim, f.BatchViews, studies)
	if err != nil {
		return nil, nil, err
	}
	if frozen != nil {
		l.frozen = spec.Params(frozen...)
	}
	if err := l.restore(first); err != nil {
		return nil, nil, err
	}
	if err := t.chosen.restore(l.kept, l.score); err != nil {
		return nil, nil, fmt.Errorf("checkpoint of %s: %w", run.Dir, err)
	}
	decay := f.LayerDecay
	if run.Info.Init == "" { // random weights have no lower layers to be careful with: at 0.55, the lowest of 12 would learn at 1/1,300
		decay = 1
	}
	l.scale = func(p model.Param) float64 { return math.Pow(decay, float64(layersAbove(p, spec.Depth))) }
	t.rate = l.cosine()
	if t.classifier, err = newClassifier(dev, spec, l.store); err != nil {
		return nil, nil, err
	}
	return l, t, l.compile(dev, t)
}

// layersAbove is how many layers lie between a parameter and the head, as He et al. 2022 count for the layer-wise decay of
// the learning rate: the head and the last LayerNorm 0, the last block 1, patches, positions and tokens depth+1.
func layersAbove(p model.Param, depth int) int {
	if p.Part == model.PartHead || strings.HasPrefix(p.Name, "encoder.layer_norm.") {
		return 0
	}
	if rest, ok := strings.CutPrefix(p.Name, "encoder.transformer."); ok {
		number, _, _ := strings.Cut(rest, ".")
		if block, err := strconv.Atoi(number); err == nil {
			return depth - block
		}
	}
	return depth + 1
}

func (t *finetuning) rates(done int) (lr, beta float64) { return t.rate.At(done), 0 }

// inputs are target [V,14], weight [V,14] and drop [V,2*Depth]. Rows of the first two are view images in recipe "paper",
// weighted so that a study counts once, and studies in recipe "code". Absent labels have weight 0; the loss is a mean by weight.
func (t *finetuning) inputs(rng *rand.Rand, b hostBatch) (own []any, sum float64) {
	v := len(b.places)
	target, weight := make([]float32, v*model.NumLabels), make([]float32, v*model.NumLabels)
	put := func(row, study int, share float32) {
		y, known := targets(t.pack.Studies[b.studies[study]].Labels)
		for l := range y {
			target[row*model.NumLabels+l], weight[row*model.NumLabels+l] = y[l], known[l]*share
			sum += float64(known[l] * share)
		}
	}
	views := make([]int, len(b.studies))
	for _, p := range b.places {
		if p.row >= 0 {
			views[p.row]++
		}
	}
	if t.cfg.Recipe == "code" {
		for study := range b.studies {
			put(study, study, 1)
		}
	} else {
		for i, p := range b.places {
			if p.row >= 0 {
				put(i, p.row, 1/float32(views[p.row]))
			}
		}
	}
	drop := make([]float32, 0, v*2*t.spec.Depth)
	for range v {
		drop = t.drawDrop(rng, drop)
	}
	return []any{
		tensors.FromFlatDataAndDimensions(target, v, model.NumLabels),
		tensors.FromFlatDataAndDimensions(weight, v, model.NumLabels),
		tensors.FromFlatDataAndDimensions(drop, v, 2*t.spec.Depth),
	}, sum
}

// drawDrop appends one image's factors of its residual branches: 0 with a probability that grows evenly from 0 in the first
// block to drop_path in the last, else what keeps the branch's mean (Huang et al. 2016, as He et al. 2022 use it).
func (t *finetuning) drawDrop(rng *rand.Rand, dst []float32) []float32 {
	for block := range t.spec.Depth {
		p := t.cfg.Finetune.DropPath * float64(block) / float64(max(t.spec.Depth-1, 1))
		for range 2 {
			factor := float32(1 / (1 - p))
			if rng.Float64() < p {
				factor = 0
			}
			dst = append(dst, factor)
		}
	}
	return dst
}

func (t *finetuning) loss(o graphOps, b graphBatch, own []node) losses {
	o.drop = own[2]
	logits := model.Head(o, model.Embed(o, t.spec, b.image, b.view)) // [V,14]
	return losses{total: t.entropy(logits, b.study, own[0], own[1])}
}

// entropy is the cross-entropy of the 14 labels: of each view's logits, or in recipe "code" of the mean of a study's logits.
func (t *finetuning) entropy(logits, study, target, weight node) node {
	if t.cfg.Recipe == "code" {
		views := graph.InsertAxes(graph.MaxScalar(graph.ReduceSum(study, 1), 1), -1)             // [G,1]
		logits = graph.Div(graph.DotGeneral(study, []int{1}, nil, logits, []int{0}, nil), views) // [G,14]
	}
	return bce(logits, target, weight)
}

// score is the macro AUROC on validation.
func (t *finetuning) score(ctx context.Context, epoch int) (epochScore, error) {
	logits := func(i int) ([][model.NumLabels]float32, error) {
		out, err := ClassifyPack(ctx, t.classifier, t.pack, ImagesOf(t.pack, t.chosen.studies[i]), func(int) {})
		return out.Logits, err
	}
	validation, err := logits(0)
	if err != nil {
		return epochScore{}, err
	}
	return t.chosen.offer(epoch, validation, func() ([][model.NumLabels]float32, error) { return logits(1) })
}
