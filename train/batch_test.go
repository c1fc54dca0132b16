package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/cxr"
)

func TestPacker_WholeStudiesInNearlyFullBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := make([]int, 1000)
	total := 0
	for i := range sizes {
		sizes[i] = 1 + rng.IntN(3)
		total += sizes[i]
	}
	p := newPacker(sizes, 64, 3)
	seen, views, batches := make([]int, len(sizes)), 0, 3*total/64
	for range batches {
		filled := 0
		for _, study := range p.next() {
			seen[study]++
			filled += sizes[study]
		}
		if filled > 64 {
			t.Fatalf("a batch holds %d views", filled)
		}
		views += filled
	}
	if share := float64(views) / float64(64*batches); share < 0.99 {
		t.Errorf("batches are %.1f %% full", 100*share)
	}
	// After three passes' worth of views every study was dealt about three times: waiting ones may lag by one.
	if lo, hi := slices.Min(seen), slices.Max(seen); lo < 2 || hi > 4 {
		t.Errorf("studies were dealt %d to %d times in three passes", lo, hi)
	}
}

func TestPacker_RepeatsFromItsSeed(t *testing.T) {
	sizes := []int{1, 2, 3, 1, 2, 3, 1}
	deal := func(seed uint64) (all [][]int) {
		p := newPacker(sizes, 4, seed)
		for range 20 {
			all = append(all, p.next())
		}
		return all
	}
	if diff := cmp.Diff(deal(1), deal(1)); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(deal(1), deal(2)) {
		t.Error("the seed changes nothing")
	}
}

func TestMask_KeepAndRestoreAreOnePermutation(t *testing.T) {
	keep, restore := mask(rand.New(rand.NewPCG(1, 1)), 196, 20)
	if len(keep) != 20 || len(restore) != 196 {
		t.Fatalf("%d kept of %d", len(keep), len(restore))
	}
	for place, patch := range keep {
		if restore[patch] != int32(place) {
			t.Errorf("patch %d is visible token %d, restore says %d", patch, place, restore[patch])
		}
	}
	sorted := slices.Clone(restore)
	slices.Sort(sorted)
	for i, v := range sorted {
		if v != int32(i) {
			t.Fatalf("restore is no permutation: %v", sorted)
		}
	}
}

func TestConfigVisible_PaperRoundsCodeCutsOff(t *testing.T) {
	for _, c := range []struct {
		recipe string
		n      int
		r      float64
		want   int
	}{
		{"paper", 196, 0.9, 20}, {"paper", 64, 0.9, 6}, {"paper", 196, 0.75, 49}, {"paper", 16, 0.99, 1}, {"paper", 16, 0.01, 15},
		{"code", 196, 0.93, 13}, {"code", 196, 0.9, 19}, {"code", 16, 0.75, 4}, {"code", 16, 0.99, 1},
	} {
		cfg, err := LoadConfig(c.recipe, []string{fmt.Sprint("mask.ratio=", c.r)})
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Visible(c.n); got != c.want {
			t.Errorf("%s: %d patches at ratio %v leave %d visible, want %d", c.recipe, c.n, c.r, got, c.want)
		}
	}
}

// cropTol is a fortieth of a grey level: window edges near 256 are float32 numbers on the device, good to 1.5e-5.
const cropTol = 1e-4

// cropped runs augment on the device for one stored image and one augmentation vector.
func cropped(t *testing.T, stored []byte, draws []float32, size int) []float32 {
	t.Helper()
	exec, err := graph.NewExec(device(t).Backend, func(stored, draws node) node { return augment(stored, draws, size) })
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Call(tensors.FromFlatDataAndDimensions(stored, 1, cxr.StoredSize, cxr.StoredSize), tensors.FromFlatDataAndDimensions(draws, 1, numDraws))
	if err != nil {
		t.Fatal(err)
	}
	return flat(t, out[0])
}

func noise(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 9))
	stored := make([]byte, cxr.StoredSize*cxr.StoredSize)
	for i := range stored {
		stored[i] = byte(rng.IntN(256))
	}
	return stored
}

func TestAugment_WithoutDrawsIsTheServedInput(t *testing.T) {
	stored := noise(1)
	for _, size := range []int{32, 64, 96, 224, 240} {
		want := make([]float32, size*size)
		cxr.Input(stored, size, want)
		within(t, "input", cropped(t, stored, noAugment(nil), size), want, cropTol, 0)
	}
}

func TestAugment_EachDrawDoesWhatItSays(t *testing.T) {
	stored := noise(2)
	plain := cropped(t, stored, noAugment(nil), 64)
	draws := noAugment(nil)
	draws[3] = 1
	mirrored := make([]float32, len(plain))
	for i := range plain {
		mirrored[i] = plain[i/64*64+63-i%64]
	}
	within(t, "flip", cropped(t, stored, draws, 64), mirrored, cropTol, 0)

	draws = noAugment(nil)
	draws[4] = 0.5
	half := make([]float32, len(plain))
	mean := 0.0
	for i := range plain {
		half[i] = plain[i] / 2
		mean += float64(plain[i]) / float64(len(plain))
	}
	within(t, "brightness", cropped(t, stored, draws, 64), half, cropTol, 0)

	draws = noAugment(nil)
	draws[5] = 1.4
	for i := range half {
		half[i] = float32(math.Min(math.Max((float64(plain[i])-mean)*1.4+mean, 0), 1))
	}
	within(t, "contrast", cropped(t, stored, draws, 64), half, cropTol, 0)

	// A crop of whole pixels, 128 to 64: the mean of 2x2 squares.
	squares := make([]float32, 64*64)
	for i := range squares {
		y, x := 17+i/64*2, 30+i%64*2
		sum := 0
		for _, at := range []int{y*256 + x, y*256 + x + 1, (y+1)*256 + x, (y+1)*256 + x + 1} {
			sum += int(stored[at])
		}
		squares[i] = float32(sum) / 4 / 255
	}
	within(t, "crop", cropped(t, stored, []float32{17, 30, 128, 0, 1, 1}, 64), squares, cropTol, 0)
}

func TestAugmentDraw_StaysInBounds(t *testing.T) {
	a, rng := Default().Augment, rand.New(rand.NewPCG(4, 4))
	flips := 0
	for range 2000 {
		d := a.draw(rng, nil)
		top, left, side := d[0], d[1], d[2]
		if len(d) != numDraws || top < 0 || left < 0 || top+side > 256.001 || left+side > 256.001 || side < 181 {
			t.Fatalf("window %v", d[:3])
		}
		if d[4] < 0.6 || d[4] > 1.4 || d[5] < 0.6 || d[5] > 1.4 {
			t.Fatalf("jitter %v", d[4:])
		}
		flips += int(d[3])
	}
	if flips < 900 || flips > 1100 {
		t.Errorf("%d of 2000 images were flipped", flips)
	}
}
