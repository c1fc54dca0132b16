package train

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// Three epochs of which label 0 has its best in the first, label 1 in the second and the mean in the third.
func TestSelection_KeepsEachLabelsBestEpochOverAResume(t *testing.T) {
	pack := makePack(t, 40)
	for i := range pack.Studies { // three labels are known, the third is always negative
		s := &pack.Studies[i]
		s.Labels = model.AbsentLabels()
		for l := range 3 {
			s.Labels[l] = model.Negative
		}
		if l := i % 3; l < 2 {
			s.Labels[l] = model.Positive
		}
	}
	run := newRun(t, "probe", "", pack, testConfig())
	s, err := newSelection(run, pack)
	if err != nil {
		t.Fatal(err)
	}
	// epochs[e][l] is how much of a label's truth an epoch's logits tell: all, half of the studies, or none.
	epochs := [][2]float32{{1, -1}, {-1, 1}, {0.9, 0.9}}
	logitsOf := func(part, epoch int) (out [][model.NumLabels]float32) {
		for n, study := range s.studies[part] {
			for range pack.Studies[study].Images {
				var x [model.NumLabels]float32
				for l := range 2 {
					truth := float32(-1)
					if pack.Studies[study].Labels[l] == model.Positive {
						truth = 1
					}
					x[l] = truth * epochs[epoch][l]
					if epochs[epoch][l] == 0.9 && n%4 == 0 { // and wrong here and there
						x[l] = -x[l]
					}
				}
				x[2] = float32(epoch)
				out = append(out, x)
			}
		}
		return out
	}
	for epoch := range epochs {
		asked := false
		score, err := s.offer(epoch+1, logitsOf(0, epoch), func() ([][model.NumLabels]float32, error) {
			asked = true
			return logitsOf(1, epoch), nil
		})
		if err != nil || !asked {
			t.Fatalf("epoch %d: asked for test %v, error %v", epoch+1, asked, err)
		}
		if again, err := newSelection(run, pack); err != nil || again.restore(score.kept, s.macro) != nil || !cmp.Equal(again, s, cmp.AllowUnexported(selection{}), cmp.Comparer(func(a, b *data.Pack) bool { return a == b })) {
			t.Errorf("epoch %d: restored %+v, want %+v (%v)", epoch+1, again, s, err)
		} else {
			s = again
		}
	}
	if s.joint != 3 || s.epoch[0] != 1 || s.epoch[1] != 2 || s.epoch[2] != 3 {
		t.Errorf("epochs %v, joint %d; want 1, 2, 3 and 3", s.epoch[:3], s.joint)
	}
	for part := range s.logits {
		for image, got := range s.logits[part] {
			want := [3]float32{logitsOf(part, 0)[image][0], logitsOf(part, 1)[image][1], 2}
			if [3]float32(got[:3]) != want {
				t.Fatalf("part %d, image %d: %v, want %v", part, image, got[:3], want)
			}
		}
	}
	kept := s.tensors()
	kept["test"] = model.Tensor{Dims: []int{0, model.NumLabels}}
	if err := s.restore(kept, 0); !errors.Is(err, model.ErrCorrupt) {
		t.Errorf("a checkpoint without the logits: %v", err)
	}
}
