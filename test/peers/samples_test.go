package peers

import (
	"errors"
	"testing"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/internal/codecprog"
)

// refusedSamples are those of pydicom's files that we refuse, with the codes. No radiograph has 1 or 32 bits; the others break
// the standard: a VR that does not exist (explicit VR is announced, implicit VR follows), pixels cut short, "1A" frames, a
// delimiter in the middle of a code stream, no transfer syntax.
var refusedSamples = map[string]dicom.Code{
	"JPEG2000-embedded-sequence-delimiter.dcm": dicom.CodeMalformed,
	"MR_truncated.dcm":                         dicom.CodeTruncated,
	"SC_rgb_jpeg.dcm":                          dicom.CodeMalformed,
	"badVR.dcm":                                dicom.CodeMalformed,
	"SC_rgb_rle_32bit.dcm":                     dicom.CodeUnsupportedPixels,
	"SC_rgb_rle_32bit_2frame.dcm":              dicom.CodeUnsupportedPixels,
	"liver_1frame.dcm":                         dicom.CodeUnsupportedPixels,
	"liver_expb_1frame.dcm":                    dicom.CodeUnsupportedPixels,
	"rtdose.dcm":                               dicom.CodeUnsupportedPixels,
	"rtdose_1frame.dcm":                        dicom.CodeUnsupportedPixels,
	"rtdose_expb.dcm":                          dicom.CodeUnsupportedPixels,
	"rtdose_expb_1frame.dcm":                   dicom.CodeUnsupportedPixels,
	"rtdose_rle.dcm":                           dicom.CodeUnsupportedPixels,
	"rtdose_rle_1frame.dcm":                    dicom.CodeUnsupportedPixels,
}

// onlyWeDecode are those that pydicom's decoders fail at: 12-bit JPEG whose end libjpeg does not like.
var onlyWeDecode = map[string]bool{"JPEG-lossy.dcm": true}

func TestSamples_DecodeAsPydicomOrAreRefused(t *testing.T) {
	python, err := Find()
	if err != nil {
		codecprog.Skip(t, err.Error())
	}
	pool := external.NewPool(external.Options{Program: codecprog.Complete(t)})
	t.Cleanup(pool.Close)
	dir := t.TempDir()
	samples, err := python.Samples(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	equal, refused := 0, 0
	for _, s := range samples {
		plane, px, err := Decode(s.Path, pool.Decoders(t.Context()))
		if want := refusedSamples[s.Name]; want != "" || err != nil {
			var e *dicom.Error
			if !errors.As(err, &e) || e.Code != want {
				t.Errorf("%s: %v, want code %q", s.Name, err, want)
			}
			refused++
			continue
		}
		if failed := s.Error != ""; failed != onlyWeDecode[s.Name] {
			t.Errorf("%s: pydicom: %q", s.Name, s.Error)
		}
		if s.Error != "" {
			continue
		}
		values, err := Values(dir, s.Answer)
		if err != nil {
			t.Fatal(err)
		}
		tolerance := Result{File: File{Syntax: px.TransferSyntaxUID}}.PeerTolerance()
		if d := largest(plane.Values(), values); d > tolerance {
			t.Errorf("%s: differs from pydicom by %d", s.Name, d)
		}
		equal++
	}
	if equal < 78 || refused != len(refusedSamples) {
		t.Errorf("%d files compared, %d refused", equal, refused)
	}
}
