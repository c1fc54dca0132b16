package train

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/torch"
	"github.com/mvmae/mvmae/train/data"
)

const torchData = "../model/torch/testdata/"

// beganRun is a run that begins with a file or a run.
func beganRun(t *testing.T, kind, init string, pack *data.Pack, cfg Config) *Run {
	t.Helper()
	info := RunInfo{Kind: kind, Data: pack.Dir(), DataDigest: pack.Digest(), Preprocessing: pack.Recipe.String()}
	if err := info.BeginWith(init, cfg); err != nil {
		t.Fatal(err)
	}
	run, err := CreateRun(filepath.Join(t.TempDir(), kind), info, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if run, err = OpenRun(run.Dir); err != nil { // what resume sees
		t.Fatal(err)
	}
	return run
}

func TestBeginWith_TakesEveryLayout(t *testing.T) {
	dev, pack := device(t), makePack(t, 12)
	for _, c := range []struct {
		file, recipe string
		width        int
		decoder      bool // from the file
	}{
		{"vit", "paper", 32, false}, {"mae", "paper", 48, false}, {"medical_mae", "code", 32, false}, {"mvmae", "code", 32, true},
	} {
		t.Run(c.file+" "+c.recipe, func(t *testing.T) {
			cfg, _ := named(c.recipe)
			cfg.Preset, cfg.BatchViews, cfg.Epochs, cfg.Optim.WarmupEpochs = "nano", 12, 2, 1
			run := beganRun(t, "pretrain", torchData+c.file+".pth", pack, cfg)
			spec, err := run.Spec()
			if err != nil {
				t.Fatal(err)
			}
			if err := spec.Validate(); err != nil || spec.Width != c.width {
				t.Fatalf("%+v: %v", spec, err)
			}
			n, err := torch.Open(torchData + c.file + ".pth")
			if err != nil {
				t.Fatal(err)
			}
			first, err := run.first(pack, spec, spec.Params(model.PartEncoder, model.PartDecoder))
			if err != nil {
				t.Fatal(err)
			}
			for name, got := range first {
				want, ok := n.Tensors[name]
				if fromFile := c.decoder || strings.HasPrefix(name, "encoder."); fromFile != ok {
					t.Errorf("%s is of the file: %v, want %v", name, ok, fromFile)
				} else if ok && !cmp.Equal(want, got) {
					t.Errorf("%s is not what the file has", name)
				}
			}
			if c.file != "mvmae" { // to train all of them would take long; probes and finetuning follow below
				return
			}
			if err := Pretrain(t.Context(), dev, run, pack, func(Status) {}); err != nil {
				t.Fatal(err)
			}
			last, err := run.loadCheckpoint()
			if err != nil {
				t.Fatal(err)
			}
			if cmp.Equal(last.tensors["encoder.patchify.weight"], first["encoder.patchify.weight"]) {
				t.Error("training changed nothing")
			}
		})
	}
}

func TestBeginWith_ProbeAndFinetuneAcceptTheSame(t *testing.T) {
	dev, pack := device(t), makePack(t, 30)
	cfg := testConfig()
	cfg.Probe.Epochs, cfg.Finetune.Epochs, cfg.Finetune.BatchViews, cfg.Finetune.Optim.WarmupEpochs = 2, 1, 12, 0
	pretrained := beganRun(t, "pretrain", torchData+"mae.pth", pack, func() Config { c := cfg; c.Epochs = 2; return c }())
	if err := Pretrain(t.Context(), dev, pretrained, pack, func(Status) {}); err != nil {
		t.Fatal(err)
	}
	last, err := pretrained.loadCheckpoint()
	if err != nil {
		t.Fatal(err)
	}
	again := beganRun(t, "pretrain", pretrained.Dir, pack, cfg)
	spec, err := again.Spec()
	if err != nil {
		t.Fatal(err)
	}
	first, err := again.first(pack, spec, spec.Params(model.PartEncoder, model.PartDecoder))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range first { // encoder and decoder
		if !cmp.Equal(last.tensors[name].Data, got.Data) {
			t.Errorf("a run that begins with a run has another %s", name)
		}
	}
	for _, c := range []struct {
		kind, init, method string
		width              int
	}{
		{"probe", torchData + "mae.pth", torch.MAE, 48}, {"finetune", torchData + "mvmae_classifier.pth", torch.MVMAE, 32}, {"probe", pretrained.Dir, "mvmae", 48},
	} {
		run := beganRun(t, c.kind, c.init, pack, cfg)
		var err error
		if c.kind == "probe" {
			_, err = Probe(t.Context(), dev, run, pack, func(ProbeStatus) {})
		} else {
			_, err = Finetune(t.Context(), dev, run, pack, func(Status) {})
		}
		if err != nil {
			t.Fatalf("%s of %s: %v", c.kind, c.init, err)
		}
		_, meta, err := OpenClassifier(dev, run.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if meta.Encoder.Method != c.method || meta.Spec.Width != c.width {
			t.Errorf("%s of %s: encoder %+v, width %d", c.kind, c.init, meta.Encoder, meta.Spec.Width)
		}
	}
}

func TestBeginWith_ChangedFileIsRefused(t *testing.T) {
	pack := makePack(t, 10)
	dir := t.TempDir()
	path := filepath.Join(dir, "mvmae.pth")
	doc, err := os.ReadFile(torchData + "mvmae.pth")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, doc, 0o644); err != nil {
		t.Fatal(err)
	}
	run := beganRun(t, "finetune", path, pack, testConfig())
	if err := os.WriteFile(path, append(doc, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := run.begun(pack); err == nil || !strings.Contains(err.Error(), "not what it was when the run began") || hint.Of(err) == "" {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
	var info RunInfo
	if err := info.BeginWith(filepath.Join(dir, "nowhere.pth"), testConfig()); err == nil {
		t.Error("a file that is not there was accepted")
	}
}
