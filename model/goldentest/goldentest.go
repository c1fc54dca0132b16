// Package goldentest reads the golden cases for the tests of every implementation that must reproduce them. What they hold and how
// they were made is in testdata/golden/README.md.
package goldentest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/model"
)

// Tolerance is the absolute one on outputs of a float32 build.
const Tolerance = 1e-4

// Files lists the golden files that match a pattern, in the folder that MVMAE_GOLDEN names or in the module's testdata/golden.
func Files(t testing.TB, pattern string) []string {
	t.Helper()
	dir := os.Getenv("MVMAE_GOLDEN")
	for up := "."; dir == ""; up = filepath.Join("..", up) {
		if _, err := os.Stat(filepath.Join(up, "go.mod")); err == nil {
			dir = filepath.Join(up, "testdata", "golden")
		} else if len(up) > 100 {
			t.Fatal("find golden cases: no go.mod above the working folder")
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden case %s in %s (%v)", pattern, dir, err)
	}
	return files
}

// Case is a .safetensors case: parameters, inputs, outputs and gradients of a small network.
type Case struct {
	Tensors model.Tensors // "param.", "in.", "out.", "grad." and a name
	Spec    model.Spec
	Config  Config
}

// Config is a case's header, but for what Spec has.
type Config struct {
	Visible           int     // patches that the mask leaves
	MaskRatio         float64 `json:"mask_ratio"`
	Beta              float64 // weight of the alignment loss
	Gamma             float64 // weight of the text loss, in cases with text
	LR                float64
	Beta1, Beta2, Eps float64
	WeightDecay       float64 `json:"weight_decay"`
	Clip              float64 `json:"clip_global_norm"`
	Steps             int
	Decayed           []string // parameters that weight decay holds for
}

// network is the part of a case's header that makes its Spec.
type network struct {
	Image, Patch int
	Width        int     `json:"enc_dim"`
	Depth        int     `json:"enc_depth"`
	Heads        int     `json:"enc_heads"`
	DecoderWidth int     `json:"dec_dim"` // 0 for a classifier
	DecoderDepth int     `json:"dec_depth"`
	DecoderHeads int     `json:"dec_heads"`
	MLPRatio     int     `json:"mlp_ratio"`
	QKNorm       bool    `json:"qk_norm"`
	QKNormEps    float64 `json:"qk_norm_eps"`
	BlockEps     float64 `json:"block_norm_eps"`
	FinalEps     float64 `json:"final_norm_eps"`
	Positions    string
	ViewTables   string `json:"modality_tables"`
	Vocabulary   int    `json:"vocab"` // 0 without a text decoder
	MaxTokens    int    `json:"max_len"`
	TextDepth    int    `json:"text_depth"`
	TextHeads    int    `json:"text_heads"`
	TextRatio    int    `json:"text_mlp_ratio"`
}

// Run runs f on every .safetensors case whose name begins with prefix, as a subtest of its name.
func Run(t *testing.T, prefix string, f func(t *testing.T, c Case)) {
	t.Helper()
	for _, path := range Files(t, prefix+"*.safetensors") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) { f(t, read(t, path)) })
	}
}

func read(t testing.TB, path string) Case {
	t.Helper()
	tensors, header, err := model.ReadSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	c := Case{Tensors: tensors}
	var n network
	for _, part := range []any{&c.Config, &n} {
		if err := json.Unmarshal([]byte(header["config"]), part); err != nil {
			t.Fatalf("%s: config: %v", path, err)
		}
	}
	if n.QKNorm && n.QKNormEps != n.BlockEps {
		t.Fatalf("%s: qk_norm_eps %g is not block_norm_eps %g: model.Spec has one for both", path, n.QKNormEps, n.BlockEps)
	}
	if n.Vocabulary > 0 && n.TextRatio != 1 {
		t.Fatalf("%s: text_mlp_ratio %d: model.DecodeText has 1", path, n.TextRatio)
	}
	c.Spec = n.spec()
	if err := c.Spec.Validate(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

func (n network) spec() model.Spec {
	s := model.Spec{
		Preset: "golden", ImageSize: n.Image, PatchSize: n.Patch, Width: n.Width, Depth: n.Depth, Heads: n.Heads, MLPRatio: n.MLPRatio,
		QKNorm: n.QKNorm, Positions: model.SinCos, BlockEps: n.BlockEps, FinalEps: n.FinalEps,
		PixelMean: 0, PixelStd: 1, // the cases' images are normalised already
		Pool: model.PoolCLS, NumClasses: model.NumLabels,
		Decoder: model.Decoder{
			Width: n.DecoderWidth, Depth: n.DecoderDepth, Heads: n.DecoderHeads, OwnViews: strings.HasPrefix(n.ViewTables, "separate"),
		},
	}
	if n.Vocabulary > 0 {
		s.Text = model.Text{Vocabulary: n.Vocabulary, MaxTokens: n.MaxTokens, Depth: n.TextDepth, Heads: n.TextHeads}
	}
	if n.DecoderWidth == 0 { // the decoder is never built, but a Spec has one
		s.Decoder = model.Decoder{Width: n.Width, Depth: 1, Heads: n.Heads}
	}
	if strings.HasPrefix(n.Positions, "learned") {
		s.Positions = model.Learned
	}
	return s
}

// Params are the case's parameters under their own names.
func (c Case) Params() model.Tensors {
	out := model.Tensors{}
	for name, t := range c.Tensors {
		if own, ok := strings.CutPrefix(name, "param."); ok {
			out[own] = t
		}
	}
	return out
}
