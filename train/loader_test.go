package train

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// crowdedPack is a pack, in memory only as far as dealing goes, of studies of one to five views.
func crowdedPack(studies int) (pack *data.Pack, all []int) {
	pack = &data.Pack{}
	images := 0
	for s := range studies {
		var study data.Study
		for range 1 + s%5 {
			study.Images = append(study.Images, images)
			images++
		}
		pack.Studies = append(pack.Studies, study)
		all = append(all, s)
	}
	return pack, all
}

func TestLoader_RecipeCodeDrawsThreeViewsOfLargeStudies(t *testing.T) {
	pack, all := crowdedPack(25)
	for _, clean := range []bool{true, false} {
		cfg := Code()
		cfg.Clean = clean
		l, err := newLoader(cfg, 12, pack, all)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		seen := map[int]bool{} // images
		for range 200 {
			b := l.deal(rng)
			if len(b.places) != 12 {
				t.Fatalf("%d places", len(b.places))
			}
			perRow := make([][]int, len(b.studies))
			for i, p := range b.places {
				if p.row < 0 {
					continue
				}
				perRow[p.row] = append(perRow[p.row], p.image)
				seen[p.image] = true
				if !clean && i/Slots != p.row {
					t.Fatalf("place %d belongs to study %d", i, p.row)
				}
			}
			for row, images := range perRow {
				of := pack.Studies[b.studies[row]].Images
				if len(images) != min(len(of), Slots) || len(slices.Compact(slices.Sorted(slices.Values(images)))) != len(images) {
					t.Fatalf("a study of %d images was dealt %v", len(of), images)
				}
				for _, image := range images {
					if !slices.Contains(of, image) {
						t.Fatalf("image %d is not of study %v", image, of)
					}
				}
			}
			if !clean && len(b.studies) != 4 {
				t.Fatalf("%d studies in 12 slots", len(b.studies))
			}
		}
		if want := 75; len(seen) != want {
			t.Errorf("clean %v: %d of %d images were ever dealt", clean, len(seen), want)
		}
	}
}

func TestPretraining_MasksAreOneAStudyOrOneAView(t *testing.T) {
	spec, err := model.Preset("base")
	if err != nil {
		t.Fatal(err)
	}
	b := hostBatch{studies: []int{0, 1}, places: []place{{0, 0}, {1, 0}, {2, 1}, {-1, -1}}}
	for _, cfg := range []Config{Default(), Code()} {
		p := &pretraining{cfg: cfg, spec: spec}
		in, _ := p.inputs(rand.New(rand.NewPCG(1, 2)), b)
		keep, err := tensors.CopyFlatData[int32](in[0].(*tensors.Tensor))
		if err != nil {
			t.Fatal(err)
		}
		k := len(keep) / 4
		row := func(i int) []int32 { return keep[i*k : (i+1)*k] }
		if same, want := slices.Equal(row(0), row(1)), cfg.Recipe == "paper"; same != want {
			t.Errorf("%s: two views of a study share their mask: %v", cfg.Recipe, same)
		}
		if slices.Equal(row(1), row(2)) || slices.Equal(row(2), row(3)) {
			t.Errorf("%s: two studies share a mask", cfg.Recipe)
		}
	}
}
