package cxr

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// The weights of reduced samples must average around the same point of the full image as those of its own pixels.
func TestReducedAxis_HasNoPhase(t *testing.T) {
	for _, c := range []struct{ n, levels, size, offset, count int }{
		{2500, 2, 256, 0, 256}, {3001, 2, 256, 0, 256}, {2047, 1, 256, 0, 256}, {4096, 3, 300, 22, 256}, {1024, 1, 256, 0, 256},
	} {
		m := (c.n + 1<<c.levels - 1) >> c.levels
		ax := reducedAxis(c.n, m, c.levels, c.size, c.offset, c.count)
		for i, s := range ax.spans {
			if s.a < 0 || s.b >= m || s.a > s.b {
				t.Fatalf("%+v: output %d takes samples %d to %d of %d", c, i, s.a, s.b, m)
			}
			sum, moment := s.first, float64(s.first)*float64(s.a)
			for k := s.a + 1; k <= s.b; k++ {
				w := ax.inner
				if k == s.b {
					w = s.last
				}
				sum += w
				moment += float64(w) * float64(k)
			}
			if sum != ax.total {
				t.Fatalf("%+v: the weights of output %d add up to %d of %d", c, i, sum, ax.total)
			}
			// Sample k is centred on pixel k<<levels. The last sample also stands for what lies beyond it.
			got := moment/float64(sum)*float64(int(1)<<c.levels) + 0.5
			want := (float64(c.offset+i) + 0.5) * float64(c.n) / float64(c.size)
			if slack := 0.01; math.Abs(got-want) > slack && i < len(ax.spans)-1 && s.b < m-1 && s.first == ax.inner && s.last == ax.inner {
				t.Errorf("%+v: output %d is centred at %.2f, want %.2f", c, i, got, want)
			}
			if math.Abs(got-want) > float64(int(1)<<c.levels)/2 {
				t.Errorf("%+v: output %d is centred at %.2f, want about %.2f", c, i, got, want)
			}
		}
	}
}

func TestReducedAxis_WithoutReductionIsTheAreaAverage(t *testing.T) {
	want := newAxis(2500, 256, 0, 256)
	got := reducedAxis(2500, 2500, 0, 256, 0, 256)
	for i := range want.spans { // the same weights in units of a half
		want.spans[i].first *= 2
		want.spans[i].last *= 2
	}
	want.inner *= 2
	want.total *= 2
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(axis{}, span{})); diff != "" {
		t.Error(diff)
	}
}

func TestReduction_OnlyForDisplayWithAWindow(t *testing.T) {
	for _, c := range []struct {
		name          string
		recipe        Recipe
		rows, columns int
		elements      []dicom.Element
		want          int
	}{
		{"display", Display, 3000, 2500, window("2048", "4096"), 2},
		{"display, small", Display, 1023, 2500, window("2048", "4096"), 0},
		{"display, just large enough", Display, 1024, 2500, window("2048", "4096"), 1},
		{"display without a window", Display, 3000, 2500, nil, 0},
		{"mimic", Mimic, 3000, 2500, window("2048", "4096"), 0},
	} {
		elements := append(chest(picture{1, 2, []int{0, 4095}}, 12, false, "MONOCHROME2"), c.elements...)
		f, err := dicom.Parse(encode(t, dicom.ExplicitVRLittleEndian, elements), dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		px := &dicom.Pixels{Rows: c.rows, Columns: c.columns, SamplesPerPixel: 1}
		if got := c.recipe.reduction(px, f.Header); got != c.want {
			t.Errorf("%s: %d levels, want %d", c.name, got, c.want)
		}
	}
}

func window(center, width string) []dicom.Element {
	return []dicom.Element{{Tag: tag.WindowCenter, Value: center}, {Tag: tag.WindowWidth, Value: width}}
}
