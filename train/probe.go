package train

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// ProbeStatus is what Probe reports: images embedded, then passes of the head over them.
type ProbeStatus struct {
	Stage       string // "embed" or "train"
	Done, Total int    // images, or epochs
	MacroAUROC  float64
}

// ProbeMetrics is a line of a probe's metrics.jsonl; Step counts epochs.
type ProbeMetrics struct {
	Step       int     `json:"step"`
	Loss       float64 `json:"loss"`
	LR         float64 `json:"lr"`
	MacroAUROC float64 `json:"validation_macro_auroc"`
	// LabelAUROC is that of each label, in the order of model.Labels.
	LabelAUROC []metrics.Value `json:"validation_auroc"`
}

// Probe trains a linear head on the frozen encoder of run.Info.Init (random weights if that is empty). Every image is
// encoded once. The head is chosen by macro AUROC on validation, the thresholds are tuned there, and the report is of the
// test studies. The run folder gets what export needs (model.RunMetadata, RunCheckpoint, RunParity) and eval.json.
func Probe(ctx context.Context, dev *Device, run *Run, pack *data.Pack, report func(ProbeStatus)) (rep eval.Report, err error) {
	defer recoverGraph(&err)
	end, err := run.begin(pack)
	if err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	defer end()
	if pack, err = run.Config.fewer(pack); err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	if run.Config.Probe.Augment {
		return fitClassifier(ctx, dev, run, pack, func(s Status) {
			report(ProbeStatus{Stage: "train", Done: int(s.Epoch), Total: int(run.Config.Probe.Epochs), MacroAUROC: s.Best})
		})
	}
	spec, params, err := startClassifier(run, pack)
	if err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	classifier, err := NewXLAClassifier(dev, spec, params)
	if err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	sets, err := embedSplits(ctx, embedWith(classifier, pack), pack, report)
	if err == nil {
		rep, err = probeEmbedded(ctx, dev, run, pack, spec, sets, params, func(params model.Tensors) (Classifier, error) {
			return NewXLAClassifier(dev, spec, params)
		}, report)
	}
	if err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	return rep, nil
}

// probeEmbedded trains a head on embeddings and finishes the run with it. params get the head's; classifier answers with them.
func probeEmbedded(ctx context.Context, dev *Device, run *Run, pack *data.Pack, spec model.Spec, sets map[data.Split]*embedded, params model.Tensors,
	classifier func(params model.Tensors) (Classifier, error), report func(ProbeStatus)) (rep eval.Report, err error) {
	stats := embeddingStats(sets[data.Train].embedding)
	chosen, err := newSelection(run, pack)
	if err != nil {
		return rep, err
	}
	head, err := trainHead(ctx, dev, run, pack, spec, sets, stats, chosen, report)
	if err != nil {
		return rep, err
	}
	silence(head, untrained(pack))
	maps.Copy(params, head)
	predict := func(split data.Split) []eval.Prediction {
		return Predictions(pack, sets[split].studies, headLogits(head, sets[split].embedding))
	}
	if rep, err = chosen.judge(run, predict(data.Validate), predict(data.Test)); err != nil {
		return rep, err
	}
	c, err := classifier(params)
	if err != nil {
		return rep, err
	}
	return rep, finish(ctx, c, spec, params, run, pack, stats, rep)
}

// startClassifier returns the network that a classifier begins with: the encoder of run.Info.Init, of random weights if that is
// empty, with a head of first values.
func startClassifier(run *Run, pack *data.Pack) (model.Spec, model.Tensors, error) {
	spec, err := run.Spec()
	if err != nil {
		return spec, nil, err
	}
	params, err := run.first(pack, spec, spec.Params(model.PartEncoder, model.PartHead))
	return spec, params, err
}

// embedded are the studies of a split with the embeddings of their images.
type embedded struct {
	studies   []int
	images    []int // ImagesOf(studies)
	embedding [][]float32
}

// labelled lists the studies of a split of which at least one label is known.
func labelled(pack *data.Pack, split data.Split) (studies []int, err error) {
	for _, s := range pack.StudiesOf(split) {
		if pack.Studies[s].Labels != model.AbsentLabels() {
			studies = append(studies, s)
		}
	}
	if len(studies) == 0 {
		return nil, hint.Wrap(fmt.Errorf("the pack has no labelled study in split %s", split), `see the counts that "mvmae-train index" printed; --split-shares changes the splits`)
	}
	return studies, nil
}

// targets are what a study's labels ask of the logits: 0 or 1, and 1 where the label is known at all.
func targets(labels model.LabelSet) (target, known [model.NumLabels]float32) {
	for l, state := range labels {
		if y, ok := state.Target(); ok {
			target[l], known[l] = y, 1
		}
	}
	return target, known
}

// embedWith embeds images of a pack, given by number, with a classifier.
func embedWith(c Classifier, pack *data.Pack) embedder {
	return func(ctx context.Context, images []int, report func(done int)) ([][]float32, error) {
		out, err := ClassifyPack(ctx, c, pack, images, report)
		return out.Embedding, err
	}
}

type embedder func(ctx context.Context, images []int, report func(done int)) ([][]float32, error)

// embedSplits encodes every image of every split once.
func embedSplits(ctx context.Context, embed embedder, pack *data.Pack, report func(ProbeStatus)) (map[data.Split]*embedded, error) {
	sets, total := map[data.Split]*embedded{}, 0
	for _, split := range []data.Split{data.Train, data.Validate, data.Test} {
		s := &embedded{}
		var err error
		if s.studies, err = labelled(pack, split); err != nil {
			return nil, err
		}
		s.images = ImagesOf(pack, s.studies)
		total += len(s.images)
		sets[split] = s
	}
	done := 0
	for _, split := range []data.Split{data.Train, data.Validate, data.Test} {
		var err error
		sets[split].embedding, err = embed(ctx, sets[split].images, func(n int) {
			done += n
			report(ProbeStatus{Stage: "embed", Done: done, Total: total})
		})
		if err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// embeddingEps is added to variances, as the batch normalisation of He et al. 2022 does: a dimension that never varies must
// not be magnified.
const embeddingEps = 1e-6

// embeddingStats describes the embeddings of the training images.
func embeddingStats(x [][]float32) model.EmbeddingStats {
	width := len(x[0])
	s := model.EmbeddingStats{Mean: make([]float32, width), Std: make([]float32, width)}
	for d := range width {
		sum, squares := 0.0, 0.0
		for _, e := range x {
			sum += float64(e[d])
		}
		mean := sum / float64(len(x))
		for _, e := range x {
			squares += (float64(e[d]) - mean) * (float64(e[d]) - mean)
		}
		s.Mean[d], s.Std[d] = float32(mean), float32(math.Sqrt(squares/float64(len(x))+embeddingEps))
	}
	distances := make([]float64, len(x))
	for i, e := range x {
		distances[i] = s.Distance(e)
	}
	slices.Sort(distances)
	s.DistanceP99 = distances[min(len(x)*99/100, len(x)-1)]
	return s
}

// trainHead trains the linear head on standardised embeddings and returns the best one on validation, as weights for
// embeddings that are not standardised: the standardisation is folded in.
func trainHead(ctx context.Context, dev *Device, run *Run, pack *data.Pack, spec model.Spec, sets map[data.Split]*embedded,
	stats model.EmbeddingStats, chosen *selection, report func(ProbeStatus)) (model.Tensors, error) {
	cfg := run.Config.Probe
	log, err := run.openMetrics(-1)
	if err != nil {
		return nil, err
	}
	defer log.close()
	h, err := newHeadTrainer(dev, run.Config, pack, spec, sets[data.Train], stats)
	if err != nil {
		return nil, err
	}
	best, bestAUROC := model.Tensors(nil), math.Inf(-1)
	epochs := int(math.Round(cfg.Epochs))
	for epoch := range epochs {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%w at epoch %d of %d", ErrInterrupted, epoch, epochs)
		}
		loss, lr, err := h.epoch(epoch)
		if err != nil {
			return nil, err
		}
		head, err := h.folded()
		if err != nil {
			return nil, err
		}
		score, err := chosen.offer(epoch+1, headLogits(head, sets[data.Validate].embedding), func() ([][model.NumLabels]float32, error) {
			return headLogits(head, sets[data.Test].embedding), nil
		})
		if err != nil {
			return nil, err
		}
		if best == nil || score.value > bestAUROC {
			best, bestAUROC = head, score.value
		}
		if err := log.append(ProbeMetrics{Step: epoch + 1, Loss: loss, LR: lr, MacroAUROC: score.value, LabelAUROC: score.labels}); err != nil {
			return nil, err
		}
		report(ProbeStatus{Stage: "train", Done: epoch + 1, Total: epochs, MacroAUROC: bestAUROC})
	}
	return best, nil
}

// headTrainer trains a linear head on embeddings.
type headTrainer struct {
	cfg      Config
	params   []model.Param
	store    *gomodel.Store
	exec     *gomodel.Exec
	rate     Schedule
	stats    model.EmbeddingStats
	x        [][]float32 // standardised embeddings
	target   [][model.NumLabels]float32
	weight   [][model.NumLabels]float32
	batch    int
	step     int
	perEpoch int
}

func newHeadTrainer(dev *Device, cfg Config, pack *data.Pack, spec model.Spec, set *embedded, stats model.EmbeddingStats) (*headTrainer, error) {
	h := &headTrainer{cfg: cfg, params: spec.Params(model.PartHead), stats: stats}
	for _, e := range set.embedding {
		h.x = append(h.x, standardise(e, stats))
	}
	for _, s := range set.studies {
		study := pack.Studies[s]
		target, weight := targets(study.Labels)
		for l := range weight {
			weight[l] /= float32(len(study.Images)) // so that a study counts once, however many views it has
		}
		for range study.Images {
			h.target, h.weight = append(h.target, target), append(h.weight, weight)
		}
	}
	h.batch = min(cfg.Probe.BatchViews, len(h.x))
	h.perEpoch = (len(h.x) + h.batch - 1) / h.batch
	h.rate = Schedule{
		Decay: "cosine", Base: cfg.Probe.BaseLR * float64(h.batch) / 256,
		Warmup: int(math.Round(cfg.Probe.WarmupEpochs * float64(h.perEpoch))), Steps: int(math.Round(cfg.Probe.Epochs)) * h.perEpoch,
	}
	first := initialise(h.params, cfg.Seed)
	copy(first["head.bias"].Data, prevalenceLogits(h.target, h.weight))
	var err error
	if h.store, err = newStore(h.params, first); err != nil {
		return nil, err
	}
	addMoments(h.store, h.params, nil)
	h.exec, err = gomodel.NewExec(dev.Backend, h.store, func(_ *gomodel.Scope, in []node) []node {
		o := graphOps{store: h.store, g: in[0].Graph()}
		loss := bce(model.Head(o, in[0]), in[1], in[2])
		return []node{loss, h.optimiser().update(o, h.params, nil, loss, in[3])}
	})
	return h, err
}

func (h *headTrainer) optimiser() AdamW { return h.cfg.Probe.adamW() }

// prevalenceLogits are the logits of the labels' shares of positives: where a head begins that knows nothing of an image. From 0,
// it would spend its first epochs, of which one may be the best by AUROC, on learning them. Half a study is added to either side.
func prevalenceLogits(target, weight [][model.NumLabels]float32) []float32 {
	logits := make([]float32, model.NumLabels)
	for l := range logits {
		positive, negative := 0.5, 0.5
		for i := range target {
			positive += float64(weight[i][l] * target[i][l])
			negative += float64(weight[i][l] * (1 - target[i][l]))
		}
		logits[l] = float32(math.Log(positive / negative))
	}
	return logits
}

// standardise is (e-mean)/std.
func standardise(e []float32, s model.EmbeddingStats) []float32 {
	out := make([]float32, len(e))
	for d, v := range e {
		out[d] = (v - s.Mean[d]) / s.Std[d]
	}
	return out
}

// epoch passes once over the embeddings in a new order and returns the mean loss and the last learning rate. The last
// batch is filled with rows of weight zero.
func (h *headTrainer) epoch(epoch int) (loss, lr float64, err error) {
	order := newRand(h.cfg.Seed, streamProbe, epoch).Perm(len(h.x))
	width := len(h.x[0])
	for from := 0; from < len(order); from += h.batch {
		x := make([]float32, h.batch*width)
		target, weight := make([]float32, h.batch*model.NumLabels), make([]float32, h.batch*model.NumLabels)
		for i, j := range order[from:min(from+h.batch, len(order))] {
			copy(x[i*width:], h.x[j])
			copy(target[i*model.NumLabels:], h.target[j][:])
			copy(weight[i*model.NumLabels:], h.weight[j][:])
		}
		lr = h.rate.At(h.step)
		h.step++
		scalars := h.optimiser().stepScalars(lr, h.step)
		inputs := []any{
			tensors.FromFlatDataAndDimensions(x, h.batch, width),
			tensors.FromFlatDataAndDimensions(target, h.batch, model.NumLabels),
			tensors.FromFlatDataAndDimensions(weight, h.batch, model.NumLabels),
			tensors.FromFlatDataAndDimensions(scalars[:], len(scalars)),
		}
		out, err := h.exec.Call(inputs...)
		if err != nil {
			return 0, 0, err
		}
		value := float64(tensors.ToScalar[float32](out[0]))
		finalize(inputs)
		finalize(out)
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return 0, 0, &DivergedError{Step: h.step, Detail: fmt.Sprintf("the head's loss is %v (learning rate %.3g)", value, lr)}
		}
		loss += value / float64(h.perEpoch)
	}
	return loss, lr, nil
}

// folded returns the head for embeddings as the encoder gives them: w·(e-mean)/std + b = (w/std)·e + (b - w·mean/std).
func (h *headTrainer) folded() (model.Tensors, error) {
	head, err := readVariables(h.store, h.params, "")
	if err != nil {
		return nil, err
	}
	w, b := head["head.weight"].Data, head["head.bias"].Data
	width := len(h.stats.Mean)
	for l := range b {
		shift := 0.0
		for d := range width {
			w[l*width+d] /= h.stats.Std[d]
			shift += float64(w[l*width+d]) * float64(h.stats.Mean[d])
		}
		b[l] = float32(float64(b[l]) - shift)
	}
	return head, nil
}

// headLogits applies a head on the host.
func headLogits(head model.Tensors, embedding [][]float32) [][model.NumLabels]float32 {
	logits := make([][model.NumLabels]float32, len(embedding))
	w, b := head["head.weight"].Data, head["head.bias"].Data
	for i, e := range embedding {
		for l := range b {
			sum := float64(b[l])
			for d, v := range e {
				sum += float64(v) * float64(w[l*len(e)+d])
			}
			logits[i][l] = float32(sum)
		}
	}
	return logits
}
