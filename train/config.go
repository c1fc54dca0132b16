package train

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/text"
)

// Config is everything that decides what a run computes, apart from its data. Recipe says whose network, masks, losses and
// schedules: "paper" are the equations of the MVMAE paper, with what it leaves open taken from the recipes it builds on;
// "code" is what the published program does. Default and Code are their defaults.
type Config struct {
	Recipe string `toml:"recipe"` // paper or code
	// Clean leaves out of recipe "code" what is a mistake of the published program and not its method. Off, a study also
	// takes all of its three slots, the empty ones as black images; the image losses and their gradients stay the same.
	Clean  bool   `toml:"clean"`
	Method string `toml:"method"` // mvmae; independent: the same without the alignment loss; mvmae-v2t: the same with reports
	Preset string `toml:"preset"`
	// ImageSize is the side of the images that the network takes, a multiple of its patches': 0 for the preset's own. Half of it
	// is a quarter of the patches, and of the time.
	ImageSize int    `toml:"image_size"`
	Seed      uint64 `toml:"seed"`
	Labels    int    `toml:"labels"` // labelled training studies a classifier may see, chosen by seed; 0 for all
	// Views are those that a classifier is trained and judged on: all; two, of the studies that have exactly two; one_of_two, the
	// first frontal one, or the first, of the same studies (table 8 of the MVMAE paper compares the last two).
	Views      string  `toml:"views"`
	Epochs     float64 `toml:"epochs"`      // passes over the training studies
	BatchViews int     `toml:"batch_views"` // view images of a batch: its one shape
	Accumulate int     `toml:"accumulate"`  // batches whose gradients make one step, in every training but that of a probe
	Compute    string  `toml:"compute"`     // of a training step's matrix products: float32, or bfloat16

	Mask       MaskConfig       `toml:"mask"`
	Loss       LossConfig       `toml:"loss"`
	Text       TextConfig       `toml:"text"`
	Optim      OptimConfig      `toml:"optim"`
	Augment    Augment          `toml:"augment"`
	Checkpoint CheckpointConfig `toml:"checkpoint"`
	Probe      ProbeConfig      `toml:"probe"`
	Finetune   FinetuneConfig   `toml:"finetune"`
}

// methodV2T is the method whose encoder also has to tell a text decoder what a study's report says.
const methodV2T = "mvmae-v2t"

// Slots is the number of views of a study that recipe "code" looks at; of a larger study it draws that many each time.
const Slots = 3

type MaskConfig struct {
	Ratio float64 `toml:"ratio"` // share of the patches that is hidden: see Config.Visible
}

type LossConfig struct {
	Beta float64 `toml:"beta"` // weight of the alignment loss at the end of its ramp
}

// TextConfig is the decoder that writes each view's report in method mvmae-v2t, and its loss.
type TextConfig struct {
	Vocabulary int  `toml:"vocabulary"` // tokens at most, 259 of which are bytes and marks: the reports' most frequent pieces
	MaxTokens  int  `toml:"max_tokens"` // of a report, with start and end; what is longer is cut off
	Depth      int  `toml:"depth"`
	Heads      int  `toml:"heads"`
	Positions  bool `toml:"positions"` // of words; without, only what a step may see tells their order
	End        bool `toml:"end"`       // the end of a report is a token to predict; without, the decoder never stops
	// ParallelFraction is the share of reports that are predicted from the image alone, all tokens at once (CapPa).
	ParallelFraction float64 `toml:"parallel_fraction"`
	Weight           float64 `toml:"weight"` // of the text loss
	// Blind hides the image from the text decoder: what can be guessed without it, to compare with.
	Blind bool `toml:"blind"`
}

// spec is the decoder's shape with a tokenizer of some size.
func (c TextConfig) spec(vocabulary int) model.Text {
	return model.Text{Vocabulary: vocabulary, MaxTokens: c.MaxTokens, Depth: c.Depth, Heads: c.Heads, Positions: c.Positions}
}

type OptimConfig struct {
	AdamW
	// BaseLR is the learning rate for 256 studies: the rate is BaseLR times the mean number of studies of a batch over
	// 256. Studies count, not views, as in the reference code.
	BaseLR       float64 `toml:"base_lr"`
	MinLR        float64 `toml:"min_lr"`
	WarmupEpochs float64 `toml:"warmup_epochs"`
}

type CheckpointConfig struct {
	Minutes float64 `toml:"minutes"` // between checkpoints; one more is left at the end and on an interrupt
}

// ProbeConfig is a linear probe: a linear head on the frozen encoder's embeddings, standardised by the training images'
// mean and deviation (the affine-free batch normalisation of He et al. 2022).
type ProbeConfig struct {
	// Augment encodes every image anew in each epoch, augmented, and trains a plain head on that (recipe "code"). Without, images are
	// encoded once, as they are, and standardised.
	Augment      bool    `toml:"augment"`
	Epochs       float64 `toml:"epochs"`
	WarmupEpochs float64 `toml:"warmup_epochs"`
	BaseLR       float64 `toml:"base_lr"` // for 256 view images, with Augment for 256 studies
	BatchViews   int     `toml:"batch_views"`
	WeightDecay  float64 `toml:"weight_decay"`
	// Fusion, a fuse.Rule, and Replicates, of the bootstrap behind the intervals, hold for every classifier: finetuned
	// and supervised ones too.
	Fusion     string `toml:"fusion"`
	Replicates int    `toml:"replicates"`
	// Calibration, a kind of fuse.Calibration, and Threshold, a metrics.ThresholdRule, are fitted on validation for every
	// classifier.
	Calibration string `toml:"calibration"`
	Threshold   string `toml:"threshold"`
}

// finetune is a probe with Augment as the training of a classifier: of its head only.
func (p ProbeConfig) finetune() FinetuneConfig {
	return FinetuneConfig{
		Epochs: p.Epochs, BatchViews: p.BatchViews, LayerDecay: 1,
		Optim: OptimConfig{AdamW: p.adamW(), BaseLR: p.BaseLR, WarmupEpochs: p.WarmupEpochs},
	}
}

// adamW is the optimiser of a probe's head.
func (p ProbeConfig) adamW() AdamW {
	return AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: p.WeightDecay}
}

// FinetuneConfig is the training of all of a classifier's weights: from a pretrained encoder (finetune) or from random ones
// (supervised). The values are those of the medical MAE study that the paper follows (Xiao et al. 2023).
type FinetuneConfig struct {
	Epochs     float64     `toml:"epochs"`
	BatchViews int         `toml:"batch_views"`
	LayerDecay float64     `toml:"layer_decay"` // factor on the learning rate from each layer to the one below it; random weights have none
	DropPath   float64     `toml:"drop_path"`   // share of images that skip a branch of the last block; in proportion below it
	Pool       string      `toml:"pool"`        // cls, or mean over the patch tokens
	Optim      OptimConfig `toml:"optim"`
}

// Default is recipe "paper".
func Default() Config {
	return Config{
		Recipe: "paper", Clean: true, Method: "mvmae", Preset: "base", Seed: 1, Views: viewsAll, Epochs: 800, BatchViews: 256, Accumulate: 1, Compute: "float32",
		Mask: MaskConfig{Ratio: 0.9},
		Loss: LossConfig{Beta: 1},
		Text: TextConfig{Vocabulary: 8192, MaxTokens: 300, Depth: 4, Heads: 8, Positions: true, End: true, Weight: 1},
		Optim: OptimConfig{
			AdamW:  AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.05},
			BaseLR: 1.5e-4, WarmupEpochs: 40,
		},
		Augment:    Augment{CropMin: 0.5, Flip: 0.5, Brightness: 0.4, Contrast: 0.4, Jitter: 0.8},
		Checkpoint: CheckpointConfig{Minutes: 10},
		Probe: ProbeConfig{
			Epochs: 90, WarmupEpochs: 10, BaseLR: 1e-2, BatchViews: 256, Fusion: "mean_probability", Replicates: 1000,
			Calibration: fuse.Platt, Threshold: metrics.MaxF1.String(),
		},
		Finetune: FinetuneConfig{
			Epochs: 75, BatchViews: 256, LayerDecay: 0.55, DropPath: 0.2, Pool: string(model.PoolCLS),
			Optim: OptimConfig{
				AdamW:  AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.05},
				BaseLR: 2.5e-4, MinLR: 1e-5, WarmupEpochs: 5,
			},
		},
	}
}

// Code is recipe "code": the published program, agostini335/MVMAE at commit c9fe37c. Its batches are 64 studies of three
// slots.
func Code() Config {
	c := Default()
	c.Recipe, c.BatchViews = "code", 64*Slots
	c.Mask.Ratio = 0.93
	c.Loss.Beta = 2
	c.Text.Vocabulary, c.Text.Positions, c.Text.End = 30522, false, false
	c.Optim.AdamW = AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.05, DecayAll: true, ClipNorm: 1}
	c.Optim.BaseLR = 1.2e-4
	c.Probe.Augment, c.Probe.BatchViews = true, 64*Slots
	c.Probe.BaseLR, c.Probe.Fusion, c.Probe.Calibration = 1e-4, "mean_logit", fuse.NoCalibration
	c.Finetune.BatchViews = 64 * Slots
	return c
}

// named returns the defaults of a recipe.
func named(recipe string) (c Config, ok bool) {
	switch recipe {
	case "paper":
		return Default(), true
	case "code":
		return Code(), true
	}
	return Config{}, false
}

// Spec is the network: the preset in the recipe's form.
func (c Config) Spec() (model.Spec, error) {
	spec, err := model.Preset(c.Preset)
	if err == nil && c.Recipe == "code" {
		spec = spec.Reference()
	}
	if c.ImageSize != 0 {
		spec.ImageSize = c.ImageSize
	}
	return spec, err
}

// padded reports whether a study takes all of its slots.
func (c Config) padded() bool { return c.Recipe == "code" && !c.Clean }

// Validate reports every value that cannot be.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, key string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s is %v: want %s", key, value, want))
		}
	}
	_, known := named(c.Recipe)
	check(known, "recipe", c.Recipe, "paper or code")
	check(c.Method == "mvmae" || c.Method == "independent" || c.Method == methodV2T, "method", c.Method, "mvmae, independent or mvmae-v2t")
	if spec, err := c.Spec(); err == nil {
		p := spec.PatchSize
		fits := c.ImageSize == 0 || c.ImageSize >= p && c.ImageSize <= cxr.CropSize && c.ImageSize%p == 0
		check(fits, "image_size", c.ImageSize, fmt.Sprintf("0, or a multiple of the patches' %d up to %d", p, cxr.CropSize))
	}
	check(c.Labels >= 0, "labels", c.Labels, "0 or more")
	check(slices.Contains([]string{viewsAll, viewsTwo, viewsOneOfTwo}, c.Views), "views", c.Views, "all, two or one_of_two")
	check(c.Epochs > 0 && c.Epochs <= 1e6, "epochs", c.Epochs, "more than 0, at most 1e6")
	check(c.BatchViews >= 1 && c.BatchViews <= 1<<16, "batch_views", c.BatchViews, "1 to 65536")
	check(c.Accumulate >= 1 && c.Accumulate <= 1<<16, "accumulate", c.Accumulate, "1 to 65536")
	check(c.Compute == "float32" || c.Compute == "bfloat16", "compute", c.Compute, "float32 or bfloat16")
	check(c.Mask.Ratio > 0 && c.Mask.Ratio < 1, "mask.ratio", c.Mask.Ratio, "between 0 and 1")
	check(c.Loss.Beta >= 0, "loss.beta", c.Loss.Beta, "0 or more")
	c.Text.validate(check)
	for _, b := range []struct {
		key   string
		views int
		used  bool
	}{{"batch_views", c.BatchViews, true}, {"probe.batch_views", c.Probe.BatchViews, c.Probe.Augment}, {"finetune.batch_views", c.Finetune.BatchViews, true}} {
		check(!c.padded() || !b.used || b.views%Slots == 0, b.key, b.views, "a multiple of 3, the slots of a study, without clean")
	}
	c.Optim.validate("optim.", c.Epochs, check)
	a := c.Augment
	check(a.CropMin > 0 && a.CropMin <= 1, "augment.crop_min", a.CropMin, "more than 0, at most 1")
	for key, p := range map[string]float64{
		"augment.flip": a.Flip, "augment.jitter": a.Jitter, "augment.brightness": a.Brightness, "augment.contrast": a.Contrast,
	} {
		check(p >= 0 && p <= 1, key, p, "0 to 1")
	}
	check(c.Checkpoint.Minutes > 0, "checkpoint.minutes", c.Checkpoint.Minutes, "more than 0")
	c.Probe.validate(check)
	for key, err := range map[string]error{
		"preset": second(model.Preset(c.Preset)), "probe.fusion": second(fuse.ParseRule(c.Probe.Fusion)),
		"probe.calibration": second(fuse.ParseKind(c.Probe.Calibration)), "probe.threshold": second(metrics.ParseThresholdRule(c.Probe.Threshold)),
	} {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	c.Finetune.validate(check)
	return errors.Join(errs...)
}

func second[T any](_ T, err error) error { return err }

func (p ProbeConfig) validate(check func(ok bool, key string, value any, want string)) {
	check(p.Epochs >= 1 && p.Epochs == math.Trunc(p.Epochs), "probe.epochs", p.Epochs, "a whole number of 1 or more")
	check(p.WarmupEpochs >= 0 && p.WarmupEpochs < p.Epochs, "probe.warmup_epochs", p.WarmupEpochs, "0 or more, less than probe.epochs")
	check(p.BaseLR > 0, "probe.base_lr", p.BaseLR, "more than 0")
	check(p.BatchViews >= 1 && p.BatchViews <= 1<<20, "probe.batch_views", p.BatchViews, "1 to 1048576")
	check(p.WeightDecay >= 0, "probe.weight_decay", p.WeightDecay, "0 or more")
	check(p.Replicates >= 1, "probe.replicates", p.Replicates, "1 or more")
}

func (f FinetuneConfig) validate(check func(ok bool, key string, value any, want string)) {
	check(f.Epochs > 0, "finetune.epochs", f.Epochs, "more than 0")
	check(f.BatchViews >= 1 && f.BatchViews <= 1<<16, "finetune.batch_views", f.BatchViews, "1 to 65536")
	check(f.LayerDecay > 0 && f.LayerDecay <= 1, "finetune.layer_decay", f.LayerDecay, "more than 0, at most 1")
	check(f.DropPath >= 0 && f.DropPath < 1, "finetune.drop_path", f.DropPath, "0 to less than 1")
	check(f.Pool == string(model.PoolCLS) || f.Pool == string(model.PoolMean), "finetune.pool", f.Pool, "cls or mean")
	f.Optim.validate("finetune.optim.", f.Epochs, check)
}

func (c TextConfig) validate(check func(ok bool, key string, value any, want string)) {
	check(c.Vocabulary >= text.MinVocabulary && c.Vocabulary <= 1<<20, "text.vocabulary", c.Vocabulary, fmt.Sprint(text.MinVocabulary, " to 1048576"))
	check(c.MaxTokens >= 3 && c.MaxTokens <= 1<<12, "text.max_tokens", c.MaxTokens, "3 to 4096")
	check(c.Depth >= 1 && c.Depth <= 1<<8, "text.depth", c.Depth, "1 to 256")
	check(c.Heads >= 1 && c.Heads <= 1<<8, "text.heads", c.Heads, "1 to 256, a divisor of the encoder's width")
	check(c.ParallelFraction >= 0 && c.ParallelFraction <= 1, "text.parallel_fraction", c.ParallelFraction, "0 to 1")
	check(c.ParallelFraction == 0 || c.Positions, "text.parallel_fraction", c.ParallelFraction, "0 without text.positions, which are all that parallel steps differ in")
	check(c.Weight >= 0, "text.weight", c.Weight, "0 or more")
}

func (o OptimConfig) validate(prefix string, epochs float64, check func(ok bool, key string, value any, want string)) {
	check(o.BaseLR > 0, prefix+"base_lr", o.BaseLR, "more than 0")
	check(o.MinLR >= 0, prefix+"min_lr", o.MinLR, "0 or more")
	check(o.WarmupEpochs >= 0 && o.WarmupEpochs < epochs, prefix+"warmup_epochs", o.WarmupEpochs, "0 or more, less than epochs")
	check(o.Beta1 >= 0 && o.Beta1 < 1, prefix+"beta1", o.Beta1, "0 to less than 1")
	check(o.Beta2 >= 0 && o.Beta2 < 1, prefix+"beta2", o.Beta2, "0 to less than 1")
	check(o.Eps > 0, prefix+"eps", o.Eps, "more than 0")
	check(o.WeightDecay >= 0, prefix+"weight_decay", o.WeightDecay, "0 or more")
	check(o.ClipNorm >= 0, prefix+"clip_norm", o.ClipNorm, "0 or more")
}

// fewer is a pack of the views, and of as many labelled training studies, as a classifier may see.
func (c Config) fewer(pack *data.Pack) (*data.Pack, error) {
	if c.Views != viewsAll {
		pack = pack.OfTwoViews(c.Views == viewsOneOfTwo)
	}
	if c.Labels == 0 {
		return pack, nil
	}
	return pack.Fewer(c.Labels, c.Seed)
}

// The values of Config.Views.
const (
	viewsAll      = "all"
	viewsTwo      = "two"
	viewsOneOfTwo = "one_of_two"
)

// Visible is how many of n patches a mask leaves: n*(1-ratio), rounded by recipe "paper", cut off by recipe "code".
func (c Config) Visible(n int) int {
	keep := float64(n) * (1 - c.Mask.Ratio)
	if c.Recipe != "code" {
		keep += 0.5
	}
	return min(max(int(keep), 1), n-1)
}

// LoadConfig is a recipe, "paper", "code" or a TOML file, changed by key=value settings, where a value is written as in TOML;
// quotes around a string may be left out. A file changes the recipe that its key "recipe" names, or "paper".
func LoadConfig(recipe string, settings []string) (Config, error) {
	c, ok := named(recipe)
	if !ok {
		doc, err := RecipeText(recipe)
		if err != nil {
			return c, err
		}
		var from struct{ Recipe string }
		if c = Default(); toml.Unmarshal(doc, &from) == nil {
			if base, ok := named(from.Recipe); ok {
				c = base
			}
		}
		if err := c.decode(recipe, doc); err != nil {
			return c, err
		}
	}
	start := c.Recipe
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return c, hint.Wrap(fmt.Errorf("--set %s: no = in it", s), "write --set key=value, as in --set optim.base_lr=1e-3")
		}
		err := c.decode("--set", []byte(key+" = "+value))
		var strict *toml.StrictMissingError
		if err != nil && !errors.As(err, &strict) {
			if c.decode("--set", []byte(fmt.Sprintf("%s = %q", key, value))) == nil {
				err = nil
			}
		}
		if err != nil {
			return c, err
		}
	}
	if c.Recipe != start {
		return c, hint.Wrap(fmt.Errorf("--set recipe=%s: a setting changes one value, a recipe all of them", c.Recipe), "choose it with --recipe %s", c.Recipe)
	}
	return c, c.Validate()
}

// decode reads a TOML document over c. A key that Config does not have is an error that names the nearest one.
func (c *Config) decode(name string, doc []byte) error {
	d := toml.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	err := d.Decode(c)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		first := strict.Errors[0]
		key := strings.Join(first.Key(), ".")
		row, _ := first.Position()
		err := fmt.Errorf("%s:%d: unknown key %s: %w", name, row, key, strict)
		if near := hint.Nearest(key, keys(reflect.TypeFor[Config](), "")); near != "" {
			return hint.Wrap(unknownKey{err}, "did you mean %s?", near)
		}
		return hint.Wrap(unknownKey{err}, `"mvmae-train config" prints every key`)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, column := bad.Position()
		return fmt.Errorf("%s:%d:%d: %w", name, row, column, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// unknownKey shows only the first line of an error: the library's own text repeats the document.
type unknownKey struct{ error }

func (e unknownKey) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), ": strict mode")
	return text
}

func (e unknownKey) Unwrap() error { return e.error }

// keys lists the dotted TOML keys of a struct type.
func keys(t reflect.Type, prefix string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		switch {
		case f.Anonymous:
			out = append(out, keys(f.Type, prefix)...)
		case f.Type.Kind() == reflect.Struct:
			out = append(out, keys(f.Type, prefix+name+".")...)
		default:
			out = append(out, prefix+name)
		}
	}
	return out
}
