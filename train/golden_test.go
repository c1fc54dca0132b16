package train

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/goldentest"
)

// The tolerances of testdata/golden/README.md on gradients, for a float32 build.
const (
	gradAbsTol = 1e-5
	gradRelTol = 1e-4
)

var testDevice = sync.OnceValues(func() (*Device, error) { return OpenDevice("cpu") })

// device opens XLA's CPU plugin once for all tests.
func device(t testing.TB) *Device {
	t.Helper()
	libs.ForTests(t)
	dev, err := testDevice()
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// packed are the case's existing views as one batch, or with padded all of its slots; spare adds that many empty places at
// the end, as in real training.
func packed(c goldentest.Case, spare int, padded bool) (inputs []any, slots []int) {
	avail, image, view, perm := c.Tensors["in.avail"], c.Tensors["in.image"], c.Tensors["in.view"], c.Tensors["in.perm"]
	studies, perStudy, s, n := avail.Dims[0], avail.Dims[1], c.Spec.ImageSize, c.Spec.NumPatches()
	for slot, a := range avail.Data {
		if a == 1 || padded {
			slots = append(slots, slot)
		}
	}
	v := len(slots) + spare
	images, views := make([]float32, v*s*s), make([]int32, v)
	keep, restore := make([]int32, v*c.Config.Visible), make([]int32, v*n)
	study := make([]float32, (studies+spare)*v)
	for i, slot := range slots {
		copy(images[i*s*s:], image.Data[slot*s*s:(slot+1)*s*s])
		views[i] = int32(view.Data[slot])
		for place, patch := range perm.Data[slot*n : (slot+1)*n] {
			restore[i*n+int(patch)] = int32(place)
			if place < c.Config.Visible {
				keep[i*c.Config.Visible+place] = int32(patch)
			}
		}
		study[slot/perStudy*v+i] = avail.Data[slot]
	}
	return []any{
		tensors.FromFlatDataAndDimensions(images, v, s, s), tensors.FromFlatDataAndDimensions(views, v),
		tensors.FromFlatDataAndDimensions(keep, v, c.Config.Visible), tensors.FromFlatDataAndDimensions(restore, v, n),
		tensors.FromFlatDataAndDimensions(study, studies+spare, v),
	}, slots
}

func batchOf(in []node) pretrainBatch {
	return pretrainBatch{image: in[0], view: in[1], keep: in[2], restore: in[3], study: in[4]}
}

func product(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

func flat(t *testing.T, x *tensors.Tensor) []float32 {
	t.Helper()
	data, err := tensors.CopyFlatData[float32](x)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func within(t *testing.T, what string, got, want []float32, abs, rel float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		diff, scale := math.Abs(float64(got[i])-float64(want[i])), math.Abs(float64(want[i]))
		if !(diff <= abs+rel*scale) {
			t.Errorf("%s[%d] is %g, want %g (off by %.3g)", what, i, got[i], want[i], diff)
			return
		}
	}
}

func TestGoldenPaperMVMAE(t *testing.T) {
	goldentest.Run(t, "paper_mvmae_", func(t *testing.T, c goldentest.Case) {
		for _, spare := range []int{0, 3} {
			t.Run(fmt.Sprint("spare", spare), func(t *testing.T) { checkPretrain(t, c, "paper", spare, false) })
		}
	})
}

// Packed views and all slots give the same losses and gradients: an empty slot counts in neither.
func TestGoldenCodeMVMAE(t *testing.T) {
	goldentest.Run(t, "code_mvmae_", func(t *testing.T, c goldentest.Case) {
		t.Run("packed", func(t *testing.T) { checkPretrain(t, c, "code", 3, false) })
		t.Run("slots", func(t *testing.T) { checkPretrain(t, c, "code", 0, true) })
	})
}

// checkPretrain compares losses, features, images and gradients with all that the case says of them.
func checkPretrain(t *testing.T, c goldentest.Case, recipe string, spare int, padded bool) {
	cfg := Config{Recipe: recipe, Mask: MaskConfig{Ratio: c.Config.MaskRatio}}
	params := c.Spec.Params(model.PartEncoder, model.PartDecoder)
	store, err := newStore(params, c.Params())
	if err != nil {
		t.Fatal(err)
	}
	exec, err := gomodel.NewExec(device(t).Backend, store, func(_ *gomodel.Scope, in []node) []node {
		o := graphOps{store: store, g: in[0].Graph()}
		l := buildPretrain(o, cfg, c.Spec, batchOf(in), graph.Const(o.g, float32(c.Config.Beta)))
		values := make([]node, len(params))
		for i, p := range params {
			values[i] = o.Param(p.Name)
		}
		if l.pooled == nil {
			l.pooled = l.tokens
		}
		out := []node{l.total, l.reconstruction, l.alignment, l.alignStudy, l.recView, l.tokens, l.patches, l.pooled}
		return append(out, graph.Gradient(l.total, values...)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	in, slots := packed(c, spare, padded)
	out, err := exec.Call(in...)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"total_loss", "rec_loss", "align_loss", "align_loss_study"} {
		if want, ok := c.Tensors["out."+name]; ok {
			within(t, name, flat(t, out[i])[:len(want.Data)], want.Data, goldentest.Tolerance, 0)
		}
	}
	perView := map[string][]float32{"rec_loss_view": flat(t, out[4]), "features": flat(t, out[5]), "recon": flat(t, out[6])}
	if recipe == "code" {
		perView["pooled"] = flat(t, out[7])
	}
	for name, got := range perView {
		want := c.Tensors["out."+name]
		n := product(want.Dims[2:])
		for i, slot := range slots {
			view := got[i*n : (i+1)*n]
			if name == "recon" {
				view = unpatchify(view, c.Spec)
			}
			within(t, name, view, want.Data[slot*n:(slot+1)*n], goldentest.Tolerance, 0)
		}
	}
	for i, p := range params {
		want, ok := c.Tensors["grad."+p.Name]
		if _, total := c.Tensors["out.total_loss"]; total && !ok {
			t.Errorf("the case has no gradient of %s", p.Name)
		}
		if ok {
			within(t, "grad."+p.Name, flat(t, out[8+i]), want.Data, gradAbsTol, gradRelTol)
		}
	}
}

func TestGoldenAdamWSteps(t *testing.T) {
	goldentest.Run(t, "adamw_steps", checkAdamW)
}

func checkAdamW(t *testing.T, c goldentest.Case) {
	params := c.Spec.Params(model.PartEncoder, model.PartDecoder)
	decayed := map[string]bool{}
	for _, name := range c.Config.Decayed {
		decayed[name] = true
	}
	for _, p := range params {
		if p.Decayed() != decayed[p.Name] {
			t.Errorf("%s: decayed is %v, the case says %v", p.Name, p.Decayed(), decayed[p.Name])
		}
	}
	store, err := newStore(params, c.Params())
	if err != nil {
		t.Fatal(err)
	}
	addMoments(store, params, nil)
	opt := AdamW{Beta1: c.Config.Beta1, Beta2: c.Config.Beta2, Eps: c.Config.Eps, WeightDecay: c.Config.WeightDecay, ClipNorm: c.Config.Clip}
	exec, err := gomodel.NewExec(device(t).Backend, store, func(_ *gomodel.Scope, in []node) []node {
		o := graphOps{store: store, g: in[0].Graph()}
		l := buildPretrain(o, Default(), c.Spec, batchOf(in), graph.Const(o.g, float32(c.Config.Beta)))
		return []node{l.total, opt.update(o, params, nil, l.total, in[5])}
	})
	if err != nil {
		t.Fatal(err)
	}
	var losses, norms []float32
	for step := range c.Config.Steps + 1 { // one more step shows the loss after the last update
		if step == c.Config.Steps {
			got, err := readVariables(store, params, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range params {
				checkFinal(t, p.Name, got[p.Name].Data, c.Tensors["final."+p.Name].Data)
			}
		}
		in, _ := packed(c, 0, false)
		scalars := opt.stepScalars(c.Config.LR, step+1)
		out, err := exec.Call(append(in, tensors.FromFlatDataAndDimensions(scalars[:], len(scalars)))...)
		if err != nil {
			t.Fatal(err)
		}
		losses, norms = append(losses, flat(t, out[0])...), append(norms, flat(t, out[1])...)
	}
	within(t, "loss", losses, c.Tensors["out.loss"].Data, goldentest.Tolerance, 0)
	within(t, "grad_norm", norms[:c.Config.Steps], c.Tensors["out.grad_norm"].Data, goldentest.Tolerance, gradRelTol)
}

// checkFinal allows 5e-3 on the key third of attention biases: its gradient is mathematically zero, and Adam amplifies
// the rounding noise (README of the golden cases, D).
func checkFinal(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if strings.HasSuffix(name, "attn.qkv.bias") {
		third := len(got) / 3
		within(t, "final."+name+" (keys)", got[third:2*third], want[third:2*third], 5e-3, 0)
		got = append(append([]float32{}, got[:third]...), got[2*third:]...)
		want = append(append([]float32{}, want[:third]...), want[2*third:]...)
	}
	within(t, "final."+name, got, want, gradAbsTol, gradRelTol)
}

func TestGoldenViTClassifier(t *testing.T) {
	goldentest.Run(t, "vit_classifier_", checkClassifier)
}

func checkClassifier(t *testing.T, c goldentest.Case) {
	params := c.Spec.Params(model.PartEncoder, model.PartHead)
	store, err := newStore(params, c.Params())
	if err != nil {
		t.Fatal(err)
	}
	exec, err := gomodel.NewExec(device(t).Backend, store, func(_ *gomodel.Scope, in []node) []node {
		o := graphOps{store: store, g: in[0].Graph()}
		features := model.Encode(o, c.Spec, model.Patchify(o, c.Spec, in[0]), in[1], nil)
		embedding := model.Embed(o, c.Spec, in[0], in[1])
		logits := model.Head(o, embedding)
		loss := bce(logits, in[2], graph.OnesLike(logits))
		values := make([]node, len(params))
		for i, p := range params {
			values[i] = o.Param(p.Name)
		}
		return append([]node{features, embedding, logits, loss}, graph.Gradient(loss, values...)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	in, target := c.Tensors["in.image"], c.Tensors["in.target"]
	views := make([]int32, in.Dims[0])
	for i, v := range c.Tensors["in.view"].Data {
		views[i] = int32(v)
	}
	out, err := exec.Call(tensors.FromFlatDataAndDimensions(in.Data, in.Dims[0], c.Spec.ImageSize, c.Spec.ImageSize),
		tensors.FromFlatDataAndDimensions(views, len(views)), tensors.FromFlatDataAndDimensions(target.Data, target.Dims...))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"features", "cls", "logits", "bce_loss"} {
		within(t, name, flat(t, out[i]), c.Tensors["out."+name].Data, goldentest.Tolerance, 0)
	}
	for i, p := range params {
		within(t, "grad."+p.Name, flat(t, out[4+i]), c.Tensors["grad."+p.Name].Data, gradAbsTol, gradRelTol)
	}
}

func TestGoldenSchedules(t *testing.T) {
	for _, path := range goldentest.Files(t, "schedules*.json") {
		t.Run(filepath.Base(path), func(t *testing.T) { checkSchedules(t, path) })
	}
}

func checkSchedules(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	type rate struct {
		Base   float64 `json:"base_lr"`
		Min    float64 `json:"min_lr"`
		Warmup int
		Steps  int
		Epochs int
		LR     []float64
	}
	type ramp struct {
		Start, End           int
		Target, Final, Steep float64
		Steepness            float64
		Beta                 []float64
	}
	check := func(what string, at func(int) float64, want []float64) {
		if len(want) == 0 {
			t.Errorf("%s: no values", what)
		}
		for i, w := range want {
			if got := at(i); math.Abs(got-w) > 1e-12+1e-12*math.Abs(w) { // float64 against float64
				t.Errorf("%s at %d is %v, want %v", what, i, got, w)
				return
			}
		}
	}
	decays := map[string]string{
		"warmup_cosine": "cosine", "warmup_cosine_min": "cosine", "warmup_cosine_plus1": "cosine_plus1", "reference_epoch_lr": "reference",
	}
	for name, raw := range doc {
		if decay, ok := decays[name]; ok {
			var r rate
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			s := Schedule{Decay: decay, Base: r.Base, Floor: r.Min, Warmup: r.Warmup, Steps: r.Steps + r.Epochs}
			check(name, s.At, r.LR)
			continue
		}
		form, ok := strings.CutSuffix(name, "_beta")
		if !ok {
			t.Errorf("no schedule is called %s", name)
			continue
		}
		var ramps []ramp
		if err := json.Unmarshal(raw, &ramps); err != nil {
			t.Fatal(err)
		}
		for _, r := range ramps {
			check(name, Ramp{Form: form, Target: r.Target + r.Final, Start: r.Start, End: r.End, Steepness: r.Steepness}.At, r.Beta)
		}
	}
}

// unpatchify puts patches [N,P*P] back as an image [S*S].
func unpatchify(patches []float32, s model.Spec) []float32 {
	out := make([]float32, len(patches))
	p, g := s.PatchSize, s.Grid()
	for i, x := range patches {
		patch, pixel := i/(p*p), i%(p*p)
		out[(patch/g*p+pixel/p)*s.ImageSize+patch%g*p+pixel%p] = x
	}
	return out
}
