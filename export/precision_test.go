package export

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// decoded is the value of a finite binary16 number, from the definition.
func decoded(h uint16) float32 {
	sign, exponent, fraction := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	if exponent == 0 {
		return float32(sign * math.Ldexp(fraction, -24))
	}
	return float32(sign * math.Ldexp(1024+fraction, exponent-25))
}

func TestFloat16_RoundsToTheNearest(t *testing.T) {
	for h := range uint16(0x7c00) { // all that are finite and not negative
		x := decoded(h)
		for _, negative := range []uint16{0, 0x8000} {
			if got := float16(decoded(h | negative)); got != h|negative {
				t.Fatalf("%g became %#x: want %#x", decoded(h|negative), got, h|negative)
			}
		}
		if h == 0x7bff {
			break
		}
		middle := (x + decoded(h+1)) / 2 // exact in float32
		even := h + h&1
		if got := float16(middle); got != even {
			t.Fatalf("half-way between %#x and the next, %g became %#x: want %#x", h, middle, got, even)
		}
		below, above := math.Nextafter32(middle, 0), math.Nextafter32(middle, 1e6)
		if float16(below) != h || float16(above) != h+1 {
			t.Fatalf("next to half-way, %g and %g became %#x and %#x: want %#x and %#x", below, above, float16(below), float16(above), h, h+1)
		}
	}
	for x, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, -1e30: 0xfc00, float32(math.Inf(1)): 0x7c00, 1e-10: 0} {
		if got := float16(x); got != want {
			t.Errorf("%g became %#x: want %#x", x, got, want)
		}
	}
	if got := float16(float32(math.NaN())); got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
		t.Errorf("not-a-number became %#x", got)
	}
}

func TestQuantisedWeight_EachColumnHasItsScale(t *testing.T) {
	g := newGraph(opSpec(), opWeights, DefaultOpset)
	weight, scale := g.quantisedWeight(&constant{name: "w", dims: []int{2, 3}, floats: []float32{127, 0.5, 0, -63.4, -1, 0}})
	if diff := cmp.Diff([]float32{1, 1. / 127, 1. / 127}, g.known[scale].floats); diff != "" {
		t.Errorf("scales (-want +got):\n%s", diff)
	}
	var got []int8
	for _, b := range g.known[weight].raw {
		got = append(got, int8(b))
	}
	if diff := cmp.Diff([]int8{127, 64, 0, -63, -127, 0}, got); diff != "" { // 63.5 to the even one
		t.Errorf("numbers (-want +got):\n%s", diff)
	}
}

// heldOutStudies are studies of one or two images of noise, and labels that have something to do with what the graph says of them.
func heldOutStudies(t *testing.T, dir string, n int) *HeldOut {
	t.Helper()
	r, err := readRun(dir)
	must(t, err)
	m, err := r.open("test.onnx", Graph{}, 1, Options{})
	must(t, err)
	t.Cleanup(func() { m.Close() })
	s := r.metadata.Spec
	images, views := exporttest.Inputs(2*n, s)
	pixels := s.ImageSize * s.ImageSize
	h := &HeldOut{Image: func(i int, dst []float32) { copy(dst, images[i*pixels:(i+1)*pixels]) }}
	out, err := m.Run(t.Context(), images, views)
	must(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		study := HeldOutStudy{Patient: fmt.Sprint("p", i/2), Images: []int{2 * i, 2*i + 1}, Views: views[2*i : 2*i+2]}
		for l, p := range out.Probability[2*i] {
			if float64(p) > 0.5+0.002*rng.NormFloat64() {
				study.Labels[l] = model.Positive
			}
		}
		h.Studies = append(h.Studies, study)
	}
	return h
}

func TestExport_LowerPrecisionIsProven(t *testing.T) {
	dir := writeRun(t, "nano")
	h := heldOutStudies(t, dir, 60)
	out := filepath.Join(t.TempDir(), "model.onnx")
	stages := map[string]int{}
	summary, err := Export(t.Context(), dir, out, Options{
		Graph: Graph{Precision: FP16, Opset: 20}, HeldOut: h, Force: true,
		Progress: func(stage string, images, _ int) { stages[stage] += images },
	})
	must(t, err)
	c := summary.Check
	if c == nil || c.Studies != 60 || c.Patients != 30 || c.LogitDifference == 0 || c.LogitDifference > 1e-2 || c.BrierLoss.Low > c.BrierLoss.High {
		t.Errorf("check %+v", c)
	}
	if diff := cmp.Diff(map[string]int{"verify": exporttest.ParityImages, "compare": 240}, stages); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	contents, err := Inspect(out)
	must(t, err)
	if diff := cmp.Diff(c, contents.Metadata.Check); diff != "" || contents.Metadata.Precision != "fp16" || contents.Opset != 20 {
		t.Errorf("the file says %s, opset %d, check (-want +got):\n%s", contents.Metadata.Precision, contents.Opset, diff)
	}
	m, err := ort.Open(out, ort.Options{})
	must(t, err)
	m.Close()
	text, err := os.ReadFile(summary.Card)
	must(t, err)
	if want := "Against float32, on 60 held-out studies of 30 patients, fp16 loses"; !strings.Contains(string(text), want) {
		t.Errorf("the card lacks %q:\n%s", want, text)
	}
}

func TestExport_LossyOrUnprovenPrecisionIsRefused(t *testing.T) {
	dir := writeRun(t, "nano")
	h := heldOutStudies(t, dir, 12) // too few to show anything of labels that the scores know nothing of
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range h.Studies {
		for l := range h.Studies[i].Labels {
			h.Studies[i].Labels[l] = model.LabelState(rng.IntN(2))
		}
	}
	oneClass := &HeldOut{Image: h.Image, Studies: slices.Clone(h.Studies)}
	for i := range oneClass.Studies {
		oneClass.Studies[i].Labels = model.LabelSet{}
	}
	for name, c := range map[string]struct {
		held *HeldOut
		want string
	}{
		"no studies":  {nil, "precision int8 has to be proven, and there are no held-out studies"},
		"too few":     {h, "int8 loses too much, or that it does not is not shown: macro AUROC "},
		"one class":   {oneClass, "no label has both classes"},
		"one patient": {&HeldOut{Image: h.Image, Studies: h.Studies[:2]}, "are of one patient"},
	} {
		out := filepath.Join(t.TempDir(), "model.onnx")
		o := Options{Graph: Graph{Precision: INT8}, HeldOut: c.held}
		_, err := Export(t.Context(), dir, out, o)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), "--force") {
			t.Errorf("%s: error %v, hint %q: want %q and --force", name, err, hint.Of(err), c.want)
		}
		if names := listDir(t, filepath.Dir(out)); len(names) != 0 {
			t.Errorf("%s: the folder holds %v: want nothing", name, names)
		}
		o.Force = true
		summary, err := Export(t.Context(), dir, out, o)
		must(t, err)
		if measured := summary.Check != nil; measured != (name == "too few") || measured && summary.Check.Passed {
			t.Errorf("%s, forced: check %+v", name, summary.Check)
		}
		card, err := os.ReadFile(summary.Card)
		must(t, err)
		if !strings.Contains(string(card), "the file was forced") {
			t.Errorf("%s: the card does not say that it was forced", name)
		}
	}
	var loss *LossError
	if _, err := Export(t.Context(), dir, filepath.Join(t.TempDir(), "m.onnx"), Options{Graph: Graph{Precision: INT8}, HeldOut: h}); !errors.As(err, &loss) {
		t.Errorf("error %v: want a LossError", err)
	}
}

func TestLosses_SignsAndVerdict(t *testing.T) {
	dir := writeRun(t, "nano")
	r, err := readRun(dir)
	must(t, err)
	h := heldOutStudies(t, dir, 60)
	m, err := r.open("test.onnx", Graph{}, 1, Options{})
	must(t, err)
	defer m.Close()
	rows, _, err := r.score(t.Context(), m, h, func() {})
	must(t, err)
	same, err := losses(rows, rows)
	must(t, err)
	if zero := (model.Interval{}); same.AUROCLoss != zero || same.BrierLoss != zero || !same.Passed {
		t.Errorf("a model against itself: %+v", same)
	}
	worse := slices.Clone(rows)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range worse {
		for l := range worse[i].Scores {
			worse[i].Scores[l] = rng.Float64()
		}
	}
	c, err := losses(rows, worse)
	must(t, err)
	for _, loss := range []model.Interval{c.AUROCLoss, c.BrierLoss} {
		if c.Passed || !(0 < loss.Low && loss.Low <= loss.Value && loss.Value <= loss.High) {
			t.Errorf("noise against a model: %+v", c)
		}
	}
	better, err := losses(worse, rows)
	must(t, err)
	if !better.Passed || better.AUROCLoss.Value != -c.AUROCLoss.Value {
		t.Errorf("a model against noise: %+v", better)
	}
}
