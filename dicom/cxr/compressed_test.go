package cxr

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
)

// The same pixels are the same picture to the model, however they were compressed.
func TestFromDICOM_LosslessIsAsNative(t *testing.T) {
	for i, c := range []struct {
		bits        int
		signed      bool
		photometric string
	}{{8, false, "MONOCHROME2"}, {8, true, "MONOCHROME1"}, {12, false, "MONOCHROME1"}, {12, true, "MONOCHROME2"}, {16, true, "MONOCHROME2"}} {
		lo := 0
		if c.signed {
			lo = -1 << (c.bits - 1)
		}
		p := randomPicture(uint64(i), 301, 263, lo, lo+1<<c.bits-1)
		elems := chest(p, c.bits, c.signed, c.photometric)
		words, stored := make([]uint16, len(p.values)), make([]uint16, len(p.values))
		for i, v := range p.values {
			words[i] = uint16(v) // as it is in 16 bits allocated, or cut to 8
			stored[i] = uint16(v) & (1<<c.bits - 1)
		}
		size := (c.bits + 7) / 8
		j := codectest.JPEG{Rows: p.rows, Columns: p.columns, Components: 1, Precision: c.bits, Predictor: 1 + i}
		whole := j
		whole.Precision = 8 * size
		streams := []struct {
			name, syntax string
			frame        []byte
		}{
			{"RLE", dicom.RLELossless, codectest.RLE(words, 1, size)},
			{"JPEG", dicom.JPEGLossless, codectest.LosslessJPEG(j, stored)},
			{"JPEG, SV1", dicom.JPEGLosslessSV1, codectest.LosslessJPEG(codectest.JPEG{Rows: p.rows, Columns: p.columns,
				Components: 1, Precision: c.bits, Predictor: 1, RestartLines: 7}, stored)},
			{"JPEG of whole words", dicom.JPEGLossless, codectest.LosslessJPEG(whole, words)},
		}
		for _, recipe := range []Recipe{Mimic, Display, {"mimic", true}} {
			want := mustRead(t, recipe, elems)
			for _, s := range streams {
				if s.name == "JPEG of whole words" && c.bits == 8 {
					continue // the same as JPEG
				}
				got, err := FromDICOM(encode(t, s.syntax, with(elems, dicom.Element{Tag: tag.PixelData, VR: "OB", Value: s.frame})),
					recipe, dicom.DefaultLimits())
				if err != nil {
					t.Errorf("%s of %+v: %v", s.name, c, err)
					continue
				}
				if !bytes.Equal(want.Stored, got.Stored) {
					t.Errorf("%s of %+v, %s: the stored pictures differ: %s", s.name, c, recipe, difference(want.Stored, got.Stored))
				}
				if got.TransferSyntaxUID != s.syntax {
					t.Errorf("%s: transfer syntax %s", s.name, got.TransferSyntaxUID)
				}
				got.TransferSyntaxUID = want.TransferSyntaxUID
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s of %+v (-want +got)\n%.1000s", s.name, c, diff)
				}
			}
		}
	}
}

// A lossy picture is that of a native object of the decoded values.
func TestFromDICOM_BaselineIsItsDecodedValues(t *testing.T) {
	p := randomPicture(3, 301, 263, 0, 255)
	img := image.NewGray(image.Rect(0, 0, p.columns, p.rows))
	for i, v := range p.values {
		img.Pix[i] = byte(v)
	}
	var frame bytes.Buffer
	if err := jpeg.Encode(&frame, img, nil); err != nil {
		t.Fatal(err)
	}
	elems := chest(p, 8, false, "MONOCHROME1")
	file := encode(t, dicom.JPEGBaseline, with(elems, dicom.Element{Tag: tag.PixelData, VR: "OB", Value: frame.Bytes()}))
	f, err := dicom.Parse(file, dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	pixels, err := f.Pixels()
	if err != nil {
		t.Fatal(err)
	}
	plane, err := codec.Decode(pixels)
	if err != nil {
		t.Fatal(err)
	}
	decoded := picture{p.rows, p.columns, nil}
	for _, v := range plane.Values() {
		decoded.values = append(decoded.values, int(v))
	}
	got, err := FromDICOM(file, Mimic, dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if want := mustRead(t, Mimic, chest(decoded, 8, false, "MONOCHROME1")); !bytes.Equal(want.Stored, got.Stored) {
		t.Errorf("the stored pictures differ: %s", difference(want.Stored, got.Stored))
	}
}

func TestFromDICOM_DecodersFromOutside(t *testing.T) {
	p := randomPicture(1, 20, 30, 0, 255)
	elems := chest(p, 8, false, "MONOCHROME2")
	raw := make([]byte, len(p.values))
	for i, v := range p.values {
		raw[i] = byte(v)
	}
	file := encode(t, dicom.JPEG2000, with(elems, dicom.Element{Tag: tag.PixelData, VR: "OB", Value: raw}))
	_, err := FromDICOM(file, Mimic, dicom.DefaultLimits())
	if r, ok := err.(*Refusal); !ok || r.Code != string(dicom.CodeUnsupportedSyntax) {
		t.Errorf("without a decoder: %v", err)
	}
	o := Options{Recipe: Mimic, Codecs: codec.Decoders{
		dicom.JPEG2000: func(frame []byte, p *dicom.Pixels, _ int) (*codec.Plane, error) {
			return codec.Gray8(p.Rows, p.Columns, frame), nil
		}}}
	got, err := o.FromDICOM(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := mustRead(t, Mimic, elems); !bytes.Equal(want.Stored, got.Stored) {
		t.Errorf("the stored pictures differ: %s", difference(want.Stored, got.Stored))
	}
}
