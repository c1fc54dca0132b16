package peers

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/codecprog"
)

// Reduced decoding, which display takes, changes the model's input by 0.15 of 255 on the mean at most, with both transforms
// and at both levels; of a noisy image, which it would change by more, display takes all levels.
func TestReduced_IsNearTheFullPicture(t *testing.T) {
	python, err := Find()
	if err != nil {
		codecprog.Skip(t, err.Error())
	}
	pool := external.NewPool(external.Options{Program: codecprog.Complete(t)})
	t.Cleanup(pool.Close)
	decoders := pool.Decoders(context.Background())
	for _, c := range []struct {
		base Base
		want int // levels left out
	}{{Quiet(2431, 2317), 2}, {Quiet(1500, 1307), 1}, {Bases(1500, 1307)[2], 0}} {
		dir := t.TempDir()
		if err := WriteBases(dir, []Base{c.base}); err != nil {
			t.Fatal(err)
		}
		files, err := python.Encode(context.Background(), dir, dir, "90.gdcm", "91.pylibjpeg", "201.openjph", "203.openjph")
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 4 {
			t.Errorf("%d files of %s", len(files), c.base.Name)
		}
		for _, f := range files {
			if f.Error != "" {
				t.Errorf("%s: %s", f.File, f.Error)
				continue
			}
			left := -1
			watched := codec.Decoders{f.Syntax: func(frame []byte, p *dicom.Pixels, levels int) (*codec.Plane, error) {
				plane, err := decoders[f.Syntax](frame, p, levels)
				if err == nil {
					left = plane.Reduced
				}
				return plane, err
			}}
			whole := codec.Decoders{f.Syntax: func(frame []byte, p *dicom.Pixels, _ int) (*codec.Plane, error) {
				return decoders[f.Syntax](frame, p, 0)
			}}
			path := filepath.Join(dir, f.File)
			got := inputOf(t, path, cxr.Options{Recipe: cxr.Display, Codecs: watched})
			full := inputOf(t, path, cxr.Options{Recipe: cxr.Display, Codecs: whole})
			if left != c.want {
				t.Errorf("%s: %d levels left out, want %d", f.File, left, c.want)
			}
			var mean, most float64
			for i := range got {
				d := 255 * math.Abs(float64(got[i])-float64(full[i]))
				mean += d / float64(len(got))
				most = max(most, d)
			}
			t.Logf("%d x %d, %s: %d levels left out, mean %.3f, most %.0f of 255", c.base.Rows, c.base.Columns, f.File, left, mean, most)
			if mean > 0.15 || most > 4 {
				t.Errorf("%s: the inputs differ by mean %.3f, most %.0f of 255", f.File, mean, most)
			}
		}
	}
}

func inputOf(t *testing.T, path string, o cxr.Options) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := o.FromDICOM(data)
	if err != nil {
		t.Fatal(err)
	}
	input := make([]float32, cxr.CropSize*cxr.CropSize)
	cxr.Input(img.Stored, cxr.CropSize, input)
	return input
}
