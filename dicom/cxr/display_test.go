package cxr

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// shown is what the display recipe makes of each pixel before the resize.
func shown(t *testing.T, syntax string, elems []dicom.Element) []int {
	t.Helper()
	f, err := dicom.Parse(encode(t, syntax, elems), dicom.DefaultLimits())
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
	var w workspace
	if _, err := Display.table(plane, f.Header, &w); err != nil {
		t.Fatal(err)
	}
	line := make([]uint8, plane.Columns)
	plane.MapRow(0, &w.table, line)
	var out []int
	for _, v := range line {
		out = append(out, int(v))
	}
	return out
}

func lutItem(data any, descriptor ...int) []dicom.Item {
	vr := "US"
	if descriptor[1] < 0 {
		vr = "SS"
	}
	return []dicom.Item{{{Tag: tag.LUTDescriptor, VR: vr, Value: descriptor}, {Tag: tag.LUTData, VR: "OW", Value: data}}}
}

func TestDisplay_FollowsTheGrayscalePipeline(t *testing.T) {
	window := func(c, w, function string) []dicom.Element {
		return []dicom.Element{text(tag.WindowCenter, c), text(tag.WindowWidth, w), text(tag.VOILUTFunction, function)}
	}
	seq := func(at tag.Tag, items []dicom.Item) dicom.Element {
		return dicom.Element{Tag: at, VR: "SQ", Value: items}
	}
	sigmoid := func(x float64) int { return int(math.Floor(255/(1+math.Exp(-4*(x-100)/50)) + 0.5)) }
	for _, c := range []struct {
		name        string
		values      []int
		photometric string
		elems       []dicom.Element
		want        []int
	}{
		{"full range", []int{100, 200, 300}, "MONOCHROME2", nil, []int{0, 128, 255}}, // 127.5 is rounded up
		{"full range, inverted", []int{100, 200, 300}, "MONOCHROME1", nil, []int{255, 127, 0}},
		{"constant", []int{9, 9}, "MONOCHROME2", nil, []int{0, 0}},
		{"shape INVERSE", []int{100, 200, 300}, "MONOCHROME2", []dicom.Element{text(tag.PresentationLUTShape, "INVERSE")}, []int{255, 127, 0}},
		{"MONOCHROME1 and INVERSE invert once", []int{100, 200, 300}, "MONOCHROME1", []dicom.Element{text(tag.PresentationLUTShape, "INVERSE")}, []int{255, 127, 0}},
		// PS3.3 C.11.2.1.2.1: c=2048, w=4096 shows 0..4095 whole; below it c=100, w=1 is a step above 99.5.
		{"LINEAR whole range", []int{0, 1, 2048, 4095}, "MONOCHROME2", window("2048", "4096", "LINEAR"), []int{0, 0, 128, 255}},
		{"LINEAR by default", []int{50, 100, 149, 150}, "MONOCHROME2", window("100", "101", ""), []int{1, 129, 254, 255}},
		{"LINEAR step", []int{99, 100}, "MONOCHROME2", window("100", "1", "LINEAR"), []int{0, 255}},
		{"LINEAR step at a value", []int{100, 101}, "MONOCHROME2", window("100.5", "1", "LINEAR"), []int{0, 255}},
		{"LINEAR_EXACT", []int{50, 75, 100, 150}, "MONOCHROME2", window("100", "100", "LINEAR_EXACT"), []int{0, 64, 128, 255}},
		{"SIGMOID", []int{50, 100, 130}, "MONOCHROME2", window("100", "50", "sigmoid"), []int{sigmoid(50), 128, sigmoid(130)}},
		{"first of two windows", []int{0, 50, 100}, "MONOCHROME2", []dicom.Element{text(tag.WindowCenter, "50.5", "9"), text(tag.WindowWidth, "101", "3")}, []int{0, 128, 255}},
		{"window without width", []int{0, 50, 100}, "MONOCHROME2", window("50", "0", ""), []int{0, 128, 255}},
		{"rescale before the window", []int{0, 50, 100}, "MONOCHROME2",
			append(window("-899.5", "201", ""), text(tag.RescaleSlope, "2"), text(tag.RescaleIntercept, "-1000")), []int{0, 128, 255}},
		{"modality LUT", []int{9, 10, 11, 12}, "MONOCHROME2",
			[]dicom.Element{seq(tag.ModalityLUTSequence, lutItem([]uint16{0, 1000, 500}, 3, 10, 16)), text(tag.RescaleSlope, "7")}, []int{0, 0, 255, 128}},
		{"VOI LUT before the window", []int{9, 10, 11, 99}, "MONOCHROME2",
			append(window("1", "2", ""), seq(tag.VOILUTSequence, lutItem([]uint16{0, 511, 1023}, 3, 10, 10))), []int{0, 0, 127, 255}},
		{"VOI LUT of bytes", []int{0, 1, 2, 3}, "MONOCHROME2",
			[]dicom.Element{seq(tag.VOILUTSequence, lutItem([]byte{1, 2, 3, 4}, 4, 0, 8))}, []int{1, 2, 3, 4}},
		{"VOI LUT of 8-bit entries in words", []int{0, 1, 2, 3}, "MONOCHROME2",
			[]dicom.Element{seq(tag.VOILUTSequence, lutItem([]uint16{1, 2, 3, 4}, 4, 0, 8))}, []int{1, 2, 3, 4}},
		{"VOI LUT from a negative value", []int{-2, -1, 0, 1}, "MONOCHROME2",
			[]dicom.Element{seq(tag.VOILUTSequence, lutItem([]uint16{0, 51, 102, 255}, 4, -2, 8))}, []int{0, 51, 102, 255}},
	} {
		for _, syntax := range []string{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian} {
			p := picture{1, len(c.values), c.values}
			elems := with(chest(p, 16, c.values[0] < 0, c.photometric), c.elems...)
			if diff := cmp.Diff(c.want, shown(t, syntax, elems)); diff != "" {
				t.Errorf("%s, %s (-want +got)\n%s", c.name, dicom.SyntaxName(syntax), diff)
			}
		}
	}
}

func TestDisplay_BigEndianLUT(t *testing.T) {
	elems := with(chest(picture{1, 3, []int{0, 1, 2}}, 16, false, "MONOCHROME2"),
		dicom.Element{Tag: tag.VOILUTSequence, VR: "SQ", Value: lutItem([]uint16{0, 257, 65535}, 3, 0, 16)})
	if diff := cmp.Diff([]int{0, 1, 255}, shown(t, dicom.ExplicitVRBigEndian, elems)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDisplay_MalformedLUTIsRefused(t *testing.T) {
	for name, items := range map[string][]dicom.Item{
		"too few entries":  lutItem([]uint16{1, 2}, 3, 0, 16),
		"65,536 entries":   lutItem([]uint16{1, 2}, 0, 0, 16),
		"bits":             lutItem([]uint16{1, 2}, 2, 0, 17),
		"descriptor":       lutItem([]uint16{1, 2}, 2, 0),
		"empty first item": {{}},
	} {
		for _, at := range []tag.Tag{tag.VOILUTSequence, tag.ModalityLUTSequence} {
			file := encode(t, dicom.ExplicitVRLittleEndian, with(bare(), dicom.Element{Tag: at, VR: "SQ", Value: items}))
			_, err := FromDICOM(file, Display, dicom.DefaultLimits())
			var r *Refusal
			if !errors.As(err, &r) || r.Code != string(dicom.CodeMalformed) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := FromDICOM(file, Mimic, dicom.DefaultLimits()); err != nil {
				t.Errorf("%s: mimic does not use it: %v", name, err)
			}
		}
	}
}

// Inverting the stored values and naming them MONOCHROME1 is the same picture.
func TestDisplay_Monochrome1IsInverted(t *testing.T) {
	p := randomPicture(2, 70, 80, 0, 255)
	q := picture{p.rows, p.columns, nil}
	for _, v := range p.values {
		q.values = append(q.values, 255-v)
	}
	// A window over all values makes no rounding: each value is its own level.
	all := []dicom.Element{text(tag.WindowCenter, "128"), text(tag.WindowWidth, "256")}
	a := mustRead(t, Display, with(chest(p, 8, false, "MONOCHROME2"), all...))
	b := mustRead(t, Display, with(chest(q, 8, false, "MONOCHROME1"), all...))
	if !bytes.Equal(a.Stored, b.Stored) {
		t.Errorf("the stored pictures differ: %s", difference(a.Stored, b.Stored))
	}
}
