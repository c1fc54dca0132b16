package train

import (
	"fmt"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/goldentest"
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
	cfg.Clean, cfg.Mask.Ratio = clean, c.Config.MaskRatio
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
