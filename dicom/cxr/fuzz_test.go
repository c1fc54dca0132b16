package cxr

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"strings"
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
)

// FuzzFromDICOM has one seed per native transfer syntax and kind of pixels, and one per compressed one. What is accepted is whole; what is refused has
// a code.
func FuzzFromDICOM(f *testing.F) {
	small := randomPicture(1, 6, 8, 0, 255)
	window := []dicom.Element{text(tag.WindowCenter, "100"), text(tag.WindowWidth, "50"), text(tag.VOILUTFunction, "SIGMOID"),
		text(tag.RescaleSlope, "2"), text(tag.RescaleIntercept, "-3"), text(tag.NumberOfFrames, "1")}
	lut := dicom.Element{Tag: tag.VOILUTSequence, VR: "SQ", Value: lutItem([]uint16{0, 9, 255}, 3, 0, 8)}
	rgb := with(chest(small, 8, false, "RGB"), dicom.Element{Tag: tag.SamplesPerPixel, VR: "US", Value: 3},
		dicom.Element{Tag: tag.PlanarConfiguration, VR: "US", Value: 1}, dicom.Element{Tag: tag.Columns, VR: "US", Value: 2})
	ybr := with(rgb, text(tag.PhotometricInterpretation, "YBR_FULL_422"), dicom.Element{Tag: tag.PlanarConfiguration, VR: "US", Value: 0})
	for _, syntax := range []string{dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian, dicom.ExplicitVRBigEndian,
		dicom.DeflatedExplicitVRLittleEndian} {
		for _, elems := range [][]dicom.Element{
			with(chest(small, 12, true, "MONOCHROME1"), window...),
			with(chest(small, 8, false, "MONOCHROME2"), lut, codes(tag.ViewCodeSequence, "SCT", "272479007")),
			rgb, ybr,
		} {
			f.Add(encode(f, syntax, elems), true, true)
			f.Add(encode(f, syntax, elems), false, false)
		}
	}
	samples := make([]uint16, len(small.values))
	for i, v := range small.values {
		samples[i] = uint16(v)
	}
	compressed := func(syntax string, frame []byte) {
		elems := with(chest(small, 8, false, "MONOCHROME1"), dicom.Element{Tag: tag.PixelData, VR: "OB", Value: frame})
		f.Add(encode(f, syntax, elems), true, false)
	}
	compressed(dicom.RLELossless, codectest.RLE(samples, 1, 1))
	j := codectest.JPEG{Rows: small.rows, Columns: small.columns, Components: 1, Precision: 8, Predictor: 1}
	for _, syntax := range []string{dicom.JPEGLossless, dicom.JPEGLosslessSV1, dicom.JPEG2000} {
		compressed(syntax, codectest.LosslessJPEG(j, samples))
	}
	var baseline bytes.Buffer
	gray := image.NewGray(image.Rect(0, 0, small.columns, small.rows))
	for i, v := range samples {
		gray.Pix[i] = byte(v)
	}
	if err := jpeg.Encode(&baseline, gray, nil); err != nil {
		f.Fatal(err)
	}
	compressed(dicom.JPEGBaseline, baseline.Bytes())
	compressed(dicom.JPEGExtended, baseline.Bytes())
	lim := dicom.Limits{MaxBytes: 1 << 20, MaxHeaderBytes: 1 << 16, MaxElements: 5000, MaxPixels: 1 << 14}
	f.Fuzz(func(t *testing.T, data []byte, mimic, fit bool) {
		recipe := Recipe{"display", fit}
		if mimic {
			recipe.Name = "mimic"
		}
		img, err := FromDICOM(data, recipe, lim)
		var r *Refusal
		switch {
		case err == nil && (len(img.Stored) != StoredSize*StoredSize || img.Rows < 1 || img.Columns < 1):
			t.Fatalf("%d bytes stored of %d x %d pixels", len(img.Stored), img.Rows, img.Columns)
		case err != nil && (!errors.As(err, &r) || r.Code == ""):
			t.Fatalf("an error without code: %v", err)
		}
	})
}

// FuzzView: case and padding never matter, and a view always has evidence.
func FuzzView(f *testing.F) {
	f.Add("PA", "CHEST LAT", "L\\F", "272479007")
	f.Add("lld", "X-TABLE", "A\\F", "r-10214")
	f.Add("", "cross table pa/lat", "", "")
	f.Fuzz(func(t *testing.T, position, series, orientation, code string) {
		upper := strings.ToUpper(position + series)
		if strings.ToUpper(strings.ToLower(position+series)) != upper {
			return // letters without a pair
		}
		read := func(position, series string) (View, Evidence, bool, bool) {
			elems := with(bare(), text(tag.ViewPosition, position), text(tag.SeriesDescription, series),
				text(tag.PatientOrientation, strings.Split(orientation, `\`)...), codes(tag.ViewCodeSequence, "SCT", code),
				text(tag.SpecificCharacterSet, "ISO_IR 192"))
			for _, s := range []string{position, series, orientation, code} {
				if len(s) > 1<<12 {
					return Unknown, EvidenceNone, false, false
				}
			}
			file, err := dicom.Parse(encode(t, dicom.ExplicitVRLittleEndian, elems), dicom.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			v, e, conflict := viewOf(file.Header)
			return v, e, conflict, true
		}
		v1, e1, c1, ok := read(position, series)
		if !ok {
			return
		}
		v2, e2, c2, _ := read(strings.ToLower(position)+" ", strings.ToLower(series)+"  ")
		if v1 != v2 || e1 != e2 || c1 != c2 {
			t.Errorf("%s from %s (%t), in lower case %s from %s (%t)", v1, e1, c1, v2, e2, c2)
		}
		if e1 == EvidenceNone && (v1 != Unknown || c1) {
			t.Errorf("%s without evidence, conflict %t", v1, c1)
		}
	})
}
