package torch

import (
	"archive/zip"
	"bytes"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// testdata/*.pth were written by PyTorch 1.13 with testdata/make.py.

func TestLoad_NumbersOfEveryTypeAndView(t *testing.T) {
	c, err := Load("testdata/tensors.pth")
	if err != nil {
		t.Fatal(err)
	}
	var transposed []float32
	for col := range 6 {
		for row := range 4 {
			transposed = append(transposed, float32(6*row+col))
		}
	}
	var shared []float32
	for i := range 24 {
		shared = append(shared, float32(i))
	}
	want := model.Tensors{
		"float64": {Dims: []int{2}, Data: []float32{1.5, -2.25}}, "float16": {Dims: []int{3}, Data: []float32{0.5, 1.0 / (1 << 24), -65504}},
		"bfloat16": {Dims: []int{2}, Data: []float32{1, -3}}, "int64": {Dims: []int{1, 2}, Data: []float32{7, -7}},
		"int32": {Dims: []int{1}, Data: []float32{3}}, "int16": {Dims: []int{1}, Data: []float32{-300}}, "int8": {Dims: []int{1}, Data: []float32{-4}},
		"uint8": {Dims: []int{1}, Data: []float32{250}}, "bool": {Dims: []int{2}, Data: []float32{1, 0}}, "scalar": {Data: []float32{3.5}},
		"empty": {Dims: []int{0, 4}}, "shared": {Dims: []int{4, 6}, Data: shared}, "transposed": {Dims: []int{6, 4}, Data: transposed},
		"part": {Dims: []int{2, 3}, Data: []float32{8, 9, 10, 14, 15, 16}}, "parameter": {Dims: []int{1}, Data: []float32{9}},
	}
	if diff := cmp.Diff(want, c.Tensors); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoad_TakesWeightsAndOptionsOfATrainingCheckpoint(t *testing.T) {
	c, err := Load("testdata/mae.pth")
	if err != nil {
		t.Fatal(err)
	}
	for name := range c.Tensors {
		if strings.Contains(name, "exp_avg") {
			t.Errorf("the optimiser's %s is among the weights", name)
		}
	}
	want := map[string]any{"model": "mae_vit_small_patch16", "blr": 1.5e-4, "norm_pix_loss": true, "output_dir": "", "seed": int64(1 << 40)}
	if diff := cmp.Diff(want, c.Args); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestOpen_KnowsEveryLayout(t *testing.T) {
	for _, c := range []struct {
		file, layout, preset string
		width, heads         int
		positions            model.Positions
		qkNorm, decoder, hed bool
		leftOut              string // one of the names
	}{
		{"vit", ViT, "nano", 32, 4, model.Learned, false, false, true, ""},
		{"mae", MAE, "custom", 48, 6, model.SinCos, false, false, false, "decoder_pred.weight"},
		{"medical_mae", ViT, "nano", 32, 4, model.Learned, false, false, true, ""},
		{"mae_finetuned", ViT, "nano", 32, 4, model.SinCos, false, false, true, ""},
		{"mvmae", MVMAE, "nano", 32, 4, model.Learned, true, true, false, ""},
		{"mvmae_classifier", MVMAE, "nano", 32, 4, model.Learned, true, false, true, ""},
	} {
		t.Run(c.file, func(t *testing.T) {
			n, err := Open("testdata/" + c.file + ".pth")
			if err != nil {
				t.Fatal(err)
			}
			s := n.Spec
			if n.Layout != c.layout || s.Preset != c.preset || s.Width != c.width || s.Heads != c.heads || s.Positions != c.positions || s.QKNorm != c.qkNorm ||
				n.HasDecoder != c.decoder || n.HasHead != c.hed || s.ImageSize != 32 || s.PatchSize != 8 || s.Depth != 2 {
				t.Errorf("%s %+v, decoder %v, head %v", n.Layout, s, n.HasDecoder, n.HasHead)
			}
			parts := []model.Part{model.PartEncoder}
			if c.decoder {
				parts = append(parts, model.PartDecoder)
			}
			if c.hed {
				parts = append(parts, model.PartHead)
			}
			params := s.Params(parts...)
			if err := n.Tensors.CheckParams(params); err != nil {
				t.Error(err)
			}
			if len(n.Tensors) != len(params) {
				t.Errorf("%d tensors for %d parameters", len(n.Tensors), len(params))
			}
			if c.leftOut != "" && !slices.Contains(n.LeftOut, c.leftOut) || c.leftOut == "" && len(n.LeftOut) > 0 {
				t.Errorf("left out %v: want %q", n.LeftOut, c.leftOut)
			}
		})
	}
}

// The golden cases' parameters have the published program's names.
func TestMap_GoldenParameters(t *testing.T) {
	for _, file := range []string{"code_mvmae_0", "vit_classifier_0"} {
		tensors, _, err := model.ReadSafetensors("../../testdata/golden/" + file + ".safetensors")
		if err != nil {
			t.Fatal(err)
		}
		params := model.Tensors{}
		for name, v := range tensors {
			if own, ok := strings.CutPrefix(name, "param."); ok {
				params[own] = v
			}
		}
		n, err := Map(&Checkpoint{Tensors: params}, Notes{Heads: 4})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if n.Layout != MVMAE || n.HasHead != (file == "vit_classifier_0") || n.HasDecoder != (file == "code_mvmae_0") || n.Spec.Heads != 4 {
			t.Errorf("%s: %+v", file, n.Spec)
		}
		for name, got := range n.Tensors {
			if diff := cmp.Diff(params[name].Data, got.Data); diff != "" && name != "encoder.patchify.weight" {
				t.Errorf("%s: %s differs:\n%s", file, name, diff)
			}
		}
	}
}

func TestMap_RefusesByName(t *testing.T) {
	drop := func(name string) func(*Checkpoint, *Notes) {
		return func(c *Checkpoint, _ *Notes) { delete(c.Tensors, name) }
	}
	add := func(name string, dims ...int) func(*Checkpoint, *Notes) {
		return func(c *Checkpoint, _ *Notes) {
			n := 1
			for _, d := range dims {
				n *= d
			}
			c.Tensors[name] = model.Tensor{Dims: dims, Data: make([]float32, n)}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Checkpoint, *Notes)
		want   string
	}{
		{"missing tensor", drop("blocks.1.attn.proj.bias"), "tensor blocks.1.attn.proj.bias [32] is missing"},
		{"missing norm", drop("norm.weight"), "tensor norm.weight [32] is missing"},
		{"missing patches' bias", drop("patch_embed.proj.bias"), "tensor patch_embed.proj.bias [32] is missing"},
		{"no blocks", drop("blocks.0.norm1.weight"), "tensor blocks.0.norm1.weight is missing"},
		{"unknown tensor", add("blocks.0.ls1.gamma", 32), "unknown: tensor blocks.0.ls1.gamma"},
		{"two last norms", add("fc_norm.weight", 32), "unknown: tensor fc_norm.weight"},
		{"wrong shape", add("blocks.0.mlp.fc2.weight", 32, 64), "tensor blocks.0.mlp.fc2.weight has shape [32 64]: want [32 128]"},
		{"no square", add("pos_embed", 1, 18, 32), "17 positions of patches make no square"},
		{"positions of another rank", add("pos_embed", 17, 32), "tensor pos_embed has shape [17 32]"},
		{"five channels", add("patch_embed.proj.weight", 32, 5, 8, 8), "tensor patch_embed.proj.weight has shape [32 5 8 8]"},
		{"another network", func(c *Checkpoint, _ *Notes) {
			c.Tensors = model.Tensors{"conv1.weight": {Dims: []int{1}, Data: []float32{1}}}
		}, "no patch embedding of a network that is known: the file holds conv1.weight"},
		{"not a number", func(c *Checkpoint, _ *Notes) { c.Tensors["norm.bias"].Data[3] = float32(math.NaN()) }, "tensor norm.bias: number 3 is NaN"},
		{"no scale", func(_ *Checkpoint, n *Notes) { n.Mean, n.Std = nil, nil }, "does not say how pixels were normalised"},
		{"two means", func(_ *Checkpoint, n *Notes) { n.Mean = []float64{0, 0} }, "mean has 2 numbers for 3 channels"},
		{"std of zero", func(_ *Checkpoint, n *Notes) { n.Std = []float64{0} }, "std holds 0"},
		{"no heads", func(_ *Checkpoint, n *Notes) { n.Heads = 0 }, "a width of 32 does not tell the number of heads"},
		{"heads that do not fit", func(_ *Checkpoint, n *Notes) { n.Heads = 5 }, "heads 5 does not divide width 32"},
		{"unknown label", func(_ *Checkpoint, n *Notes) { n.Labels = slices.Clone(n.Labels); n.Labels[2] = "Cancer" }, `"Cancer" is none of the 14`},
		{"label twice", func(_ *Checkpoint, n *Notes) { n.Labels = slices.Clone(n.Labels); n.Labels[2] = "Edema" }, `"Edema" stands there twice`},
		{"too few labels", func(_ *Checkpoint, n *Notes) { n.Labels = n.Labels[:3] }, "labels: 3 of them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkpoint, err := Load("testdata/vit.pth")
			if err != nil {
				t.Fatal(err)
			}
			notes, err := ReadNotes("testdata/vit.pth")
			if err != nil {
				t.Fatal(err)
			}
			c.change(checkpoint, &notes)
			if _, err := Map(checkpoint, notes); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v: want one with %q", err, c.want)
			}
		})
	}
}

func TestReadNotes_UnknownKeyIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vit.pth")
	write(t, notesPath(path), []byte("means = [1]\n"))
	if _, err := ReadNotes(path); err == nil || !strings.Contains(err.Error(), "means") || hint.Of(err) == "" {
		t.Errorf("error %v", err)
	}
}

// torchFile is what torch.save would write, with this pickle.
func torchFile(t testing.TB, pickle string, storages map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	members := map[string]string{"archive/data.pkl": pickle}
	for k, v := range storages {
		members["archive/"+k] = v
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = w.Write([]byte(members[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "made.pth")
	write(t, path, b.Bytes())
	return path
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// one is the pickle of {"w": a tensor of size [dims] and stride [stride] from offset on, in a storage of the file's "data/0"}.
func one(offset, dim, stride byte) string {
	return "\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" +
		"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ" +
		"K" + string([]byte{offset}) + "K" + string([]byte{dim}) + "\x85K" + string([]byte{stride}) + "\x85\x89ccollections\nOrderedDict\n)RtRs."
}

func TestLoad_MadeFileIsRead(t *testing.T) {
	c, err := Load(torchFile(t, one(1, 2, 2), map[string]string{"data/0": "\x00\x00\x00\x00\x00\x00\x80\x3f\x00\x00\x00\x00\x00\x00\x00\x40"}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(model.Tensors{"w": {Dims: []int{2}, Data: []float32{1, 2}}}, c.Tensors); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoad_PickleThatCallsCodeIsRefusedByName(t *testing.T) {
	for name, pickle := range map[string]string{
		"posix.system":                 "\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch /tmp/x\x85R.",
		"builtins.eval":                "\x80\x04\x8c\x08builtins\x8c\x04eval\x93X\x01\x00\x00\x001\x85R.",
		"torch.nn.modules.Linear":      "\x80\x02}X\x05\x00\x00\x00modelctorch.nn.modules\nLinear\n)\x81}bs.",
		"torch._utils._rebuild_device": "\x80\x02ctorch._utils\n_rebuild_device\n)R.",
	} {
		_, err := Load(torchFile(t, pickle, nil))
		var code *CodeError
		if !errors.As(err, &code) || code.Global != name || !strings.Contains(err.Error(), "a pickle that calls code: "+name) || hint.Of(err) == "" {
			t.Errorf("%s: error %v, hint %q", name, err, hint.Of(err))
		}
	}
}

func TestLoad_DamagedFileIsRefused(t *testing.T) {
	whole, err := os.ReadFile("testdata/vit.pth") // the format before PyTorch 1.6
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]string{"data/0": strings.Repeat("\x00", 16)}
	for _, c := range []struct {
		name, file string
		want       error
	}{
		{"legacy cut short", cut(t, whole[:len(whole)-100]), model.ErrCorrupt},
		{"legacy cut in the pickle", cut(t, whole[:3000]), ErrPickle},
		{"zip cut short", func() string {
			z, err := os.ReadFile("testdata/mvmae.pth")
			if err != nil {
				t.Fatal(err)
			}
			return cut(t, z[:len(z)-100])
		}(), model.ErrCorrupt},
		{"another pickle", cut(t, []byte("\x80\x02K\x01.")), ErrPickle},
		{"no pickle", torchFile(t, "", nil), ErrPickle},
		{"no storage", torchFile(t, one(0, 2, 1), nil), model.ErrCorrupt},
		{"tensor longer than its storage", torchFile(t, one(3, 2, 1), data), model.ErrCorrupt},
		{"stride past the storage", torchFile(t, one(0, 2, 200), data), model.ErrCorrupt},
		{"numbers used again and again", torchFile(t, one(0, 200, 0), data), model.ErrCorrupt},
		{"no dict", torchFile(t, "\x80\x02K\x01.", nil), ErrPickle},
		{"no tensors", torchFile(t, "\x80\x02}.", nil), ErrPickle},
		{"not a tensor", torchFile(t, "\x80\x02}X\x01\x00\x00\x00aK\x01s.", nil), ErrPickle},
		{"unknown operation", torchFile(t, "\x80\x02\xff.", nil), ErrPickle},
		{"empty stack", torchFile(t, "\x80\x02R.", nil), ErrPickle},
		{"text protocol", torchFile(t, "\x80\x01.", nil), ErrPickle},
		{"a length beyond the file", torchFile(t, "\x80\x02X\xff\xff\xff\x7f.", nil), ErrPickle},
		{"reference to nothing", torchFile(t, "\x80\x02h\x05.", nil), ErrPickle},
	} {
		if _, err := Load(c.file); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v: want %v", c.name, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "weights.safetensors")
	if err := model.WriteSafetensors(path, model.Tensors{"w": {Dims: []int{100}, Data: make([]float32, 100)}}, nil); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || len(c.Tensors) != 1 {
		t.Errorf("whole safetensors: %v", err)
	}
	if err := os.Truncate(path, 300); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, model.ErrCorrupt) || hint.Of(err) == "" {
		t.Errorf("safetensors cut short: error %v", err)
	}
	if _, err := Load(cut(t, []byte("hello"))); !errors.Is(err, model.ErrCorrupt) || hint.Of(err) == "" {
		t.Errorf("a text: error %v", err)
	}
}

func cut(t *testing.T, data []byte) string {
	path := filepath.Join(t.TempDir(), "weights.pth")
	write(t, path, data)
	return path
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"tensors", "vit"} {
		data, err := os.ReadFile("testdata/" + name + ".pth")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 8000)])
	}
	whole, err := os.ReadFile("testdata/tensors.pth")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decode(bytes.NewReader(data), int64(len(data))); err == nil {
			for name, x := range c.Tensors {
				n := 1
				for _, d := range x.Dims {
					n *= d
				}
				if n != len(x.Data) {
					t.Errorf("%s: %d numbers for shape %v", name, len(x.Data), x.Dims)
				}
			}
		}
	})
}
