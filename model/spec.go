package model

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Positions says where a network's position embeddings come from.
type Positions string

const (
	SinCos  Positions = "sincos"  // fixed 2-D sine and cosine tables (He et al. 2022), no position for CLS
	Learned Positions = "learned" // trained tables
)

// Pool says which encoder output the classifier head reads.
type Pool string

const (
	PoolCLS  Pool = "cls"
	PoolMean Pool = "mean" // mean over the patch tokens
	// PoolMeanFirst is the mean over the patch tokens before the final LayerNorm, not after: classifiers that MAE finetunes.
	PoolMeanFirst Pool = "mean_first"
)

// Spec is the shape of a network: all that is needed to name its parameters and run its forward pass.
type Spec struct {
	Preset     string    `json:"preset" toml:"preset"`
	ImageSize  int       `json:"image_size" toml:"image_size"` // S: pixels on a side
	PatchSize  int       `json:"patch_size" toml:"patch_size"` // P: pixels on a side
	Width      int       `json:"width" toml:"width"`           // D
	Depth      int       `json:"depth" toml:"depth"`
	Heads      int       `json:"heads" toml:"heads"`
	MLPRatio   int       `json:"mlp_ratio" toml:"mlp_ratio"`
	QKNorm     bool      `json:"qk_norm" toml:"qk_norm"` // LayerNorm on each head's queries and keys
	Positions  Positions `json:"positions" toml:"positions"`
	BlockEps   float64   `json:"block_eps" toml:"block_eps"` // of the blocks' LayerNorms
	FinalEps   float64   `json:"final_eps" toml:"final_eps"` // of the LayerNorm after the last block
	PixelMean  float64   `json:"pixel_mean" toml:"pixel_mean"`
	PixelStd   float64   `json:"pixel_std" toml:"pixel_std"`
	Pool       Pool      `json:"pool" toml:"pool"`
	Decoder    Decoder   `json:"decoder" toml:"decoder"`
	Text       Text      `json:"text,omitzero" toml:"text"`
	NumClasses int       `json:"num_classes" toml:"num_classes"`
}

// Decoder is the shape of the reconstruction decoder, used in pretraining only.
type Decoder struct {
	Width int `json:"width" toml:"width"`
	Depth int `json:"depth" toml:"depth"`
	Heads int `json:"heads" toml:"heads"`
	// OwnViews gives the decoder a table of view embeddings and no linear layer in front (the reference code). Without,
	// encoder tokens and view embeddings both pass through one linear layer to the decoder's width (the paper).
	OwnViews bool `json:"own_views" toml:"own_views"`
}

// NumViews is the number of rows of a view embedding table: frontal, lateral, unknown.
const NumViews = 3

// presets holds the named sizes of METHOD: image, patch, width, depth, heads; decoder width, depth, heads.
var presets = map[string][8]int{
	"nano":  {32, 8, 32, 2, 4, 16, 1, 4}, // the golden cases' size: for tests, not for use
	"tiny":  {64, 8, 192, 12, 3, 128, 4, 4},
	"small": {224, 16, 384, 12, 6, 512, 8, 16},
	"base":  {224, 16, 768, 12, 12, 512, 8, 16},
	"large": {224, 16, 1024, 24, 16, 512, 8, 16},
}

// presetONNX is the preset of a network that is not this package's: the encoder of an ONNX file with a linear head on it.
const presetONNX = "onnx"

// ForeignSpec is the Spec of an encoder that came as an ONNX file, for images of size S and embeddings of some width: all that
// is known of it. It has no parameters but the head's, and no forward pass; its image is one patch.
func ForeignSpec(size, width int) Spec {
	return Spec{Preset: presetONNX, ImageSize: size, PatchSize: size, Width: width, NumClasses: NumLabels}
}

// Foreign reports whether the encoder came as an ONNX file.
func (s Spec) Foreign() bool { return s.Preset == presetONNX }

// Preset returns the Spec of a named size as recipe "paper" has it: fixed positions, plain attention, LayerNorm epsilon
// 1e-6, one view table, and the paper's pixel mean and standard deviation.
func Preset(name string) (Spec, error) {
	p, ok := presets[name]
	if !ok {
		return Spec{}, fmt.Errorf("unknown preset %q: want one of %s", name, strings.Join(PresetNames(), ", "))
	}
	return Spec{
		Preset: name, ImageSize: p[0], PatchSize: p[1], Width: p[2], Depth: p[3], Heads: p[4], MLPRatio: 4,
		Positions: SinCos, BlockEps: 1e-6, FinalEps: 1e-6, PixelMean: 0.5056, PixelStd: 0.252, Pool: PoolCLS,
		Decoder:    Decoder{Width: p[5], Depth: p[6], Heads: p[7]},
		NumClasses: NumLabels,
	}, nil
}

// Reference is the same size in the form of the published MVMAE code: learned positions, LayerNorm on queries and keys, a
// decoder as wide as the encoder with a view table of its own, and another epsilon in the final norms.
func (s Spec) Reference() Spec {
	s.Positions, s.QKNorm, s.FinalEps = Learned, true, 1e-5
	s.Decoder = Decoder{Width: s.Width, Depth: min(s.Decoder.Depth, 4), Heads: s.Heads, OwnViews: true}
	return s
}

// PresetNames lists the presets from the smallest to the largest.
func PresetNames() []string {
	names := make([]string, 0, len(presets))
	for n := range presets {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := presets[names[i]], presets[names[j]]
		return a[2]*a[3]*a[0] < b[2]*b[3]*b[0]
	})
	return names
}

// Grid is the number of patches on a side.
func (s Spec) Grid() int { return s.ImageSize / s.PatchSize }

// NumPatches is N, the number of patch tokens of one image.
func (s Spec) NumPatches() int { return s.Grid() * s.Grid() }

// PatchPixels is P*P, the length of one flattened patch.
func (s Spec) PatchPixels() int { return s.PatchSize * s.PatchSize }

// Validate reports every way in which a Spec cannot be built.
func (s Spec) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Foreign() {
		if want := ForeignSpec(s.ImageSize, s.Width); s != want || s.ImageSize < 1 || s.ImageSize > 1<<16 || s.Width < 1 || s.Width > 1<<16 {
			bad("an encoder of an ONNX file has image_size and width of 1 to 65536, %d classes and no other shape: got %+v", NumLabels, s)
		}
		return errors.Join(errs...)
	}
	for _, f := range []struct {
		name string
		v    int
	}{
		{"image_size", s.ImageSize}, {"patch_size", s.PatchSize}, {"width", s.Width}, {"depth", s.Depth}, {"heads", s.Heads},
		{"mlp_ratio", s.MLPRatio}, {"decoder.width", s.Decoder.Width}, {"decoder.depth", s.Decoder.Depth}, {"decoder.heads", s.Decoder.Heads},
	} {
		if f.v < 1 || f.v > 1<<16 {
			bad("%s is %d: want 1 to 65536", f.name, f.v)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if s.ImageSize%s.PatchSize != 0 {
		bad("patch_size %d does not divide image_size %d", s.PatchSize, s.ImageSize)
	}
	for _, f := range []struct {
		name         string
		width, heads int
	}{{"", s.Width, s.Heads}, {"decoder.", s.Decoder.Width, s.Decoder.Heads}} {
		if f.width%f.heads != 0 {
			bad("%sheads %d does not divide %swidth %d", f.name, f.heads, f.name, f.width)
		}
		if s.Positions == SinCos && f.width%4 != 0 {
			bad("%swidth %d is not a multiple of 4, which sincos positions need", f.name, f.width)
		}
	}
	if s.Decoder.OwnViews && s.Decoder.Width != s.Width {
		bad("decoder.own_views has no layer between the widths: decoder.width %d must equal width %d", s.Decoder.Width, s.Width)
	}
	if s.Positions != SinCos && s.Positions != Learned {
		bad("positions is %q: want sincos or learned", s.Positions)
	}
	if s.Pool != PoolCLS && s.Pool != PoolMean && s.Pool != PoolMeanFirst {
		bad("pool is %q: want cls, mean or mean_first", s.Pool)
	}
	if !(s.PixelStd > 0) {
		bad("pixel_std is %g: want more than 0", s.PixelStd)
	}
	if !(s.BlockEps > 0) || !(s.FinalEps > 0) {
		bad("block_eps and final_eps must be more than 0")
	}
	if s.Text != (Text{}) {
		errs = append(errs, s.Text.validate(s.Width))
	}
	if s.NumClasses < 1 || s.NumClasses > 1<<12 {
		bad("num_classes is %d: want 1 to 4096", s.NumClasses)
	}
	return errors.Join(errs...)
}
