package train

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Config is everything that decides what a run computes, apart from its data. Its defaults are recipe "paper": the
// equations of the MVMAE paper, with what the paper leaves open taken from the recipes it builds on.
type Config struct {
	Method     string  `toml:"method"` // mvmae, or independent: the same without the alignment loss
	Preset     string  `toml:"preset"`
	Seed       uint64  `toml:"seed"`
	Epochs     float64 `toml:"epochs"`      // passes over the training studies
	BatchViews int     `toml:"batch_views"` // view images of a batch: its one shape

	Mask       MaskConfig       `toml:"mask"`
	Loss       LossConfig       `toml:"loss"`
	Optim      OptimConfig      `toml:"optim"`
	Augment    Augment          `toml:"augment"`
	Checkpoint CheckpointConfig `toml:"checkpoint"`
	Probe      ProbeConfig      `toml:"probe"`
}

type MaskConfig struct {
	Ratio float64 `toml:"ratio"` // share of the patches that is hidden; round(N*(1-ratio)) stay visible
}

type LossConfig struct {
	Beta float64 `toml:"beta"` // weight of the alignment loss at the end of its ramp
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
	Epochs       float64 `toml:"epochs"`
	WarmupEpochs float64 `toml:"warmup_epochs"`
	BaseLR       float64 `toml:"base_lr"` // for 256 view images
	BatchViews   int     `toml:"batch_views"`
	WeightDecay  float64 `toml:"weight_decay"`
	Fusion       string  `toml:"fusion"`     // a fuse.Rule
	Replicates   int     `toml:"replicates"` // of the bootstrap behind the intervals
}

// Default is recipe "paper".
func Default() Config {
	return Config{
		Method: "mvmae", Preset: "base", Seed: 1, Epochs: 800, BatchViews: 256,
		Mask: MaskConfig{Ratio: 0.9},
		Loss: LossConfig{Beta: 1},
		Optim: OptimConfig{
			AdamW:  AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.05},
			BaseLR: 1.5e-4, WarmupEpochs: 40,
		},
		Augment:    Augment{CropMin: 0.5, Flip: 0.5, Brightness: 0.4, Contrast: 0.4, Jitter: 0.8},
		Checkpoint: CheckpointConfig{Minutes: 10},
		Probe: ProbeConfig{
			Epochs: 90, WarmupEpochs: 10, BaseLR: 1e-2, BatchViews: 256, Fusion: "mean_probability", Replicates: 1000,
		},
	}
}

// Validate reports every value that cannot be.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, key string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s is %v: want %s", key, value, want))
		}
	}
	check(c.Method == "mvmae" || c.Method == "independent", "method", c.Method, "mvmae or independent")
	if _, err := model.Preset(c.Preset); err != nil {
		errs = append(errs, fmt.Errorf("preset: %w", err))
	}
	check(c.Epochs > 0, "epochs", c.Epochs, "more than 0")
	check(c.BatchViews >= 1 && c.BatchViews <= 1<<16, "batch_views", c.BatchViews, "1 to 65536")
	check(c.Mask.Ratio > 0 && c.Mask.Ratio < 1, "mask.ratio", c.Mask.Ratio, "between 0 and 1")
	check(c.Loss.Beta >= 0, "loss.beta", c.Loss.Beta, "0 or more")
	o := c.Optim
	check(o.BaseLR > 0, "optim.base_lr", o.BaseLR, "more than 0")
	check(o.MinLR >= 0, "optim.min_lr", o.MinLR, "0 or more")
	check(o.WarmupEpochs >= 0 && o.WarmupEpochs < c.Epochs, "optim.warmup_epochs", o.WarmupEpochs, "0 or more, less than epochs")
	check(o.Beta1 >= 0 && o.Beta1 < 1, "optim.beta1", o.Beta1, "0 to less than 1")
	check(o.Beta2 >= 0 && o.Beta2 < 1, "optim.beta2", o.Beta2, "0 to less than 1")
	check(o.Eps > 0, "optim.eps", o.Eps, "more than 0")
	check(o.WeightDecay >= 0, "optim.weight_decay", o.WeightDecay, "0 or more")
	check(o.ClipNorm >= 0, "optim.clip_norm", o.ClipNorm, "0 or more")
	a := c.Augment
	check(a.CropMin > 0 && a.CropMin <= 1, "augment.crop_min", a.CropMin, "more than 0, at most 1")
	for key, p := range map[string]float64{
		"augment.flip": a.Flip, "augment.jitter": a.Jitter, "augment.brightness": a.Brightness, "augment.contrast": a.Contrast,
	} {
		check(p >= 0 && p <= 1, key, p, "0 to 1")
	}
	check(c.Checkpoint.Minutes > 0, "checkpoint.minutes", c.Checkpoint.Minutes, "more than 0")
	p := c.Probe
	check(p.Epochs > 0, "probe.epochs", p.Epochs, "more than 0")
	check(p.WarmupEpochs >= 0 && p.WarmupEpochs < p.Epochs, "probe.warmup_epochs", p.WarmupEpochs, "0 or more, less than probe.epochs")
	check(p.BaseLR > 0, "probe.base_lr", p.BaseLR, "more than 0")
	check(p.BatchViews >= 1 && p.BatchViews <= 1<<20, "probe.batch_views", p.BatchViews, "1 to 1048576")
	check(p.WeightDecay >= 0, "probe.weight_decay", p.WeightDecay, "0 or more")
	check(p.Replicates >= 1, "probe.replicates", p.Replicates, "1 or more")
	return errors.Join(errs...)
}

// Visible is how many of n patches a mask leaves.
func (m MaskConfig) Visible(n int) int {
	return min(max(int(float64(n)*(1-m.Ratio)+0.5), 1), n-1)
}

// LoadConfig is recipe "paper", changed by a recipe file (none if path is "") and then by key=value settings, where a value
// is written as in TOML; quotes around a string may be left out.
func LoadConfig(path string, settings []string) (Config, error) {
	c := Default()
	if path != "" {
		doc, err := os.ReadFile(path)
		if err != nil {
			return c, hint.Wrap(fmt.Errorf("read recipe: %w", err), `a recipe is "paper" or a TOML file; "mvmae-train config" prints one`)
		}
		if err := c.decode(path, doc); err != nil {
			return c, err
		}
	}
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
	if err := c.Validate(); err != nil {
		return c, err
	}
	return c, nil
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
