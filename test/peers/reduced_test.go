package peers

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/codecprog"
)

// Reduced decoding, which display takes, changes the model's input by little; mimic decodes fully and changes nothing.
func TestReduced_IsNearTheFullPictureAndMimicIsExact(t *testing.T) {
	python, err := Find()
	if err != nil {
		codecprog.Skip(t, err.Error())
	}
	pool := external.NewPool(external.Options{Program: codecprog.Complete(t)})
	t.Cleanup(pool.Close)
	dir := t.TempDir()
	base := Bases(1408, 1030)[2:3] // 16 bits, which both encoders take
	if err := WriteBases(dir, base); err != nil {
		t.Fatal(err)
	}
	files, err := python.Encode(context.Background(), dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	decoders := pool.Decoders(context.Background())
	native := read(t, filepath.Join(dir, base[0].Name+".dcm"), cxr.Options{Recipe: cxr.Mimic})
	tried := 0
	for _, f := range files {
		if f.Error != "" || !strings.Contains(" .90 .201 ", " "+f.Arc()+" ") {
			continue
		}
		tried++
		path := filepath.Join(dir, f.File)
		reduced := 0
		watched := codec.Decoders{f.Syntax: func(frame []byte, p *dicom.Pixels, levels int) (*codec.Plane, error) {
			plane, err := decoders[f.Syntax](frame, p, levels)
			if err == nil {
				reduced = plane.Reduced
			}
			return plane, err
		}}
		if diff := cmp.Diff(native.Stored, read(t, path, cxr.Options{Recipe: cxr.Mimic, Codecs: watched}).Stored); diff != "" || reduced != 0 {
			t.Errorf("%s: mimic left out %d levels; its picture (-want +got)\n%s", f.File, reduced, diff)
		}
		full := read(t, filepath.Join(dir, base[0].Name+".dcm"), cxr.Options{Recipe: cxr.Display})
		small := read(t, path, cxr.Options{Recipe: cxr.Display, Codecs: watched})
		if reduced != 1 {
			t.Errorf("%s: %d levels left out, want 1", f.File, reduced)
		}
		mean, most := differences(full, small)
		t.Logf("%s: mean %.3f, most %.2f of 255", f.File, mean, most)
		if mean > 0.15 || most > 8 {
			t.Errorf("%s: mean difference %.3f of 255, largest %.2f", f.File, mean, most)
		}
		if small.Rows != 1408 || small.Columns != 1030 {
			t.Errorf("%s: said to be %d x %d", f.File, small.Rows, small.Columns)
		}
	}
	if tried < 3 {
		t.Errorf("%d files only", tried)
	}
}

func read(t *testing.T, path string, o cxr.Options) *cxr.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := o.FromDICOM(data)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// differences are those of the models' inputs at 224, of 255.
func differences(a, b *cxr.Image) (mean, most float64) {
	x, y := make([]float32, cxr.CropSize*cxr.CropSize), make([]float32, cxr.CropSize*cxr.CropSize)
	cxr.Input(a.Stored, cxr.CropSize, x)
	cxr.Input(b.Stored, cxr.CropSize, y)
	for i := range x {
		d := 255 * math.Abs(float64(x[i]-y[i]))
		mean += d / float64(len(x))
		most = max(most, d)
	}
	return mean, most
}
