package codec

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
)

// paletteFile is a file of 8-bit PALETTE COLOR pixels with the given elements in place of its own.
func paletteFile(t testing.TB, syntax string, pixels []byte, more ...dicom.Element) []byte {
	elems := map[tag.Tag]dicom.Element{}
	descriptor := []uint16{4, 1, 8}
	for _, e := range append([]dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.7"}, {Tag: tag.SOPInstanceUID, Value: "1.2.3.4"},
		{Tag: tag.Rows, Value: 1}, {Tag: tag.Columns, Value: 5}, {Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.BitsAllocated, Value: 8}, {Tag: tag.BitsStored, Value: 8}, {Tag: tag.HighBit, Value: 7},
		{Tag: tag.PixelRepresentation, Value: 0}, {Tag: tag.PhotometricInterpretation, Value: "PALETTE COLOR"},
		{Tag: tag.RedPaletteColorLookupTableDescriptor, VR: "US", Value: descriptor},
		{Tag: tag.GreenPaletteColorLookupTableDescriptor, VR: "US", Value: descriptor},
		{Tag: tag.BluePaletteColorLookupTableDescriptor, VR: "US", Value: descriptor},
		{Tag: tag.RedPaletteColorLookupTableData, VR: "OW", Value: []byte{0, 100, 200, 255}},
		{Tag: tag.GreenPaletteColorLookupTableData, VR: "OW", Value: []byte{0, 50, 200, 255}},
		{Tag: tag.BluePaletteColorLookupTableData, VR: "OW", Value: []byte{10, 20, 200, 255}},
		{Tag: tag.PixelData, VR: "OB", Value: pixels},
	}, more...) {
		elems[e.Tag] = e
	}
	var all []dicom.Element
	for _, e := range elems {
		if e.VR != "-" {
			all = append(all, e)
		}
	}
	var b bytes.Buffer
	if err := dicom.Write(&b, syntax, all); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decodeFile(data []byte) (*Plane, error) {
	f, err := dicom.Parse(data, dicom.DefaultLimits())
	if err != nil {
		return nil, err
	}
	p, err := f.Pixels()
	if err != nil {
		return nil, err
	}
	return Decode(p)
}

func TestDecode_PaletteBecomesLuma(t *testing.T) {
	descriptors := func(vr string, values ...uint16) []dicom.Element {
		var elems []dicom.Element
		for _, at := range []tag.Tag{tag.RedPaletteColorLookupTableDescriptor, tag.GreenPaletteColorLookupTableDescriptor,
			tag.BluePaletteColorLookupTableDescriptor} {
			e := dicom.Element{Tag: at, VR: vr, Value: values}
			if vr == "SS" {
				e.Value = []int{int(values[0]), int(int16(values[1])), int(values[2])}
			}
			elems = append(elems, e)
		}
		return elems
	}
	data := func(values ...uint16) []dicom.Element {
		var elems []dicom.Element
		for _, at := range []tag.Tag{tag.RedPaletteColorLookupTableData, tag.GreenPaletteColorLookupTableData,
			tag.BluePaletteColorLookupTableData} {
			elems = append(elems, dicom.Element{Tag: at, VR: "OW", Value: values})
		}
		return elems
	}
	pixels := []byte{0, 1, 2, 3, 255}
	whole := make([]uint16, 1<<16)
	for i := range whole {
		whole[i] = uint16(i)
	}
	for _, c := range []struct {
		name   string
		syntax string
		pixels []byte
		more   []dicom.Element
		want   []int32
		bits   int
	}{
		// 0.114*10 = 1.14; 0.299*100 + 0.587*50 + 0.114*20 = 61.53
		{"8 bits, two in a word", dicom.ExplicitVRLittleEndian, pixels, nil, []int32{1, 1, 62, 200, 255}, 8},
		{"implicit VR", dicom.ImplicitVRLittleEndian, pixels, nil, []int32{1, 1, 62, 200, 255}, 8},
		{"RLE", dicom.RLELossless, codectest.RLE([]uint16{0, 1, 2, 3, 255}, 1, 1), nil, []int32{1, 1, 62, 200, 255}, 8},
		{"8 bits, one in a word", dicom.ExplicitVRLittleEndian, pixels, data(7, 8, 9, 10), []int32{7, 7, 8, 9, 10}, 8},
		{"16 bits", dicom.ExplicitVRLittleEndian, pixels, append(data(700, 800, 900, 65535), descriptors("US", 4, 1, 16)...),
			[]int32{700, 700, 800, 900, 65535}, 16},
		{"16 bits, big endian", dicom.ExplicitVRBigEndian, pixels, append(data(700, 800, 900, 65535), descriptors("US", 4, 1, 16)...),
			[]int32{700, 700, 800, 900, 65535}, 16},
		{"signed", dicom.ExplicitVRLittleEndian, []byte{0x80, 0xfe, 0xff, 0, 1}, append(append(data(5, 6, 7, 8),
			descriptors("SS", 4, 0xfffe, 16)...), dicom.Element{Tag: tag.PixelRepresentation, Value: 1}), []int32{5, 5, 6, 7, 8}, 16},
		{"65,536 entries", dicom.ExplicitVRLittleEndian, pixels, append(data(whole...), descriptors("US", 0, 0, 16)...),
			[]int32{0, 1, 2, 3, 255}, 16},
	} {
		plane, err := decodeFile(paletteFile(t, c.syntax, c.pixels, c.more...))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, plane.Values()); diff != "" || !plane.Colour || plane.BitsStored() != c.bits || plane.Signed() {
			t.Errorf("%s: colour %t, %d bits (-want +got)\n%s", c.name, plane.Colour, plane.BitsStored(), diff)
		}
	}
}

func TestDecode_PaletteIsRefused(t *testing.T) {
	gone := func(at tag.Tag) dicom.Element { return dicom.Element{Tag: at, VR: "-"} }
	green := func(values ...uint16) dicom.Element {
		return dicom.Element{Tag: tag.GreenPaletteColorLookupTableDescriptor, VR: "US", Value: values}
	}
	red := func(values ...uint16) dicom.Element {
		return dicom.Element{Tag: tag.RedPaletteColorLookupTableDescriptor, VR: "US", Value: values}
	}
	for _, c := range []struct {
		name string
		more []dicom.Element
		code dicom.Code
	}{
		{"no descriptor", []dicom.Element{gone(tag.BluePaletteColorLookupTableDescriptor)}, dicom.CodeMalformed},
		{"two numbers", []dicom.Element{red(4, 1)}, dicom.CodeMalformed},
		{"other entries", []dicom.Element{green(3, 1, 8)}, dicom.CodeMalformed},
		{"another start", []dicom.Element{green(4, 0, 8)}, dicom.CodeMalformed},
		{"other bits", []dicom.Element{green(4, 1, 16)}, dicom.CodeMalformed},
		{"12 bits", []dicom.Element{red(4, 1, 12)}, dicom.CodeMalformed},
		{"no data", []dicom.Element{gone(tag.RedPaletteColorLookupTableData)}, dicom.CodeMalformed},
		{"short data", []dicom.Element{{Tag: tag.BluePaletteColorLookupTableData, VR: "OW", Value: []byte{1, 2}}}, dicom.CodeMalformed},
		{"segmented", []dicom.Element{gone(tag.RedPaletteColorLookupTableData),
			{Tag: tag.Tag{Group: 0x0028, Element: 0x1221}, VR: "OW", Value: []byte{0, 0, 1, 0}}}, dicom.CodeUnsupportedPixels},
		{"three samples", []dicom.Element{{Tag: tag.SamplesPerPixel, Value: 3}, {Tag: tag.Columns, Value: 1}}, dicom.CodeUnsupportedPixels},
	} {
		_, err := decodeFile(paletteFile(t, dicom.ExplicitVRLittleEndian, []byte{0, 1, 2, 3, 255}, c.more...))
		wantCode(t, c.name, err, c.code)
	}
}
