package train

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// finetuneConfig is a run of seconds.
func finetuneConfig() Config {
	cfg := testConfig()
	cfg.Finetune.Epochs, cfg.Finetune.BatchViews = 10, 12
	cfg.Finetune.Optim.BaseLR, cfg.Finetune.Optim.WarmupEpochs = 0.3, 1
	return cfg
}

func finetuned(t *testing.T, run *Run, pack *data.Pack) model.Tensors {
	t.Helper()
	if _, err := Finetune(t.Context(), device(t), run, pack, func(Status) {}); err != nil {
		t.Fatal(err)
	}
	best, _, err := model.ReadSafetensors(run.path(model.RunCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	return best
}

func TestFinetune_LearnsAndResumesBitForBit(t *testing.T) {
	pack := makePack(t, 60)
	cfg := finetuneConfig()
	whole := newRun(t, "supervised", "", pack, cfg)
	want := finetuned(t, whole, pack)
	log := logged[StepMetrics](t, whole)
	first, end := log[0], log[len(log)-1]
	if !(end.Loss < 0.95*first.Loss) || end.Score == nil {
		t.Errorf("the loss went from %.3f to %.3f; last score %v", first.Loss, end.Loss, end.Score)
	}

	// Stopped while an epoch is scored: the resumed run must score it first.
	stopped := newRun(t, "supervised", "", pack, cfg)
	l, _, err := newFinetuning(device(t), stopped, pack)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.task = &cancelled{l.task, 3, cancel}
	if err := l.fit(ctx, func(Status) {}); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("stopped while scoring: %v", err)
	}
	last, err := stopped.loadCheckpoint()
	if err != nil || last.scored == 0 || last.scored >= last.step {
		t.Fatalf("checkpoint at step %d, scored at %d (%v)", last.step, last.scored, err)
	}
	again, err := OpenRun(stopped.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, finetuned(t, again, pack)); diff != "" {
		t.Errorf("the resumed run differs (-uninterrupted +resumed)\n%.400s", diff)
	}

	c, meta, err := OpenClassifier(device(t), whole.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Kind != "supervised" || meta.Encoder.Method != "random" || len(meta.Embedding.Mean) != meta.Spec.Width {
		t.Errorf("metadata %+v", meta)
	}
	parity, _, err := model.ReadSafetensors(whole.path(model.RunParity))
	if err != nil {
		t.Fatal(err)
	}
	pixels, views := Inputs(pack, ImagesOf(pack, pack.StudiesOf(data.Test)), meta.Spec.ImageSize)
	out, err := c.Classify(t.Context(), pixels, views)
	if err != nil {
		t.Fatal(err)
	}
	var logits []float32
	for _, l := range out.Logits {
		logits = append(logits, l[:]...)
	}
	within(t, "parity logits", logits, parity["logits"].Data, 0, 0)
}

// cancelled is a task during whose n-th score the user stops the run.
type cancelled struct {
	task
	n      int
	cancel func()
}

func (c *cancelled) score(ctx context.Context, epoch int) (epochScore, error) {
	if c.n--; c.n == 0 {
		c.cancel()
	}
	return c.task.score(ctx, epoch)
}

func TestFinetune_EncoderOfAPretrainingRunOfRecipeCode(t *testing.T) {
	pack := makePack(t, 30)
	cfg := Code()
	cfg.Preset, cfg.BatchViews, cfg.Epochs, cfg.Optim.WarmupEpochs, cfg.Clean = "nano", 12, 2, 1, false
	pre := newRun(t, "pretrain", "", pack, cfg)
	pretrained := finalWeights(t, pre, pack)

	cfg = Code()
	cfg.Preset, cfg.Probe.Replicates = "nano", 10
	cfg.Finetune.BatchViews, cfg.Finetune.Epochs, cfg.Finetune.Optim.WarmupEpochs = 12, 1, 0
	cfg.Finetune.Optim.BaseLR, cfg.Finetune.Pool = 1e-9, "mean" // hardly a step: what comes out is what went in
	cfg.Finetune.Optim.MinLR = 0
	run := newRun(t, "finetune", pre.Dir, pack, cfg)
	got := finetuned(t, run, pack)
	for name, x := range got {
		if from, ok := pretrained[name]; ok {
			within(t, name, x.Data, from.Data, 1e-6, 0)
		}
	}
	_, meta, err := OpenClassifier(device(t), run.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !meta.Spec.QKNorm || meta.Spec.Pool != model.PoolMean || meta.Fusion != "mean_logit" {
		t.Errorf("spec %+v, fusion %s", meta.Spec, meta.Fusion)
	}

	// Its probe trains the head alone, on augmented images.
	cfg.Probe.Epochs, cfg.Probe.WarmupEpochs, cfg.Probe.BatchViews, cfg.Probe.BaseLR, cfg.Labels = 2, 0, 12, 0.1, 10
	run = newRun(t, "probe", pre.Dir, pack, cfg)
	rep, err := Probe(t.Context(), device(t), run, pack, func(ProbeStatus) {})
	if err != nil {
		t.Fatal(err)
	}
	head, _, err := model.ReadSafetensors(run.path(model.RunCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range head {
		if from, ok := pretrained[name]; ok {
			within(t, name, x.Data, from.Data, 0, 0)
		}
	}
	if distance(head["head.weight"], got["head.weight"]) < 0.01 {
		t.Error("the head of the probe is where it began")
	}
	if _, meta, err = OpenClassifier(device(t), run.Dir); err != nil || meta.Datasets["made"].Studies != 10 || rep.PerLabel == nil {
		t.Errorf("a probe of 10 studies: %v of %v, selection %v", err, meta.Datasets, rep.PerLabel)
	}
}

func TestLayersAbove_CountsFromTheHead(t *testing.T) {
	spec, err := model.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, p := range spec.Params(model.PartEncoder, model.PartHead) {
		got[p.Name] = layersAbove(p, spec.Depth)
	}
	for name, want := range map[string]int{
		"head.weight": 0, "encoder.layer_norm.bias": 0, "encoder.transformer.11.norm1.weight": 1, "encoder.transformer.0.mlp.fc2.bias": 12,
		"encoder.patchify.weight": 13, "encoder.cls_token": 13, "encoder.mod_embedding": 13,
	} {
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("%s has %d layers above it, want %d", name, n, want)
		}
	}
}

func TestFinetuning_DropPathKeepsMeansAndGrowsWithDepth(t *testing.T) {
	spec, err := model.Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	spec.Depth = 5
	task := &finetuning{cfg: Default(), spec: spec}
	rng := rand.New(rand.NewPCG(3, 3))
	const images = 20000
	dropped, sums := make([]float64, 10), make([]float64, 10)
	for range images {
		for i, f := range task.drawDrop(rng, nil) {
			sums[i] += float64(f) / images
			if f == 0 {
				dropped[i] += 1.0 / images
			}
		}
	}
	for i := range sums {
		if want := 0.2 * float64(i/2) / 4; math.Abs(dropped[i]-want) > 0.01 || math.Abs(sums[i]-1) > 0.02 {
			t.Errorf("branch %d: %.3f dropped, mean factor %.3f; want %.3f and 1", i, dropped[i], sums[i], want)
		}
	}
}

// The two recipes' losses of one batch with an empty place, against sums by hand: a study of two views, one of one view with
// an absent label.
func TestFinetuning_LossIsMeanOverStudiesOfKnownLabels(t *testing.T) {
	pack := makePack(t, 10)
	b := hostBatch{studies: []int{1, 0}, places: []place{{0, 0}, {1, 0}, {2, 1}, {-1, -1}}}
	labels := func(s int) *model.LabelSet { return &pack.Studies[b.studies[s]].Labels }
	labels(1)[3] = model.Absent
	rng := rand.New(rand.NewPCG(8, 8))
	logits := make([]float32, 4*model.NumLabels)
	for i := range logits {
		logits[i] = float32(3 * rng.NormFloat64())
	}
	entropy := func(x float64, l model.LabelState) float64 {
		y, _ := l.Target()
		return math.Log1p(math.Exp(x)) - x*float64(y)
	}
	for _, recipe := range []string{"paper", "code"} {
		sum, known := 0.0, 0.0
		for l := range model.NumLabels {
			at := func(view int) float64 { return float64(logits[view*model.NumLabels+l]) }
			if recipe == "paper" {
				sum += (entropy(at(0), labels(0)[l]) + entropy(at(1), labels(0)[l])) / 2
			} else {
				sum += entropy((at(0)+at(1))/2, labels(0)[l])
			}
			known++
			if labels(1)[l] != model.Absent {
				sum += entropy(at(2), labels(1)[l])
				known++
			}
		}
		task := &finetuning{cfg: Config{Recipe: recipe}, pack: pack}
		own, weight := task.inputs(rng, b)
		if weight != known {
			t.Errorf("%s: weight %v, want %v", recipe, weight, known)
		}
		study := make([]float32, 16)
		study[0], study[1], study[4+2] = 1, 1, 1
		exec, err := graph.NewExec(device(t).Backend, func(logits, study, target, weight node) node {
			return task.entropy(logits, study, target, weight)
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Call(tensors.FromFlatDataAndDimensions(logits, 4, model.NumLabels), tensors.FromFlatDataAndDimensions(study, 4, 4), own[0], own[1])
		if err != nil {
			t.Fatal(err)
		}
		within(t, recipe, flat(t, out[0]), []float32{float32(sum / known)}, 1e-5, 0)
	}
}
