package export

import (
	"cmp"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
)

// goldenConfig is what a vit_classifier case's header says of the network.
type goldenConfig struct {
	Image      int     `json:"image"`
	Patch      int     `json:"patch"`
	Width      int     `json:"enc_dim"`
	Depth      int     `json:"enc_depth"`
	Heads      int     `json:"enc_heads"`
	MLPRatio   int     `json:"mlp_ratio"`
	QKNorm     bool    `json:"qk_norm"`
	QKNormEps  float64 `json:"qk_norm_eps"`
	BlockEps   float64 `json:"block_norm_eps"`
	FinalEps   float64 `json:"final_norm_eps"`
	Positions  string  `json:"positions"`
	NumClasses int     `json:"classes"`

	DecoderWidth int    `json:"dec_dim"`
	DecoderDepth int    `json:"dec_depth"`
	DecoderHeads int    `json:"dec_heads"`
	Visible      int    `json:"visible"`
	ViewTables   string `json:"modality_tables"`
}

func (c goldenConfig) spec(t *testing.T) model.Spec {
	s := exporttest.Spec(t, "nano")
	s.ImageSize, s.PatchSize, s.Width, s.Depth, s.Heads, s.MLPRatio = c.Image, c.Patch, c.Width, c.Depth, c.Heads, c.MLPRatio
	s.QKNorm, s.BlockEps, s.FinalEps, s.NumClasses = c.QKNorm, c.BlockEps, c.FinalEps, c.NumClasses
	if c.DecoderWidth > 0 {
		own := strings.HasPrefix(c.ViewTables, "separate")
		s.Decoder = model.Decoder{Width: c.DecoderWidth, Depth: c.DecoderDepth, Heads: c.DecoderHeads, OwnViews: own}
	}
	s.PixelMean, s.PixelStd = 0, 1 // the cases' images are normalised already
	if c.QKNorm && c.QKNormEps != c.BlockEps {
		t.Fatalf("qk_norm_eps %g is not block_norm_eps %g: model.Spec has one for both", c.QKNormEps, c.BlockEps)
	}
	if c.Positions == "learned" {
		s.Positions = model.Learned
	}
	return s
}

// goldenCases runs f on every golden case of a kind.
func goldenCases(t *testing.T, pattern string, f func(t *testing.T, c goldenConfig, tensors, weights model.Tensors)) {
	dir := cmp.Or(os.Getenv("MVMAE_GOLDEN"), "../testdata/golden")
	paths, err := filepath.Glob(filepath.Join(dir, pattern+".safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) {
			tensors, header, err := model.ReadSafetensors(path)
			if err != nil {
				t.Fatal(err)
			}
			var config goldenConfig
			if err := json.Unmarshal([]byte(header["config"]), &config); err != nil {
				t.Fatal(err)
			}
			weights := model.Tensors{}
			for name, tensor := range tensors {
				if name, ok := strings.CutPrefix(name, "param."); ok {
					weights[name] = tensor
				}
			}
			f(t, config, tensors, weights)
		})
	}
}

// tolerance is the golden cases' own for outputs of a float32 build.
const tolerance = 1e-4

func TestExport_GoldenClassifier(t *testing.T) {
	goldenCases(t, "vit_classifier_*", func(t *testing.T, c goldenConfig, tensors, weights model.Tensors) {
		s := c.spec(t)
		views := integers(tensors["in.view"].Data)
		out, err := open(t, build(t, s, weights)).Run(t.Context(), tensors["in.image"].Data, views)
		if err != nil {
			t.Fatal(err)
		}
		for i := range views {
			logits := tensors["out.logits"].Data[i*model.NumLabels:][:model.NumLabels]
			compare(t, "logits", out.Logits[i][:], logits)
			compare(t, "embedding", out.Embedding[i], tensors["out.cls"].Data[i*s.Width:][:s.Width])
			for j, p := range out.Probability[i] {
				if want := 1 / (1 + math.Exp(-float64(logits[j]))); math.Abs(float64(p)-want) > tolerance {
					t.Errorf("probability %d of image %d is %g: want %g", j, i, p, want)
				}
			}
		}
	})
}

// The decoder and the masked encoder are never exported, but every implementation of model.Ops must run them: these cases
// are the ones that use every operation, and qk_norm.
func TestOps_GoldenMaskedAutoencoder(t *testing.T) {
	for _, pattern := range []string{"paper_mvmae_*", "code_mvmae_*"} {
		goldenCases(t, pattern, testMaskedAutoencoder)
	}
}

func testMaskedAutoencoder(t *testing.T, c goldenConfig, tensors, weights model.Tensors) {
	s := c.spec(t)
	n, patches := len(tensors["in.view"].Data), s.NumPatches()
	order := integers(tensors["in.perm"].Data) // [n,patches]: visible patches, then masked ones
	var keep []int64
	restore := make([]int64, n*patches)
	for i := range n {
		keep = append(keep, order[i*patches:][:c.Visible]...)
		for place, patch := range order[i*patches:][:patches] {
			restore[i*patches+int(patch)] = int64(place)
		}
	}
	forward := func(g *graph, in []value) []value {
		image, view, keep, restore := in[0], in[1], in[2], in[3]
		tokens := model.Encode(g, s, model.Patchify(g, s, image), view, &model.Visible[value]{Keep: keep, Count: c.Visible})
		return []value{tokens, model.Decode(g, s, tokens, restore, view, c.Visible)}
	}
	inputs := []array{
		{dims: []int{n, s.ImageSize, s.ImageSize}, floats: tensors["in.image"].Data},
		{dims: []int{n}, ints: integers(tensors["in.view"].Data)},
		{dims: []int{n, c.Visible}, ints: keep}, {dims: []int{n, patches}, ints: restore},
	}
	out := runOps(t, s, weights, forward, inputs, n)[0]
	features, pixels, want := (1+c.Visible)*s.Width, s.ImageSize*s.ImageSize, tensors["out.recon"].Data
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
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= tolerance) {
			t.Fatalf("%s: number %d is %g: want %g", what, i, got[i], want[i])
		}
	}
}
