package train

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/goldentest"
	"github.com/mvmae/mvmae/train/data"
)

// The published code with its three faults, which takes all slots, and without them, where packed views are enough.
func TestGoldenCodeV2T(t *testing.T) {
	goldentest.Run(t, "code_v2t_", func(t *testing.T, c goldentest.Case) {
		t.Run("as run", func(t *testing.T) { checkV2T(t, c, "", false, 0) })
		t.Run("clean, slots", func(t *testing.T) { checkV2T(t, c, "clean.", true, 0) })
		t.Run("clean, packed", func(t *testing.T) { checkV2T(t, c, "clean.", true, 3) })
	})
}

// checkV2T compares text losses, logits and all gradients with those of the case, under a prefix. spare is as in packed; without it all
// slots are taken.
func checkV2T(t *testing.T, c goldentest.Case, prefix string, clean bool, spare int) {
	cfg := Code()
	cfg.Clean, cfg.Mask.Ratio, cfg.Text.Weight = clean, c.Config.MaskRatio, c.Config.Gamma
	params := c.Spec.Params(model.PartEncoder, model.PartDecoder, model.PartText)
	store, err := newStore(params, c.Params())
	if err != nil {
		t.Fatal(err)
	}
	exec, err := gomodel.NewExec(device(t).Backend, store, func(_ *gomodel.Scope, in []node) []node {
		o := graphOps{store: store, g: in[0].Graph()}
		b := batchOf(in)
		b.text = &textBatch{in[5], in[6], in[7], in[8]}
		l := buildPretrain(o, cfg, c.Spec, b, graph.Const(o.g, float32(c.Config.Beta)))
		out := []node{l.total, l.reconstruction, l.alignment, l.text, l.textView, l.logits}
		return append(out, gradients(o, params, l.total)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	in, slots := packed(c, spare, spare == 0)
	w := &writer{cfg: TextConfig{MaxTokens: c.Spec.Text.MaxTokens}, asRun: !clean}
	in = append(in, caseTexts(c, w, slots, spare)...)
	out, err := exec.Call(in...)
	if err != nil {
		t.Fatal(err)
	}
	want := func(name string) model.Tensor {
		x, ok := c.Tensors[prefix+"out."+name]
		if !ok {
			x, ok = c.Tensors["out."+name] // what the faults do not touch
		}
		if !ok {
			t.Fatalf("the case has no %s", name)
		}
		return x
	}
	for i, name := range []string{"total_loss", "rec_loss", "align_loss", "text_loss"} {
		within(t, name, flat(t, out[i]), want(name).Data, goldentest.Tolerance, 0)
	}
	n, steps := c.Spec.Text.Vocabulary, c.Spec.Text.Steps()
	views, logits, labels := flat(t, out[4]), flat(t, out[5]), c.Tensors["in.labels"].Data
	for i, slot := range slots {
		within(t, fmt.Sprintf("text_loss_sample of slot %d", slot), views[i:i+1], want("text_loss_sample").Data[slot:slot+1], goldentest.Tolerance, 0)
		for k := range steps { // where a step is fed no token, the reference feeds a vector of zeros: no target depends on it
			if k > 0 && labels[slot/Slots*(steps+1)+k] < 0 && (clean || slot%Slots == 0) {
				break
			}
			within(t, fmt.Sprintf("text_logits of slot %d, step %d", slot, k), logits[(i*steps+k)*n:(i*steps+k+1)*n],
				want("text_logits").Data[(slot*steps+k)*n:(slot*steps+k+1)*n], goldentest.Tolerance, 0)
		}
	}
	for i, p := range params {
		grad, ok := c.Tensors[prefix+"grad."+p.Name]
		if !ok {
			t.Errorf("the case has no gradient of %s", p.Name)
			continue
		}
		within(t, "grad."+p.Name, flat(t, out[6+i]), grad.Data, gradAbsTol, gradRelTol)
	}
}

// caseTexts are the case's reports as inputs, for the views in some of its slots.
func caseTexts(c goldentest.Case, w *writer, slots []int, spare int) []any {
	n := c.Spec.Text.Steps()
	v := len(slots) + spare
	tokens, target := []int32{}, []int32{}
	written := make([]float32, v)
	for i, slot := range slots {
		labels := []int32{model.TextStart}
		for _, x := range c.Tensors["in.labels"].Data[slot/Slots*(n+1)+1 : (slot/Slots+1)*(n+1)] {
			labels = append(labels, int32(max(x, -1)))
		}
		tokens, target = w.append(tokens, target, labels, slot%Slots)
		written[i] = c.Tensors["in.text_avail"].Data[slot/Slots]
		if !w.asRun {
			written[i] *= c.Tensors["in.avail"].Data[slot]
		}
	}
	for range spare * n {
		tokens, target = append(tokens, model.TextPadding), append(target, -1)
	}
	return []any{
		tensors.FromFlatDataAndDimensions(tokens, v, n), tensors.FromFlatDataAndDimensions(target, v, n),
		tensors.FromFlatDataAndDimensions(written, v), tensors.FromFlatDataAndDimensions(make([]int32, v), v),
	}
}

// v2tConfig is a run of seconds that writes.
func v2tConfig() Config {
	cfg := testConfig()
	cfg.Method = methodV2T
	cfg.Text = TextConfig{Vocabulary: 280, MaxTokens: 24, Depth: 1, Heads: 4, Positions: true, End: true, Weight: 1}
	return cfg
}

// writeReports names, in words, which of the first four squares of a study are bright; every fifth study has no report.
func writeReports(img *data.Image) {
	var number int
	fmt.Sscanf(img.StudyID, "s%d", &number)
	if number%5 == 1 {
		return
	}
	words := []string{"Squares:"}
	for l, word := range []string{"one", "two", "three", "four"} {
		if img.Labels[l] == model.Positive {
			words = append(words, word)
		}
	}
	img.Report = strings.Join(words, " ")
}

// described pretrains a run to its end, and reads its checkpoint and what it says of its reports.
func described(t *testing.T, run *Run, pack *data.Pack) (weights model.Tensors, left Description) {
	t.Helper()
	weights = finalWeights(t, run, pack)
	doc, err := os.ReadFile(run.path(TextFile))
	if err == nil {
		err = json.Unmarshal(doc, &left)
	}
	if err != nil {
		t.Fatal(err)
	}
	return weights, left
}

// checkClassifiers makes a probe and a finetuned classifier of a run that wrote: with its encoder, and with nothing of its text decoder.
func checkClassifiers(t *testing.T, pre *Run, pretrained model.Tensors, pack *data.Pack, cfg Config) {
	t.Helper()
	cfg.Preset = "nano"
	cfg.Probe.Epochs, cfg.Probe.WarmupEpochs, cfg.Probe.BatchViews, cfg.Probe.Replicates = 2, 0, 12, 10
	cfg.Finetune.BatchViews, cfg.Finetune.Epochs = 12, 1
	cfg.Finetune.Optim.BaseLR, cfg.Finetune.Optim.MinLR, cfg.Finetune.Optim.WarmupEpochs = 1e-9, 0, 0 // hardly a step: what comes out is what went in
	for kind, tolerance := range map[string]float64{"probe": 0, "finetune": 1e-6} {
		run := newRun(t, kind, pre.Dir, pack, cfg)
		var err error
		if kind == "probe" {
			_, err = Probe(t.Context(), device(t), run, pack, func(ProbeStatus) {})
		} else {
			_, err = Finetune(t.Context(), device(t), run, pack, func(Status) {})
		}
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		got, _, err := model.ReadSafetensors(run.path(model.RunCheckpoint))
		if err != nil {
			t.Fatal(err)
		}
		same := 0
		for name, x := range got {
			if from, ok := pretrained[name]; ok {
				same++
				within(t, kind+": "+name, x.Data, from.Data, tolerance, 0)
			}
			if strings.HasPrefix(name, "text_decoder.") {
				t.Errorf("%s: the classifier has %s", kind, name)
			}
		}
		if same != len(got)-2 { // all but the head's weight and bias
			t.Errorf("%s: %d of the classifier's %d parameters are the run's", kind, same, len(got))
		}
		_, meta, err := OpenClassifier(device(t), run.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if meta.Encoder.Method != methodV2T || meta.Encoder.RunID != pre.Info.ID {
			t.Errorf("%s: the encoder is of %+v", kind, meta.Encoder)
		}
	}
}

// A decoder that sees the image learns to read in it what nobody could guess.
func TestPretrainV2T_ReadsTheImageAndDescribesIt(t *testing.T) {
	pack := makePack(t, 250, writeReports)
	cfg := v2tConfig()
	cfg.Epochs, cfg.BatchViews, cfg.Loss.Beta, cfg.Mask.Ratio, cfg.Optim.ClipNorm = 30, 24, 0, 0.25, 1
	cfg.Text.MaxTokens, cfg.Text.Depth = 12, 2
	cfg.Augment = Augment{CropMin: 1} // where a square is matters
	run := newRun(t, "pretrain", "", pack, cfg)
	weights, left := described(t, run, pack)
	log := logged[StepMetrics](t, run)
	last := log[len(log)-1]
	if left.Step != last.Step || len(left.Samples) != 8 || !strings.HasPrefix(left.Samples[0].Written, "Squares:") {
		t.Errorf("the run's description: %+v", left)
	}
	if g := left.Gain; !(g.Accuracy.Low > 0.05 && g.CrossEntropy.High < -0.1) {
		t.Errorf("of its own image it gains %v in tokens, %v in nats a token", g.Accuracy, g.CrossEntropy)
	}
	told := 0
	for _, m := range log {
		if m.TextOwn > 0 && m.TextOther > 0 {
			told++
		}
	}
	if told != int(cfg.Epochs) || !(last.TextOwn < last.TextOther-0.1) {
		t.Errorf("of %v epochs %d tell what is read in the image; the last: %v nats with the own image, %v with another", cfg.Epochs, told, last.TextOwn, last.TextOther)
	}

	opt := DescribeOptions{Split: data.Validate, Replicates: 20}
	sighted, err := Describe(t.Context(), device(t), run, pack, opt)
	if err != nil {
		t.Fatal(err)
	}
	if sighted.Own.Accuracy.Value != left.Own.Accuracy.Value {
		t.Errorf("described again: %+v, want %+v", sighted.Own, left.Own)
	}
	run.Config.Text.Blind = true
	blind, err := Describe(t.Context(), device(t), run, pack, opt)
	if err != nil {
		t.Fatal(err)
	}
	if g := blind.Gain; g.Accuracy.Value != 0 || g.CrossEntropy.Value != 0 {
		t.Errorf("a blind decoder gains %v of the image", g)
	}
	less, err := sighted.Less(blind, 20)
	if err != nil {
		t.Fatal(err)
	}
	if want := sighted.Own.CrossEntropy.Value - blind.Own.CrossEntropy.Value; math.Abs(float64(less.CrossEntropy.Value-want)) > 1e-9 {
		t.Errorf("sighted less blind is %v, want %v", less.CrossEntropy, want)
	}

	run.Config.Text.Blind = false
	checkClassifiers(t, run, weights, pack, testConfig())
}

func TestWriter_LabelsAndInputs(t *testing.T) {
	pack := makePack(t, 10, writeReports)
	cfg := v2tConfig()
	run := newRun(t, "pretrain", "", pack, cfg)
	w, err := newWriter(run, pack)
	if err != nil {
		t.Fatal(err)
	}
	again, err := newWriter(run, makePack(t, 3, func(img *data.Image) { img.Report = "other words" }))
	if err != nil {
		t.Fatal(err)
	}
	if again.tok.Size() != w.tok.Size() {
		t.Errorf("the run's tokenizer has %d tokens, after it was stored %d", w.tok.Size(), again.tok.Size())
	}

	tokens := w.tok.Encode("Squares: At")
	n := int32(len(tokens))
	w.cfg.MaxTokens = len(tokens) + 3
	marks := func(labels []int32) (string, int) { // what there is beside the words
		out := ""
		for _, x := range labels {
			switch {
			case x < 0:
				out += "-"
			case x == model.TextStart:
				out += "("
			case x == model.TextEnd:
				out += ")"
			default:
				out += "w"
			}
		}
		return out, len(labels)
	}
	for _, c := range []struct {
		end    bool
		max    int32
		report string
		want   string
	}{
		{true, n + 3, "Squares: At", "(" + strings.Repeat("w", int(n)) + ")-"},
		{true, n + 2, "Squares: At", "(" + strings.Repeat("w", int(n)) + ")"},
		{true, n + 1, "Squares: At", "(" + strings.Repeat("w", int(n))}, // cut off: it does not end here
		{false, n + 2, "Squares: At", "(" + strings.Repeat("w", int(n)) + "-"},
		{false, n + 1, "Squares: At", "(" + strings.Repeat("w", int(n)-1) + "-"},
		{true, 4, "", "()--"},
	} {
		w.cfg.End, w.cfg.MaxTokens = c.end, int(c.max)
		if got, size := marks(w.labels(c.report)); got != c.want || size != int(c.max) {
			t.Errorf("end %v, %d tokens: %s (%d), want %s", c.end, c.max, got, size, c.want)
		}
	}

	w.cfg = cfg.Text
	w.cfg.ParallelFraction = 1
	loader, err := newLoader(cfg, cfg.BatchViews, pack, pack.StudiesOf(data.Train))
	if err != nil {
		t.Fatal(err)
	}
	b := loader.deal(newRand(1, streamDraws, 0))
	in := w.inputs(newRand(1, streamDraws, 0), b)
	target, err := tensors.CopyFlatData[int32](in[1].(*tensors.Tensor))
	if err != nil {
		t.Fatal(err)
	}
	form, err := tensors.CopyFlatData[int32](in[3].(*tensors.Tensor))
	if err != nil {
		t.Fatal(err)
	}
	steps, with := cfg.Text.MaxTokens-1, 0
	for i, p := range b.places {
		report := p.row >= 0 && pack.Studies[b.studies[p.row]].Report != ""
		any := slices.ContainsFunc(target[i*steps:(i+1)*steps], func(x int32) bool { return x >= 0 })
		if written := flat(t, in[2].(*tensors.Tensor))[i] == 1; written != report || any != report || (form[i] == 1) != (p.row >= 0) {
			t.Errorf("place %d: a report is there: %v; marked %v, with targets %v, form %d", i, report, written, any, form[i])
		}
		if report {
			with++
		}
	}
	if with == 0 || with == len(b.places) {
		t.Errorf("%d of %d places have a report: the case shows nothing", with, len(b.places))
	}
}

// The published program as it ran: three slots a study, no end to predict, padding scored from the second slot on.
func TestPretrainV2T_RecipeCodeAsRun(t *testing.T) {
	pack := makePack(t, 20, writeReports)
	cfg := Code()
	own := v2tConfig()
	cfg.Preset, cfg.Method, cfg.Clean, cfg.BatchViews, cfg.Epochs, cfg.Optim.WarmupEpochs = "nano", methodV2T, false, 12, 2, 0
	cfg.Text, cfg.Probe.Replicates = own.Text, 10
	cfg.Text.Positions, cfg.Text.End = false, false
	run := newRun(t, "pretrain", "", pack, cfg)
	w, err := newWriter(run, pack)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoader(cfg, cfg.BatchViews, pack, pack.StudiesOf(data.Train))
	if err != nil {
		t.Fatal(err)
	}
	b := l.deal(newRand(1, streamDraws, 0))
	in := w.inputs(newRand(1, streamDraws, 0), b)
	target, err := tensors.CopyFlatData[int32](in[1].(*tensors.Tensor))
	if err != nil {
		t.Fatal(err)
	}
	steps := cfg.Text.MaxTokens - 1
	for i := range b.places {
		padded := !slices.ContainsFunc(target[i*steps:(i+1)*steps], func(x int32) bool { return x < 0 })
		report := pack.Studies[b.studies[i/Slots]].Report != ""
		if written := flat(t, in[2].(*tensors.Tensor))[i] == 1; padded != (i%Slots > 0) || written != report {
			t.Errorf("slot %d of a study with a report (%v): scored on padding %v, marked %v", i%Slots, report, padded, written)
		}
	}

	weights, left := described(t, run, pack)
	if e := left.Own.CrossEntropy.Value; !(e > 0) || len(left.Samples) == 0 {
		t.Errorf("the run's description: %+v", left)
	}
	checkClassifiers(t, run, weights, pack, Code())
}

// In the causal form a token tells the steps from its own on, in the parallel one none.
func TestDecodeText_SeesWhatItsFormAllows(t *testing.T) {
	spec, err := model.Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	spec.Text = model.Text{Vocabulary: 300, MaxTokens: 7, Depth: 2, Heads: 4, Positions: true}
	params := spec.Params(model.PartEncoder, model.PartText)
	store, err := newStore(params, initialise(params, 3))
	if err != nil {
		t.Fatal(err)
	}
	exec, err := gomodel.NewExec(device(t).Backend, store, func(_ *gomodel.Scope, in []node) node {
		o := graphOps{store: store, g: in[0].Graph()}
		b := textBatch{tokens: in[2], form: in[3]}
		return model.DecodeText(o, spec, in[0], in[1], b.report(pretrainBatch{keep: in[4]}, false))
	})
	if err != nil {
		t.Fatal(err)
	}
	const steps, changed = 6, 3
	memory := make([]float32, 4*3*spec.Width)
	for i := range memory {
		memory[i] = float32(i%(3*spec.Width)%7) - 3 // the same for all four
	}
	tokens := []int32{2, 5, 6, 7, 8, 9 /**/, 2, 5, 6, 40, 8, 9 /**/, 2, 5, 6, 7, 8, 9 /**/, 2, 5, 6, 40, 8, 9}
	out, err := exec.Call(tensors.FromFlatDataAndDimensions(memory, 4, 3, spec.Width), tensors.FromFlatDataAndDimensions(make([]int32, 4), 4),
		tensors.FromFlatDataAndDimensions(tokens, 4, steps), tensors.FromFlatDataAndDimensions([]int32{0, 0, 1, 1}, 4),
		tensors.FromFlatDataAndDimensions([]int32{3, 9, 3, 9, 3, 9, 3, 9}, 4, 2))
	if err != nil {
		t.Fatal(err)
	}
	logits := flat(t, out[0])
	at := func(image, step int) []float32 { return logits[(image*steps+step)*300 : (image*steps+step+1)*300] }
	for step := range steps {
		if same := slices.Equal(at(0, step), at(1, step)); same != (step < changed) {
			t.Errorf("causal, step %d after another token at %d: the same is %v", step, changed, same)
		}
		if !slices.Equal(at(2, step), at(3, step)) {
			t.Errorf("parallel, step %d: a token is seen", step)
		}
		if step > 0 && slices.Equal(at(2, step), at(2, 0)) {
			t.Errorf("parallel, step %d says what step 0 does", step)
		}
	}
}
