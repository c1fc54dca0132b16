package train

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

func TestLoadConfig_RecipeThenSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.toml")
	if err := os.WriteFile(path, []byte("preset = \"tiny\"\n[optim]\nbase_lr = 2e-3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(path, []string{"optim.warmup_epochs=2", "method=independent", "probe.fusion=\"mean_logit\""})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Preset, want.Method, want.Optim.BaseLR, want.Optim.WarmupEpochs, want.Probe.Fusion = "tiny", "independent", 2e-3, 2, "mean_logit"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	doc, err := toml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, doc, 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := LoadConfig(path, nil); err != nil || !cmp.Equal(got, again) {
		t.Errorf("what is written reads back differently (%v)\n%s", err, doc)
	}
}

func TestLoadConfig_FileBeginsFromTheRecipeItNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.toml")
	if err := os.WriteFile(path, []byte("epochs = 9\noptim.warmup_epochs = 1\nrecipe = \"code\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(path, []string{"clean=false"})
	if err != nil {
		t.Fatal(err)
	}
	want := Code()
	want.Epochs, want.Optim.WarmupEpochs, want.Clean = 9, 1, false
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]Config{"paper": Default(), "code": Code()} {
		if got, err := LoadConfig(name, nil); err != nil || !cmp.Equal(got, want) || got.Recipe != name {
			t.Errorf("recipe %s: %v\n%s", name, err, cmp.Diff(want, got))
		}
	}
}

func TestConfigSpec_RecipeCodeIsTheReferenceNetwork(t *testing.T) {
	spec, err := Code().Spec()
	if err != nil {
		t.Fatal(err)
	}
	want := model.Decoder{Width: 768, Depth: 4, Heads: 12, OwnViews: true}
	if !spec.QKNorm || spec.Positions != model.Learned || spec.FinalEps != 1e-5 || spec.BlockEps != 1e-6 || spec.Decoder != want {
		t.Errorf("%+v", spec)
	}
}

func TestConfigSpec_ImageSizeReplacesThePresets(t *testing.T) {
	for set, want := range map[string]int{"image_size=112": 112, "image_size=0": 224} {
		cfg, err := LoadConfig("paper", []string{"preset=small", set})
		if err != nil {
			t.Fatal(err)
		}
		spec, err := cfg.Spec()
		if err != nil || spec.ImageSize != want || spec.PatchSize != 16 || spec.Validate() != nil {
			t.Errorf("%s: %+v, %v", set, spec, err)
		}
	}
}

func TestLoadConfig_ErrorsNamePlaceAndCure(t *testing.T) {
	for _, c := range []struct{ doc, set, want, hint string }{
		{"\n[optim]\nwarmup_epoch = 3\n", "", "recipe.toml:3: unknown key optim.warmup_epoch", "did you mean optim.warmup_epochs?"},
		{"", "optim.base_lrr=1", "--set:1: unknown key optim.base_lrr", "did you mean optim.base_lr?"},
		{"", "xyzzy=1", "unknown key xyzzy", "prints every key"},
		{"epochs = \"many\"\n", "", "recipe.toml:1:10", ""},
		{"epochs = \n", "", "recipe.toml:", ""},
		{"", "epochs", "no = in it", "--set key=value"},
		{"mask = {ratio = 1.5}\nepochs = -1\n", "", "mask.ratio is 1.5: want between 0 and 1", ""},
		{"", "recipe=code", "--set recipe=code", "choose it with --recipe code"},
		{"recipe = \"mine\"", "", "recipe is mine: want paper or code", ""},
		{"recipe = \"code\"\nclean = false\nbatch_views = 64", "", "batch_views is 64: want a multiple of 3", ""},
		{"finetune = {layer_decay = 0, drop_path = 1, pool = \"max\"}", "", "finetune.pool is max: want cls or mean", ""},
		{"[finetune.optim]\nbase_lrr = 1", "", "unknown key finetune.optim.base_lrr", "finetune.optim.base_lr?"},
		{"preset = \"small\"", "image_size=120", "image_size is 120: want 0, or a multiple of the patches' 16 up to 224", ""},
		{"", "image_size=240", "image_size is 240", ""},
		{"preset = \"huge\"\nimage_size = 64", "", `unknown preset "huge"`, ""},
	} {
		path := filepath.Join(t.TempDir(), "recipe.toml")
		if err := os.WriteFile(path, []byte(c.doc), 0o644); err != nil {
			t.Fatal(err)
		}
		var settings []string
		if c.set != "" {
			settings = []string{c.set}
		}
		_, err := LoadConfig(path, settings)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%q %q: error %v, hint %q; want %q and %q", c.doc, c.set, err, hint.Of(err), c.want, c.hint)
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.toml"), nil); err == nil || hint.Of(err) == "" {
		t.Errorf("no file: %v", err)
	}
}
