package model

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCostOf_KnownNetworks(t *testing.T) {
	for _, c := range []struct {
		preset  string
		visible int
		gflops  float64 // of embedding one image, counted by hand below
		params  int64
	}{
		// ViT-B/16 on 224 pixels, FLOPs: 12 blocks of 197*(24*768^2) + 4*197^2*768, patches 2*196*256*768, head 2*768*14.
		// Parameters: patches 197,376, views 2,304, CLS 768, 12 blocks of 7,087,872, final norm 1,536, head 10,766.
		{"base", 20, (12*(197*24*768*768+4*197*197*768) + 2*196*256*768 + 2*768*14) / 1e9, 85_267_214},
		// ViT-S/16: the same with 384.
		{"small", 20, (12*(197*24*384*384+4*197*197*384) + 2*196*256*384 + 2*384*14) / 1e9, 21_399_950},
	} {
		s, err := Preset(c.preset)
		if err != nil {
			t.Fatal(err)
		}
		cost, err := CostOf(s, c.visible)
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(cost.Embed) / 1e9; got != c.gflops {
			t.Errorf("%s: %.6f GFLOPs, want %.6f", c.preset, got, c.gflops)
		}
		if cost.Parameters != c.params {
			t.Errorf("%s: %d parameters, want %d", c.preset, cost.Parameters, c.params)
		}
		if cost.Encode >= cost.Embed/5 || cost.Decode <= 0 {
			t.Errorf("%s: encoding %d of %d patches costs %d, the whole image %d", c.preset, c.visible, s.NumPatches(), cost.Encode, cost.Embed)
		}
	}
}

// The text decoder's products by hand: T steps that attend to each other and to M tokens of the image.
func TestCostOf_TextDecoder(t *testing.T) {
	s, err := Preset("base")
	if err != nil {
		t.Fatal(err)
	}
	s.Text = Text{Vocabulary: 8192, MaxTokens: 101, Depth: 4, Heads: 8, Positions: true}
	cost, err := CostOf(s, 20)
	if err != nil {
		t.Fatal(err)
	}
	const T, M, D, V = 100, 21, 768, 8192
	self := 2*T*4*D*D + 4*T*T*D              // queries, keys, values and what joins them; scores and sums
	cross := 2*T*2*D*D + 2*M*2*D*D + 4*T*M*D // the keys and values are the image's
	if want := int64(4*(self+cross+2*T*2*D*D) + 2*T*D*V); cost.Text != want {
		t.Errorf("%d FLOPs, want %d", cost.Text, want)
	}
	plain := s
	plain.Text = Text{}
	if without, err := CostOf(plain, 20); err != nil || without.Text != 0 || without.Parameters != cost.Parameters {
		t.Errorf("without text %+v, with %+v (%v)", without, cost, err)
	}
}

func TestCostOf_EveryPresetAndRecipeFits(t *testing.T) {
	for _, name := range PresetNames() {
		for _, change := range []func(*Spec){
			func(*Spec) {},
			func(s *Spec) { s.QKNorm, s.Positions = true, Learned },
			func(s *Spec) { s.Pool = PoolMean },
			func(s *Spec) { s.Pool = PoolMeanFirst },
			func(s *Spec) { *s = s.Reference() },
			func(s *Spec) { s.Text = Text{Vocabulary: 300, MaxTokens: 9, Depth: 2, Heads: 8, Positions: true} },
			func(s *Spec) { *s = s.Reference(); s.Text = Text{Vocabulary: 300, MaxTokens: 9, Depth: 2, Heads: 8} },
		} {
			s, err := Preset(name)
			if err != nil {
				t.Fatal(err)
			}
			change(&s)
			if _, err := CostOf(s, 4); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestSpecValidate_NamesEveryFault(t *testing.T) {
	good, err := Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Spec)
		want   string
	}{
		{func(s *Spec) { s.Heads = 5 }, "heads 5 does not divide width 192"},
		{func(s *Spec) { s.PatchSize = 7 }, "patch_size 7 does not divide image_size 64"},
		{func(s *Spec) { s.Width, s.Heads = 6, 3 }, "not a multiple of 4"},
		{func(s *Spec) { s.Depth = 0 }, "depth is 0"},
		{func(s *Spec) { s.PixelStd = 0 }, "pixel_std"},
		{func(s *Spec) { s.Positions = "rotary" }, "positions"},
		{func(s *Spec) { s.Pool = "max" }, "pool"},
		{func(s *Spec) { s.Decoder.OwnViews = true }, "own_views"},
		{func(s *Spec) { s.FinalEps = 0 }, "final_eps"},
		{func(s *Spec) { s.NumClasses = 0 }, "num_classes"},
		{func(s *Spec) { s.Text = Text{Vocabulary: 300, MaxTokens: 9, Depth: 2, Heads: 5} }, "text.heads 5 does not divide width 192"},
		{func(s *Spec) { s.Text = Text{Vocabulary: 300, MaxTokens: 1, Depth: 2, Heads: 4} }, "text.max_tokens is 1"},
	} {
		s := good
		c.change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want one with %q", err, c.want)
		}
		if _, err := CostOf(s, 4); err == nil {
			t.Errorf("%s: counted all the same", c.want)
		}
	}
	if _, err := Preset("huge"); err == nil || !strings.Contains(err.Error(), "nano, tiny, small, base, large") {
		t.Errorf("unknown preset: %v", err)
	}
}

func TestInitialise_DependsOnSeedAndNameOnly(t *testing.T) {
	s, err := Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	all, encoder := s.Params(), s.Params(PartEncoder)
	if diff := cmp.Diff(all[0].Initialise(7), encoder[0].Initialise(7)); diff != "" {
		t.Errorf("the same parameter differs:\n%s", diff)
	}
	if cmp.Equal(all[0].Initialise(7), all[0].Initialise(8)) {
		t.Error("another seed gives the same values")
	}
	byName := map[string]Param{}
	for _, p := range all {
		byName[p.Name] = p
	}
	for name, want := range map[string]float32{"encoder.layer_norm.weight": 1, "head.bias": 0} {
		for _, v := range byName[name].Initialise(1) {
			if v != want {
				t.Fatalf("%s starts from %v, want %v", name, v, want)
			}
		}
	}
	// Glorot's bound for a linear layer of 64 -> 32.
	for _, v := range byName["encoder.patchify.weight"].Initialise(1) {
		if v < -0.25 || v > 0.25 {
			t.Fatalf("patchify.weight has %v, outside +-sqrt(6/96)", v)
		}
	}
}

func TestSafetensors_RoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	want := Tensors{"b": {[]int{2, 3}, []float32{1, 2, 3, 4, 5, -6}}, "a": {[]int{}, []float32{7}}, "empty": {[]int{0}, []float32{}}}
	if err := WriteSafetensors(path, want, map[string]string{"step": "3"}); err != nil {
		t.Fatal(err)
	}
	got, meta, err := ReadSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if meta["step"] != "3" {
		t.Errorf("metadata %v", meta)
	}
	if err := WriteSafetensors(path, Tensors{"a": {[]int{2}, []float32{1}}}, nil); err == nil {
		t.Error("a tensor whose shape does not fit its data was written")
	}
	if again, _, err := ReadSafetensors(path); err != nil || !cmp.Equal(want, again) {
		t.Errorf("a failed write changed the old file (%v)", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestSafetensors_DamageIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	if err := WriteSafetensors(path, Tensors{"a": {[]int{4}, []float32{1, 2, 3, 4}}}, nil); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) []byte {
		b := append([]byte{}, whole...)
		b[i] ^= 1
		return b
	}
	for name, doc := range map[string][]byte{
		"nothing": {}, "half a length": whole[:5], "cut in the header": whole[:40], "cut in the data": whole[:len(whole)-1],
		"a changed value": flip(len(whole) - 2), "a huge header": append([]byte{255, 255, 255, 255, 255, 255, 255, 127}, whole...),
		"no JSON": flip(8),
	} {
		if _, _, err := parseSafetensors(doc); err == nil || !strings.Contains(err.Error(), "corrupt checkpoint") {
			t.Errorf("%s: got error %v, want a corrupt checkpoint", name, err)
		}
	}
}

func FuzzSafetensors(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.safetensors")
	if err := WriteSafetensors(path, Tensors{"a": {[]int{2}, []float32{1, 2}}}, map[string]string{"k": "v"}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":{\"dtype\":1}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		tensors, _, err := parseSafetensors(doc)
		for name, x := range tensors {
			if err == nil && len(x.Data) != product(x.Dims) {
				t.Errorf("tensor %s has %d values for shape %v", name, len(x.Data), x.Dims)
			}
		}
	})
}

func TestCheckParams_ToleratesAxesOfOne(t *testing.T) {
	want := []Param{{Name: "cls", Dims: []int{4}}, {Name: "w", Dims: []int{2, 4}}}
	ok := Tensors{"cls": {[]int{1, 1, 4}, make([]float32, 4)}, "w": {[]int{2, 1, 2, 2}, make([]float32, 8)}}
	if err := ok.CheckParams(want); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]Tensors{
		"missing":    {"cls": ok["cls"]},
		"transposed": {"cls": ok["cls"], "w": {[]int{4, 2}, make([]float32, 8)}},
	} {
		if err := bad.CheckParams(want); err == nil || !strings.Contains(err.Error(), "parameter w") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestMetadata_RefusesWhatItCannotServe(t *testing.T) {
	spec, err := Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	good := Metadata{
		FormatVersion: 1, Spec: spec, Labels: Labels[:], Preprocessing: "mimic", Thresholds: make([]float64, NumLabels),
		Embedding: EmbeddingStats{Mean: make([]float32, 32), Std: slices.Repeat([]float32{1}, 32)},
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Metadata){
		"format_version is 2": func(m *Metadata) { m.FormatVersion = 2 },
		"labels: number 0":    func(m *Metadata) { m.Labels = append([]string{"Hernia"}, Labels[1:]...) },
		"preprocessing":       func(m *Metadata) { m.Preprocessing = "clahe" },
		"thresholds: 1 of":    func(m *Metadata) { m.Thresholds = []float64{0.5} },
		"thresholds: number":  func(m *Metadata) { m.Thresholds = append([]float64{2}, good.Thresholds[1:]...) },
		"embedding: 0 means":  func(m *Metadata) { m.Embedding.Mean = nil },
		"embedding: standard": func(m *Metadata) { m.Embedding.Std = make([]float32, 32) },
		"untrained_labels":    func(m *Metadata) { m.UntrainedLabels = []string{"Hernia"} },
		"spec":                func(m *Metadata) { m.Spec.Heads = 5 },
	} {
		m := good
		change(&m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}
