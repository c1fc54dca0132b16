package cxr

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

var deidentifier = dicom.Deidentifier{Key: []byte("0123456789abcdef"), BurnedIn: true}

// sameWithoutIdentity wants the same picture, view, evidence and flags of a file and of what is left of it without identities.
func sameWithoutIdentity(t testing.TB, syntax string, elems []dicom.Element) {
	t.Helper()
	in := encode(t, syntax, elems)
	var out bytes.Buffer
	if err := deidentifier.Write(&out, in); err != nil {
		t.Fatal(err)
	}
	want, err := FromDICOM(in, Display, dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromDICOM(out.Bytes(), Display, dicom.DefaultLimits())
	if err != nil {
		t.Fatalf("without identity: %v", err)
	}
	for _, id := range []*string{&want.StudyInstanceUID, &want.SeriesInstanceUID, &want.SOPInstanceUID} {
		*id = deidentifier.UID(*id)
	}
	want.PatientID = deidentifier.Name("patient", want.PatientID)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("without identity (-before +after)\n%s", diff)
	}
}

func TestDeidentify_SamePictureViewAndEvidence(t *testing.T) {
	p := randomPicture(1, 20, 30, 0, 4095)
	window := []dicom.Element{text(tag.WindowCenter, "2000"), text(tag.WindowWidth, "900"), text(tag.RescaleSlope, "2"), text(tag.RescaleIntercept, "-3")}
	for name, elems := range map[string][]dicom.Element{
		"position":     chest(p, 12, false, "MONOCHROME1"),
		"codes":        with(chest(p, 12, false, "MONOCHROME2"), text(tag.ViewPosition, ""), codes(tag.ViewCodeSequence, "SNM3", "R-10236")),
		"window":       with(chest(p, 12, true, "MONOCHROME2"), window...),
		"LUT":          with(chest(p, 12, false, "MONOCHROME2"), dicom.Element{Tag: tag.VOILUTSequence, Value: lutItem([]uint16{9, 4, 255}, 3, 0, 8)}),
		"orientation":  with(chest(p, 8, false, "MONOCHROME2"), text(tag.ViewPosition, " "), text(tag.PatientOrientation, "a", "F")),
		"conflict":     with(chest(p, 8, false, "MONOCHROME2"), text(tag.StudyDescription, "Thorax lat. Doe")),
		"study":        with(chest(p, 8, false, "MONOCHROME2"), text(tag.ViewPosition), text(tag.StudyDescription, "Doe^Jane x-ray chest AP")),
		"no body part": with(chest(p, 8, false, "MONOCHROME2"), text(tag.BodyPartExamined, "")),
		"region": with(chest(p, 8, false, "MONOCHROME2"), text(tag.BodyPartExamined, ""),
			dicom.Element{Tag: tag.AnatomicRegionSequence, VR: "SQ", Value: []dicom.Item{{text(tag.CodeMeaning, "entire thorax")}}}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, syntax := range []string{dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian, dicom.ExplicitVRBigEndian,
				dicom.DeflatedExplicitVRLittleEndian} {
				sameWithoutIdentity(t, syntax, elems)
			}
		})
	}
}

// FuzzDeidentifiedView: whatever the words around them, the ones that tell the view are kept, and no others appear.
func FuzzDeidentifiedView(f *testing.F) {
	for _, s := range []string{"CHEST PA", "Doe lat", "X-TABLE", "x mr table lat", "ACROSS-TABLE LL", "PA/LAT", "lordotic", "LAO", "obl.",
		"oblique", "swimmers", "costal", "rld", "AP PORT", "antero-posterior", "POSTEROANTERIOR", "frontal", "axial", "decub"} {
		f.Add("", s, "")
		f.Add(s, "", "AP")
		f.Add("", "", s)
	}
	small := randomPicture(1, 2, 2, 0, 255)
	f.Fuzz(func(t *testing.T, processing, series, study string) {
		if len(processing)+len(series)+len(study) > 1<<12 || strings.Contains(processing+series+study, "\x1b") {
			return // escapes choose character sets (PS3.5 6.1.2.5)
		}
		elems := with(chest(small, 8, false, "MONOCHROME2"), text(tag.ViewPosition, ""), text(tag.SpecificCharacterSet, "ISO_IR 192"),
			text(tag.AcquisitionDeviceProcessingDescription, processing), text(tag.SeriesDescription, series),
			text(tag.StudyDescription, study))
		in := encode(t, dicom.ExplicitVRLittleEndian, elems)
		var out bytes.Buffer
		if err := deidentifier.Write(&out, in); err != nil {
			t.Fatal(err)
		}
		type answer struct {
			View     View
			Evidence Evidence
			Conflict bool
		}
		var answers [2]answer
		for i, data := range [][]byte{in, out.Bytes()} {
			file, err := dicom.Parse(data, dicom.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			a := &answers[i]
			a.View, a.Evidence, a.Conflict = viewOf(file.Header)
		}
		if answers[0] != answers[1] {
			t.Errorf("%v, without identity %v", answers[0], answers[1])
		}
	})
}
