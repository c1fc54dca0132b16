package external

import (
	"math"
	"testing"

	"github.com/mvmae/mvmae/dicom"
)

func TestDecoders_LeaveOutLevelsOnlyWhenAsked(t *testing.T) {
	p := pool(t, Options{})
	stream := jpeg2000(t).Data
	px := &dicom.Pixels{TransferSyntaxUID: dicom.JPEG2000Lossless, Rows: 24, Columns: 20, Frames: 1, SamplesPerPixel: 1, BitsAllocated: 16,
		BitsStored: 16, HighBit: 15, Photometric: "MONOCHROME2", Fragments: [][]byte{stream}}
	full, err := p.Decoders(t.Context()).Decode(px)
	if err != nil {
		t.Fatal(err)
	}
	if full.Rows != 24 || full.Columns != 20 || full.Reduced != 0 {
		t.Fatalf("%d x %d, %d levels left out", full.Rows, full.Columns, full.Reduced)
	}
	half, err := p.Decoders(t.Context()).DecodeReduced(px, 1)
	if err != nil {
		t.Fatal(err)
	}
	if half.Rows != 12 || half.Columns != 10 || half.Reduced != 1 || half.FullRows != 24 || half.FullColumns != 20 {
		t.Fatalf("%d x %d, %d levels left out of %d x %d", half.Rows, half.Columns, half.Reduced, half.FullRows, half.FullColumns)
	}
	// The image is a plane, so sample k of the half has the value of pixel 2k, but for the transform's rounding; at the
	// borders, where the transform mirrors, by more.
	values, halves := full.Values(), half.Values()
	for r := 1; r < 11; r++ {
		for c := 1; c < 9; c++ {
			if d := math.Abs(float64(halves[r*10+c] - values[2*r*20+2*c])); d > 2 {
				t.Errorf("row %d, column %d: %d, pixel of the full image %d", r, c, halves[r*10+c], values[2*r*20+2*c])
			}
		}
	}
}

// Words that are negative to the header and large to the code stream have no mean: such an image is decoded fully, and as
// the header says.
func TestDecoders_HeaderDecidesTheSign(t *testing.T) {
	p := pool(t, Options{})
	px := &dicom.Pixels{TransferSyntaxUID: dicom.JPEG2000Lossless, Rows: 24, Columns: 20, Frames: 1, SamplesPerPixel: 1, BitsAllocated: 16,
		BitsStored: 16, HighBit: 15, Photometric: "MONOCHROME2", Fragments: [][]byte{jpeg2000(t).Data}}
	want, err := p.Decoders(t.Context()).Decode(px)
	if err != nil {
		t.Fatal(err)
	}
	px.Signed = true
	got, err := p.Decoders(t.Context()).DecodeReduced(px, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.Reduced != 0 || !got.Signed() {
		t.Fatalf("%d levels left out, signed %t", got.Reduced, got.Signed())
	}
	values := got.Values()
	for i, v := range want.Values() {
		if int32(int16(v)) != values[i] {
			t.Fatalf("pixel %d: %d, the words say %d", i, values[i], int16(v))
		}
	}
}

func TestDecoders_OfNoPoolAreNone(t *testing.T) {
	var p *Pool
	if d := p.Decoders(t.Context()); len(d) != 0 {
		t.Errorf("%d decoders", len(d))
	}
}
