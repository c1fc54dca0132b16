package serve

import (
	"bytes"
	"encoding/base64"
	goimage "image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/serve/servetest"
)

func pictureOf(t *testing.T, url string) goimage.Image {
	t.Helper()
	data, ok := strings.CutPrefix(url, "data:image/png;base64,")
	file, err := base64.StdEncoding.DecodeString(data)
	if !ok || err != nil {
		t.Fatalf("%.40s: %v", url, err)
	}
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestOverlay_ShowsWhereTheAttentionIs(t *testing.T) {
	const size = 8
	seen := bytes.Repeat([]byte{100}, size*size)
	seen[0] = 10
	url, err := overlay(seen, [][]float32{{0.1, 0.1}, {0.1, 0.7}})
	if err != nil {
		t.Fatal(err)
	}
	img := pictureOf(t, url)
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA) }
	for _, c := range []struct {
		x, y int
		want color.RGBA
	}{
		{0, 0, color.RGBA{10, 10, 10, 255}},    // less than an even share: the picture as it is
		{7, 0, color.RGBA{100, 100, 100, 255}}, // a row is a row
		{7, 7, color.RGBA{193, 40, 40, 255}},   // the most: three fifths of the way to red
	} {
		if got := at(c.x, c.y); got != c.want {
			t.Errorf("pixel %d,%d: %v, want %v", c.x, c.y, got, c.want)
		}
	}
	if mid := at(4, 4); mid.R <= 100 || mid.R >= 193 { // between the patches' centres
		t.Errorf("in the middle: %v", mid)
	}
	if img.Bounds().Dx() != size || img.Bounds().Dy() != size {
		t.Errorf("%v, want %d pixels a side", img.Bounds(), size)
	}
}

// A model without preference has nothing to show.
func TestOverlay_EvenAttentionIsThePictureItself(t *testing.T) {
	url, err := overlay([]byte{1, 2, 3, 4}, [][]float32{{0.25, 0.25}, {0.25, 0.25}})
	if err != nil {
		t.Fatal(err)
	}
	if got := pictureOf(t, url).At(1, 1); got != (color.RGBA{4, 4, 4, 255}) && color.GrayModel.Convert(got) != (color.Gray{4}) {
		t.Errorf("%v", got)
	}
}

func TestHTTP_AttentionAsPNGIsOfTheModelsInput(t *testing.T) {
	f := &fakeModel{attend: true}
	s := readyServer(t, f, ServerOptions{})
	object := servetest.Object{}.Bytes(t)
	r := httptest.NewRequest(http.MethodPost, pathClassify+"?attention=png", bytes.NewReader(object))
	r.Header.Set("Content-Type", "application/dicom")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	v := resultOf(t, w).Views[0]
	if len(v.Attention) != 4 {
		t.Errorf("attention %v: the numbers come too", v.Attention)
	}
	img := pictureOf(t, v.AttentionPNG)
	read, err := cxr.FromDICOM(object, cxr.Mimic, fakeEngine(t, f, Options{}).limits)
	if err != nil {
		t.Fatal(err)
	}
	input := make([]float32, 32*32)
	cxr.Input(read.Stored, 32, input)
	// The first patch holds nothing, so its corner is the picture itself.
	var want, got []uint8
	for x := range 4 {
		want = append(want, uint8(255*input[x]+0.5))
		got = append(got, color.RGBAModel.Convert(img.At(x, 0)).(color.RGBA).G)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-model's input +picture)\n%s", diff)
	}
}

// changes of three views, recomputed by hand from the two that are left.
func TestClassify_ChangeWithoutAView(t *testing.T) {
	e := fakeEngine(t, &fakeModel{}, Options{})
	objects := append(servetest.Study("1.2", 1), servetest.Object{Study: "1.2", SOP: "1.2.3", Seed: 8})
	whole, err := e.Classify(t.Context(), Uploads(files(t, objects...)...))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range whole.Views {
		var others []servetest.Object
		for j, o := range objects {
			if j != i {
				others = append(others, o)
			}
		}
		without, err := e.Classify(t.Context(), Uploads(files(t, others...)...))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]float32{}
		changed := false
		for _, label := range model.Labels {
			want[label] = without.Probabilities[label] - whole.Probabilities[label]
			changed = changed || want[label] != 0
		}
		if diff := cmp.Diff(want, v.ChangeWithout); diff != "" || !changed {
			t.Errorf("view %s (-want +got)\n%s", v.SOPInstanceUID, diff)
		}
	}
	alone, err := e.Classify(t.Context(), Uploads(files(t, objects[:1]...)...))
	if err != nil || alone.Views[0].ChangeWithout != nil {
		t.Errorf("one view: %v, %v: nothing is left without it", alone.Views[0].ChangeWithout, err)
	}
}
