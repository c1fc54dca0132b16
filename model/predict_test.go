package model

import (
	"math"
	"testing"
)

// One block by hand: of each token, LayerNorm's input and output twice, queries, keys and values, the projection's input, GELU's
// input and output; and the weights of attention between the tokens of each head.
func TestPredictStep_CountsWhatABlockKeeps(t *testing.T) {
	deep, err := Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	kept := func(s Spec, half bool) int64 {
		step, err := PredictStep(s, 4, 1, half)
		if err != nil {
			t.Fatal(err)
		}
		return step.ActivationBytes
	}
	deeper := deep
	deeper.Depth++
	tokens, width, heads := int64(1+4), int64(deep.Width), int64(deep.Heads)
	wide := 2 * tokens * width
	narrow := tokens*width*(2+3+1+2*int64(deep.MLPRatio)) + heads*tokens*tokens
	if got, want := kept(deeper, false)-kept(deep, false), 4*wide+4*narrow; got != want {
		t.Errorf("a block more keeps %d bytes, want %d", got, want)
	}
	if got, want := kept(deeper, true)-kept(deep, true), 4*wide+2*narrow; got != want {
		t.Errorf("in bfloat16 a block more keeps %d bytes, want %d", got, want)
	}
}

func TestPredictStep_GrowsWithTheBatch(t *testing.T) {
	s, err := Preset("base")
	if err != nil {
		t.Fatal(err)
	}
	one, err := PredictStep(s, 20, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	many, err := PredictStep(s, 20, 256, true)
	if err != nil {
		t.Fatal(err)
	}
	if many.FLOPs != 256*one.FLOPs || many.ActivationBytes != 256*one.ActivationBytes || many.StateBytes != one.StateBytes {
		t.Errorf("256 images take %+v, one %+v", many, one)
	}
	if _, err := PredictStep(s, 0, 1, true); err == nil {
		t.Error("no visible patch: no error")
	}
	for _, g := range GPUs {
		for _, half := range []bool{false, true} {
			best, worst := g.Time(many, half)
			if !(0 < best && best <= worst) {
				t.Errorf("%s: from %v to %v", g.Name, best, worst)
			}
			if u := g.Utilisation(many, best, half); !(u > 0 && u <= assumedProducts+1e-6) {
				t.Errorf("%s: MFU %v, more than assumed", g.Name, u)
			}
		}
	}
	// The H200 is the H100 with faster memory: where memory bounds a step, it is faster by just that.
	many.FLOPs /= 10
	h100, _ := GPUs[1].Time(many, true)
	h200, _ := GPUs[2].Time(many, true)
	if ratio := h100.Seconds() / h200.Seconds(); math.Abs(ratio-4.8/3.35) > 1e-3 {
		t.Errorf("the H200 is %.3f times faster than the H100", ratio)
	}
}
