package train

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// finalWeights pretrains a run to its end and reads its checkpoint.
func finalWeights(t *testing.T, run *Run, pack *data.Pack) model.Tensors {
	t.Helper()
	if err := Pretrain(t.Context(), device(t), run, pack, func(Status) {}); err != nil {
		t.Fatal(err)
	}
	last, err := run.loadCheckpoint()
	if err != nil {
		t.Fatal(err)
	}
	return last.tensors
}

func TestPretrain_LearnsAndResumesBitForBit(t *testing.T) {
	pack := makePack(t, 40)
	cfg := testConfig()
	whole := newRun(t, "pretrain", "", pack, cfg)
	want := finalWeights(t, whole, pack)
	log := logged[StepMetrics](t, whole)
	first, last := log[0], log[len(log)-1]
	if !(last.Reconstruction < 0.9*first.Reconstruction) {
		t.Errorf("reconstruction loss went from %.3f to %.3f", first.Reconstruction, last.Reconstruction)
	}
	if last.Alignment == 0 {
		t.Error("the alignment loss is 0 on studies of several views")
	}

	// Stopped in the middle, opened again from its folder, and run to the end.
	stopped := newRun(t, "pretrain", "", pack, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	err := Pretrain(ctx, device(t), stopped, pack, func(s Status) {
		if s.Step == s.Steps/2 {
			cancel()
		}
	})
	if !errors.Is(err, ErrInterrupted) || !strings.Contains(hint.Of(err), "resume") {
		t.Fatalf("interrupted: %v, hint %q", err, hint.Of(err))
	}
	again, err := OpenRun(stopped.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, finalWeights(t, again, pack)); diff != "" {
		t.Errorf("the resumed run differs (-uninterrupted +resumed)\n%.400s", diff)
	}
	resumed := logged[StepMetrics](t, stopped)
	if end := resumed[len(resumed)-1]; end.Step != last.Step {
		t.Errorf("the resumed log ends at step %d, want %d", end.Step, last.Step)
	}
}

func TestPretrain_IndependentIsBetaZero(t *testing.T) {
	pack := makePack(t, 20)
	cfg := testConfig()
	cfg.Epochs, cfg.Method = 2, "independent"
	a := finalWeights(t, newRun(t, "pretrain", "", pack, cfg), pack)
	cfg.Method, cfg.Loss.Beta = "mvmae", 0
	b := finalWeights(t, newRun(t, "pretrain", "", pack, cfg), pack)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("independent differs from mvmae with beta 0:\n%.400s", diff)
	}
	cfg.Loss.Beta = 1
	if cmp.Equal(a, finalWeights(t, newRun(t, "pretrain", "", pack, cfg), pack)) {
		t.Error("the alignment loss changes nothing")
	}
}

func TestPretrain_DivergenceStopsAndSaysWhere(t *testing.T) {
	pack := makePack(t, 20)
	cfg := testConfig()
	cfg.Optim.BaseLR, cfg.Optim.WarmupEpochs = math.MaxFloat32, 0
	run := newRun(t, "pretrain", "", pack, cfg)
	err := Pretrain(t.Context(), device(t), run, pack, func(Status) {})
	var diverged *DivergedError
	if !errors.As(err, &diverged) {
		t.Fatalf("got error %v, want a DivergedError", err)
	}
	if diverged.Step < 2 || !strings.Contains(err.Error(), "not finite") || !strings.Contains(hint.Of(err), "base_lr") {
		t.Errorf("error %q, hint %q", err, hint.Of(err))
	}
	if _, err := os.Stat(run.path(lastCheckpoint)); err == nil {
		t.Error("a diverged state was saved")
	}
}

func TestPretrain_OtherDataIsRefused(t *testing.T) {
	run := newRun(t, "pretrain", "", makePack(t, 10), testConfig())
	err := Pretrain(t.Context(), device(t), run, makePack(t, 15), func(Status) {})
	if err == nil || !strings.Contains(err.Error(), "not what it was when the run began") {
		t.Errorf("got error %v", err)
	}
}

func TestRun_OneProcessAtATime(t *testing.T) {
	pack := makePack(t, 10)
	run := newRun(t, "pretrain", "", pack, testConfig())
	end, err := run.begin(pack)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.begin(pack); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second process: %v", err)
	}
	end()
	if end, err = run.begin(pack); err != nil {
		t.Fatal(err)
	}
	end()
}

func TestPrevalenceLogits_AreTheSharesOfPositives(t *testing.T) {
	var target, weight [3][model.NumLabels]float32
	target[0][2] = 1
	weight[0][2], weight[1][2], weight[2][2] = 1, 0.5, 0.5 // a study of one view, positive; one of two, negative
	got := prevalenceLogits(target[:], weight[:])
	if got[2] != 0 || got[3] != 0 {
		t.Errorf("one of two studies positive, and no study: logits %v and %v, want 0", got[2], got[3])
	}
	weight[1][2] = 3.5
	if got, want := prevalenceLogits(target[:], weight[:])[2], float32(math.Log(1.5/4.5)); got != want {
		t.Errorf("logit %v, want %v", got, want)
	}
}

// A label that no training study knows must not answer from its random first weights.
func TestProbe_UntrainedLabelsStaySilent(t *testing.T) {
	absent := model.LabelIndex("Fracture")
	pack := makePack(t, 40, func(img *data.Image) { img.Labels[absent] = model.Absent })
	run := newRun(t, "probe", "", pack, testConfig())
	if _, err := Probe(t.Context(), device(t), run, pack, func(ProbeStatus) {}); err != nil {
		t.Fatal(err)
	}
	c, meta, err := OpenClassifier(device(t), run.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Fracture"}, meta.UntrainedLabels); diff != "" || meta.Thresholds[absent] != 1 || meta.Encoder.Method != "random" {
		t.Errorf("untrained labels %s, threshold %v, encoder %+v", diff, meta.Thresholds[absent], meta.Encoder)
	}
	pixels, views := Inputs(pack, ImagesOf(pack, pack.StudiesOf(data.Test)), meta.Spec.ImageSize)
	out, err := c.Classify(t.Context(), pixels, views)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range out.Logits {
		if l[absent] != silentLogit {
			t.Errorf("image %d has logit %v for a label nobody trained", i, l[absent])
		}
	}
}

func TestRun_EncoderFitsOnlyPacksItHasNotSeenTheTestOf(t *testing.T) {
	pack := makePack(t, 20)
	run := newRun(t, "pretrain", "", pack, testConfig())
	if err := run.fits(pack); err != nil {
		t.Errorf("its own pack: %v", err)
	}
	// The same images with the splits turned round.
	turned := makePack(t, 20, func(img *data.Image) { img.Split = (img.Split + 1) % data.Split(len(data.Splits)) })
	if err := run.fits(turned); err == nil || !strings.Contains(err.Error(), "held out in this pack") {
		t.Errorf("the same images, split otherwise: %v", err)
	}
	run.Info.Preprocessing = "display"
	if err := run.fits(pack); err == nil || !strings.Contains(hint.Of(err), "--recipe display") {
		t.Errorf("another recipe: %v", err)
	}
}

func TestPretrain_StudyLargerThanBatchIsRefused(t *testing.T) {
	pack := makePack(t, 10)
	cfg := testConfig()
	cfg.BatchViews = 2
	err := Pretrain(t.Context(), device(t), newRun(t, "pretrain", "", pack, cfg), pack, func(Status) {})
	if err == nil || !strings.Contains(err.Error(), "has 3 images, a batch has 2 places") {
		t.Errorf("got error %v", err)
	}
}

func TestProbe_LeavesAModelThatAgreesWithItself(t *testing.T) {
	pack := makePack(t, 60)
	pre := newRun(t, "pretrain", "", pack, testConfig())
	finalWeights(t, pre, pack)
	run := newRun(t, "probe", pre.Dir, pack, testConfig())
	rep, err := Probe(t.Context(), device(t), run, pack, func(ProbeStatus) {})
	if err != nil {
		t.Fatal(err)
	}
	// Twelve test studies and bright squares: better than chance by far, though not perfect through a tiny encoder.
	if auroc := float64(rep.Macro.AUROC.Value); !(auroc > 0.65) {
		t.Errorf("macro AUROC is %.3f on squares that a person sees", auroc)
	}
	left, err := run.Predictions()
	if err != nil {
		t.Fatal(err)
	}
	again, err := eval.Evaluate(nil, left, rep.AsReported())
	if err != nil || again.Macro.AUROC.Value != rep.Macro.AUROC.Value || again.Macro.Brier.Value != rep.Macro.Brier.Value { // names decide the bootstrap's draws
		t.Errorf("the predictions left give AUROC %v and Brier %v, the report has %v and %v (%v)", again.Macro.AUROC, again.Macro.Brier, rep.Macro.AUROC, rep.Macro.Brier, err)
	}
	for _, s := range pack.StudiesOf(data.Test) {
		if study := pack.Studies[s]; slices.ContainsFunc(left, func(p eval.Prediction) bool { return p.Study == study.ID || p.Patient == study.Patient }) {
			t.Errorf("a prediction bears the name of study %s", study.ID)
		}
	}
	c, meta, err := OpenClassifier(device(t), run.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if meta.RunID != run.Info.ID || meta.Datasets["made"].Studies != 36 || meta.Preprocessing != "mimic" {
		t.Errorf("metadata %+v", meta)
	}
	parity, _, err := model.ReadSafetensors(run.path(model.RunParity))
	if err != nil {
		t.Fatal(err)
	}
	test := ImagesOf(pack, pack.StudiesOf(data.Test))
	pixels, views := Inputs(pack, test, meta.Spec.ImageSize)
	out, err := c.Classify(t.Context(), pixels, views)
	if err != nil {
		t.Fatal(err)
	}
	var logits []float32
	for _, l := range out.Logits {
		logits = append(logits, l[:]...)
	}
	within(t, "parity logits", logits, parity["logits"].Data, 0, 0)
	attention, shares := parity["attention"], 0.0
	for _, share := range attention.Data {
		shares += float64(share)
	}
	if g := meta.Spec.Grid(); !slices.Equal(attention.Dims, []int{attentionImages, g, g}) || shares <= 0 || shares > attentionImages {
		t.Errorf("attention %v, which sums to %g", attention.Dims, shares)
	}
	// The folded head must say what the standardised one said during training.
	var doc struct {
		Validation struct {
			MacroAUROC float64 `json:"macro_auroc"`
		}
	}
	raw, err := os.ReadFile(filepath.Join(run.Dir, "eval.json"))
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	best := 0.0
	for _, m := range logged[ProbeMetrics](t, run) {
		best = max(best, m.MacroAUROC)
	}
	if math.Abs(best-doc.Validation.MacroAUROC) > 1e-9 {
		t.Errorf("validation macro AUROC was %.6f in training and is %.6f in the report", best, doc.Validation.MacroAUROC)
	}
}

func TestRun_FolderIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateRun(dir, RunInfo{}, Default()); err == nil || !strings.Contains(hint.Of(err), "--out") {
		t.Errorf("got error %v with hint %q", err, hint.Of(err))
	}
	if _, err := OpenRun(dir); err == nil || !strings.Contains(err.Error(), "no run.json") {
		t.Errorf("open: %v", err)
	}
}

func TestCheckpoint_WhatCannotBeReadIsRefused(t *testing.T) {
	pack := makePack(t, 10)
	for name, c := range map[string]struct {
		meta map[string]string
		want string
	}{
		"another version": {map[string]string{"format_version": "99", "step": "1"}, `format version "99"`},
		"no step":         {map[string]string{"format_version": "1"}, "corrupt checkpoint"},
		"scored too late": {map[string]string{"format_version": "1", "step": "1", "scored": "2"}, "corrupt checkpoint"},
		"score no number": {map[string]string{"format_version": "1", "step": "1", "score": "good"}, "corrupt checkpoint"},
		"no parameters":   {map[string]string{"format_version": "1", "step": "1"}, "is missing"},
	} {
		run := newRun(t, "pretrain", "", pack, testConfig())
		if err := model.WriteSafetensors(run.path(lastCheckpoint), model.Tensors{"x": {Dims: []int{1}, Data: []float32{1}}}, c.meta); err != nil {
			t.Fatal(err)
		}
		err := Pretrain(t.Context(), device(t), run, pack, func(Status) {})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), run.Dir) {
			t.Errorf("%s: got error %v, want one with %q and the folder", name, err, c.want)
		}
	}
	run := newRun(t, "pretrain", "", pack, testConfig())
	if err := os.WriteFile(run.path(lastCheckpoint), []byte("not a checkpoint"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Pretrain(t.Context(), device(t), run, pack, func(Status) {}); !errors.Is(err, model.ErrCorrupt) {
		t.Errorf("corrupt file: got error %v", err)
	}
}

// Two goroutines may prepare inputs at once: the pack is read only.
func TestInputs_SameForAnyNumberOfWorkers(t *testing.T) {
	pack := makePack(t, 10)
	images := ImagesOf(pack, pack.StudiesOf(data.Train))
	want, _ := Inputs(pack, images, 32)
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			if got, _ := Inputs(pack, images, 32); !cmp.Equal(got, want) {
				return errors.New("inputs differ")
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestRunSweep_RemovesOnlyHalfWrittenFiles(t *testing.T) {
	run := newRun(t, "pretrain", "", makePack(t, 10), testConfig())
	for _, name := range []string{".last.safetensors.tmp12", ".best.safetensors.tmp3", "last.safetensors", "notes.tmp"} {
		if err := os.WriteFile(filepath.Join(run.Dir, "checkpoints", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.sweep(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(run.Dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{"last.safetensors", "notes.tmp"}, left); diff != "" {
		t.Error(diff)
	}
}

// Held-out studies are needed to choose an epoch and to report; training studies to train. An empty split is named, with its cure.
func TestRun_EmptySplitIsRefused(t *testing.T) {
	without := func(gone, instead data.Split) *data.Pack {
		return makePack(t, 10, func(img *data.Image) {
			if img.Split == gone {
				img.Split = instead
			}
		})
	}
	for split, instead := range map[data.Split]data.Split{data.Train: data.Test, data.Validate: data.Train, data.Test: data.Validate} {
		pack := without(split, instead)
		runs := map[string]error{}
		_, runs["probe"] = Probe(t.Context(), device(t), newRun(t, "probe", "", pack, testConfig()), pack, func(ProbeStatus) {})
		_, runs["supervised"] = Finetune(t.Context(), device(t), newRun(t, "supervised", "", pack, testConfig()), pack, func(Status) {})
		for kind, err := range runs {
			if err == nil || !strings.Contains(err.Error(), "no labelled study in split "+split.String()) || !strings.Contains(hint.Of(err), "--split-shares") {
				t.Errorf("%s without %s: error %v, hint %q", kind, split, err, hint.Of(err))
			}
		}
	}
	pack := without(data.Train, data.Test)
	if err := Pretrain(t.Context(), device(t), newRun(t, "pretrain", "", pack, testConfig()), pack, func(Status) {}); err == nil || !strings.Contains(err.Error(), "no study to train on") {
		t.Errorf("pretraining without a training study: %v", err)
	}
}

func TestOpenRun_WhatAnotherReleaseWroteIsRefused(t *testing.T) {
	for _, c := range []struct{ file, old, new, want string }{
		{runFile, `"format_version": 1`, `"format_version": 99`, "format version 99, this program reads 1"},
		{configFile, "crop_min", "crop_least", "unknown key augment.crop_least"},
	} {
		run, err := CreateRun(filepath.Join(t.TempDir(), "run"), RunInfo{Kind: "pretrain"}, testConfig())
		if err != nil {
			t.Fatal(err)
		}
		doc, err := os.ReadFile(run.path(c.file))
		if err != nil || !strings.Contains(string(doc), c.old) {
			t.Fatalf("%v: no %s in\n%s", err, c.old, doc)
		}
		if err := os.WriteFile(run.path(c.file), []byte(strings.Replace(string(doc), c.old, c.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRun(run.Dir); err == nil || !strings.Contains(err.Error(), c.want) || hint.Of(err) == "" {
			t.Errorf("%s: error %v, hint %q; want %q", c.file, err, hint.Of(err), c.want)
		}
	}
}
