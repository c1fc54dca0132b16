package dicom

import (
	"bytes"
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// nativeSyntaxes are all that Parse accepts.
var nativeSyntaxes = []string{ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}

// sample is a small radiograph: 2 x 3 pixels of 12 bits, with a sequence in a sequence.
func sample() []Element {
	return []Element{
		{tag.PixelData, "OW", []uint16{0, 1, 2, 3, 4, 4095}},
		{tag.SOPClassUID, "UI", "1.2.840.10008.5.1.4.1.1.1.1"},
		{tag.SOPInstanceUID, "UI", "1.2.3.4"},
		{tag.Modality, "CS", "DX"},
		{tag.PatientOrientation, "CS", []string{"L", "F"}},
		{tag.StudyDescription, "LO", "Chest"},
		{tag.Rows, "US", 2},
		{tag.Columns, "US", uint16(3)},
		{tag.SamplesPerPixel, "US", []uint16{1}},
		{tag.BitsAllocated, "US", []int{16}},
		{tag.BitsStored, "US", 12},
		{tag.HighBit, "US", 11},
		{tag.PixelRepresentation, "US", 0},
		{tag.PhotometricInterpretation, "CS", "MONOCHROME2"},
		{tag.WindowCenter, "DS", "2047.5"},
		{tag.DistanceSourceToDetector, "DS", ""},
		{tag.ViewCodeSequence, "SQ", []Item{{
			{tag.CodeValue, "SH", "272479007"},
			{tag.ViewModifierCodeSequence, "SQ", []Item{{{tag.CodeValue, "SH", "erect"}}, {}}},
		}}},
	}
}

// with replaces or adds elements.
func with(elems []Element, more ...Element) []Element {
	out := []Element{}
	for _, e := range elems {
		keep := true
		for _, m := range more {
			keep = keep && m.Tag != e.Tag
		}
		if keep {
			out = append(out, e)
		}
	}
	return append(out, more...)
}

func without(elems []Element, t tag.Tag) []Element {
	all := with(elems, Element{Tag: t})
	return all[:len(all)-1]
}

func encode(t testing.TB, syntax string, elems []Element) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, syntax, elems); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
