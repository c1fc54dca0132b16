package export

import (
	"math"
	"testing"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/goldentest"
)

func TestExport_GoldenClassifier(t *testing.T) {
	goldentest.Run(t, "vit_classifier_", func(t *testing.T, c goldentest.Case) {
		s, tensors := c.Spec, c.Tensors
		views := integers(tensors["in.view"].Data)
		out, err := open(t, build(t, s, c.Params())).Run(t.Context(), tensors["in.image"].Data, views)
		if err != nil {
			t.Fatal(err)
		}
		for i := range views {
			logits := tensors["out.logits"].Data[i*model.NumLabels:][:model.NumLabels]
			compare(t, "logits", out.Logits[i][:], logits)
			compare(t, "embedding", out.Embedding[i], tensors["out.cls"].Data[i*s.Width:][:s.Width])
			for j, p := range out.Probability[i] {
				if want := 1 / (1 + math.Exp(-float64(logits[j]))); math.Abs(float64(p)-want) > goldentest.Tolerance {
					t.Errorf("probability %d of image %d is %g: want %g", j, i, p, want)
				}
			}
		}
	})
}

// The decoder and the masked encoder are never exported, but every implementation of model.Ops must run them: these cases
// are the ones that use every operation, and qk_norm.
func TestOps_GoldenMaskedAutoencoder(t *testing.T) {
	for _, prefix := range []string{"paper_mvmae_", "code_mvmae_"} {
		goldentest.Run(t, prefix, testMaskedAutoencoder)
	}
}

func testMaskedAutoencoder(t *testing.T, c goldentest.Case) {
	s, tensors, visible := c.Spec, c.Tensors, c.Config.Visible
	n, patches := len(tensors["in.view"].Data), s.NumPatches()
	order := integers(tensors["in.perm"].Data) // [n,patches]: visible patches, then masked ones
	var keep []int64
	restore := make([]int64, n*patches)
	for i := range n {
		keep = append(keep, order[i*patches:][:visible]...)
		for place, patch := range order[i*patches:][:patches] {
			restore[i*patches+int(patch)] = int64(place)
		}
	}
	forward := func(g *graph, in []value) []value {
		image, view, keep, restore := in[0], in[1], in[2], in[3]
		tokens := model.Encode(g, s, model.Patchify(g, s, image), view, &model.Visible[value]{Keep: keep, Count: visible})
		return []value{tokens, model.Decode(g, s, tokens, restore, view, visible)}
	}
	inputs := []array{
		{dims: []int{n, s.ImageSize, s.ImageSize}, floats: tensors["in.image"].Data},
		{dims: []int{n}, ints: integers(tensors["in.view"].Data)},
		{dims: []int{n, visible}, ints: keep}, {dims: []int{n, patches}, ints: restore},
	}
	out := runOps(t, s, c.Params(), forward, inputs, n)[0]
	features, pixels, want := (1+visible)*s.Width, s.ImageSize*s.ImageSize, tensors["out.recon"].Data
	for i, available := range tensors["in.avail"].Data {
		if available == 1 {
			compare(t, "features", out[0][i*features:][:features], tensors["out.features"].Data[i*features:][:features])
			compare(t, "reconstruction", unpatchify(s, out[1][i*pixels:][:pixels]), want[i*pixels:][:pixels])
		}
	}
}

// unpatchify puts patches [N,P*P] back as an image [S,S].
func unpatchify(s model.Spec, patches []float32) []float32 {
	image := make([]float32, len(patches))
	for i, v := range patches {
		patch, y, x := i/s.PatchPixels(), i%s.PatchPixels()/s.PatchSize, i%s.PatchSize
		image[(patch/s.Grid()*s.PatchSize+y)*s.ImageSize+patch%s.Grid()*s.PatchSize+x] = v
	}
	return image
}

// integers reads the golden cases' integers, which are stored as floats.
func integers(x []float32) (out []int64) {
	for _, v := range x {
		out = append(out, int64(v))
	}
	return out
}

func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= goldentest.Tolerance) {
			t.Fatalf("%s: number %d is %g: want %g", what, i, got[i], want[i])
		}
	}
}
