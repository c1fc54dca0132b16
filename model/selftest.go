package model

import (
	"errors"
	"fmt"
	"math"
)

// SelfTest is what a model said of a few drawn images when it was exported. Whoever opens the file compares: a file that was damaged,
// or a machine that computes something else, is found before it answers anything.
type SelfTest struct {
	Views  []int64     `json:"views"`
	Logits [][]float32 `json:"logits"` // [n][NumLabels], rounded to 4 decimals, of SelfTestImages run one by one on a CPU
}

// selfTestImages is how many images a self-test may have.
const selfTestImages = 8

// SelfTestImages are n drawn images [n*S*S] with values in [0,1]: a ramp under a texture, different for each. They are made of
// integers, so that every machine draws the same.
func SelfTestImages(n, size int) []float32 {
	images := make([]float32, 0, n*size*size)
	for i := range n {
		for y := range size {
			for x := range size {
				h := uint32(x+1)*73856093 ^ uint32(y+1)*19349663 ^ uint32(i+1)*83492791
				ramp := uint32(x+y*(i+1)) % uint32(2*size) * 96 / uint32(size) // 0 to 191
				images = append(images, float32(ramp+h>>13%64)/255)
			}
		}
	}
	return images
}

// NewSelfTest notes what run says of the images, each by itself.
func NewSelfTest(s Spec, run func(image []float32, view int64) ([NumLabels]float32, error)) (*SelfTest, error) {
	t := &SelfTest{}
	for i := range int64(NumViews) {
		row, err := run(t.image(s, int(i)), i)
		if err != nil {
			return nil, fmt.Errorf("self-test: %w", err)
		}
		t.Views = append(t.Views, i)
		rounded := make([]float32, NumLabels)
		for l, v := range row {
			rounded[l] = float32(math.Round(float64(v)*1e4) / 1e4)
		}
		t.Logits = append(t.Logits, rounded)
	}
	return t, nil
}

func (t *SelfTest) image(s Spec, i int) []float32 {
	return SelfTestImages(i+1, s.ImageSize)[i*s.ImageSize*s.ImageSize:]
}

// SelfTestError says that a model does not say what it said when it was exported.
type SelfTestError struct {
	Image     int
	Label     string
	Want, Got float32
	Tolerance float64
}

func (e *SelfTestError) Error() string {
	return fmt.Sprintf("it does not say what it said when it was exported: drawn image %d, %s: %g instead of %g (tolerance %g)", e.Image, e.Label, e.Got, e.Want, e.Tolerance)
}

// Hint says what is wrong most likely.
func (e *SelfTestError) Hint() string {
	return "the file is damaged, or this machine's ONNX Runtime computes something else: copy the file again, then try --device cpu"
}

// Check compares what run says now. The tolerance is of each logit, relative to those above 1.
func (t *SelfTest) Check(s Spec, tolerance float64, run func(image []float32, view int64) ([NumLabels]float32, error)) error {
	for i, view := range t.Views {
		row, err := run(t.image(s, i), view)
		if err != nil {
			return err
		}
		for l, got := range row {
			want := t.Logits[i][l]
			if d := math.Abs(float64(got - want)); !(d <= tolerance*max(1, math.Abs(float64(want)))) { // not d > ...: NaN differs from everything
				return &SelfTestError{i, Labels[l], want, got, tolerance}
			}
		}
	}
	return nil
}

func (t *SelfTest) validate() error {
	if len(t.Views) == 0 || len(t.Views) > selfTestImages || len(t.Views) != len(t.Logits) {
		return fmt.Errorf("%d views and logits of %d images: want 1 to %d of each", len(t.Views), len(t.Logits), selfTestImages)
	}
	for i, row := range t.Logits {
		if len(row) != NumLabels || t.Views[i] < 0 || t.Views[i] >= NumViews {
			return errors.New("a view or a number of logits that no model has")
		}
	}
	return nil
}
