package dicom

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"
)

func TestWrite_ParsesBackInEveryNativeSyntax(t *testing.T) {
	for _, syntax := range nativeSyntaxes {
		t.Run(SyntaxName(syntax), func(t *testing.T) {
			f, err := Parse(encode(t, syntax, sample()), DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			if f.TransferSyntaxUID != syntax {
				t.Errorf("transfer syntax %s", f.TransferSyntaxUID)
			}
			if diff := cmp.Diff([]string{"L", "F"}, f.Strings(tag.PatientOrientation)); diff != "" {
				t.Errorf("two values (-want +got)\n%s", diff)
			}
			if got := f.String(tag.StudyDescription); got != "Chest" {
				t.Errorf("padded text: %q", got)
			}
			if v, ok := f.Float(tag.WindowCenter); v != 2047.5 || !ok {
				t.Errorf("DS: %v, %t", v, ok)
			}
			if v, ok := f.Float(tag.DistanceSourceToDetector); ok {
				t.Errorf("empty DS: %v", v)
			}
			if v, ok := f.Int(tag.BitsStored); v != 12 || !ok {
				t.Errorf("US: %v, %t", v, ok)
			}
			codes := f.Items(tag.ViewCodeSequence)
			if len(codes) != 1 || codes[0].String(tag.CodeValue) != "272479007" {
				t.Fatalf("sequence: %v", codes)
			}
			if m := codes[0].Items(tag.ViewModifierCodeSequence); len(m) != 2 || m[0].String(tag.CodeValue) != "erect" {
				t.Errorf("sequence in a sequence: %v", m)
			}
			p, err := f.Pixels()
			if err != nil {
				t.Fatal(err)
			}
			want := Pixels{TransferSyntaxUID: syntax, Rows: 2, Columns: 3, Frames: 1, SamplesPerPixel: 1, BitsAllocated: 16, BitsStored: 12, HighBit: 11,
				Photometric: "MONOCHROME2", Words: true, Data: []byte{0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 0xff, 0x0f}}
			if syntax == ExplicitVRBigEndian {
				want.BigEndian = true
				want.Data = []byte{0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0x0f, 0xff}
			}
			if diff := cmp.Diff(want, *p); diff != "" {
				t.Errorf("pixels (-want +got)\n%s", diff)
			}
		})
	}
}

// The bytes are those of PS3.5 7.1.2 and PS3.10 7.1, spelled out.
func TestWrite_BytesAreAsTheStandardSays(t *testing.T) {
	file := encode(t, ExplicitVRLittleEndian, []Element{
		{tag.PixelData, "OB", []byte{7}},
		{tag.SOPInstanceUID, "UI", "1.2.3"},
		{tag.SOPClassUID, "UI", "1.2"},
		{tag.Modality, "CS", "DXX"},
	})
	if len(file) < 144 || !bytes.Equal(file[:132], append(make([]byte, 128), "DICM"...)) {
		t.Fatalf("preamble: % x", file[:min(132, len(file))])
	}
	if want := "\x02\x00\x00\x00UL\x04\x00"; string(file[132:140]) != want {
		t.Fatalf("first element: % x", file[132:140])
	}
	set := 144 + int(binary.LittleEndian.Uint32(file[140:])) // the group length leads to the data set
	want := "\x08\x00\x16\x00UI\x04\x001.2\x00" +
		"\x08\x00\x18\x00UI\x06\x001.2.3\x00" +
		"\x08\x00\x60\x00CS\x04\x00DXX " +
		"\xe0\x7f\x10\x00OB\x00\x00\x02\x00\x00\x00\x07\x00"
	if diff := cmp.Diff([]byte(want), file[set:]); diff != "" {
		t.Errorf("data set (-want +got)\n%s", diff)
	}
}

func TestWrite_NumbersOfEveryVR(t *testing.T) {
	for _, syntax := range nativeSyntaxes {
		f, err := Parse(encode(t, syntax, append(sample(),
			Element{tag.ReferencePixelX0, "SL", []int{-2, math.MaxInt32}},
			Element{tag.PixelPaddingValue, "SS", -2000},
			Element{tag.SimpleFrameList, "UL", []uint32{math.MaxUint32}},
			Element{tag.ExposureTimeInms, "FD", 1.25},
			Element{tag.ExaminedBodyThickness, "FL", []float64{-0.5, 3}},
		)), DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int{-2, math.MaxInt32}, f.Ints(tag.ReferencePixelX0)); diff != "" {
			t.Error(diff)
		}
		if v, _ := f.Int(tag.SimpleFrameList); v != math.MaxUint32 {
			t.Errorf("UL: %d", v)
		}
		// In implicit VR the parser reads a "US or SS" as US.
		if v, _ := f.Int(tag.PixelPaddingValue); int16(v) != -2000 {
			t.Errorf("SS: %d", v)
		}
		d, okD := f.Float(tag.ExposureTimeInms)
		v, okF := f.Float(tag.ExaminedBodyThickness)
		if d != 1.25 || !okD || v != -0.5 || !okF {
			t.Errorf("FD %v, FL %v", d, v)
		}
	}
}

func TestWrite_DeflatedFileIsEven(t *testing.T) {
	for n := range 8 {
		text := strings.Repeat("x", n)
		if size := len(encode(t, DeflatedExplicitVRLittleEndian, with(sample(), Element{tag.StudyDescription, "LO", text}))); size%2 != 0 {
			t.Errorf("%d bytes of text: the file has %d bytes", n, size)
		}
	}
}

func TestWrite_EncapsulatedPixelsAreOneFragment(t *testing.T) {
	file := encode(t, "1.2.840.10008.1.2.4.50", with(sample(), Element{tag.PixelData, "OB", []byte{0xff, 0xd8, 0xff}}))
	want := "\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff" + "\xfe\xff\x00\xe0\x00\x00\x00\x00" +
		"\xfe\xff\x00\xe0\x04\x00\x00\x00\xff\xd8\xff\x00" + "\xfe\xff\xdd\xe0\x00\x00\x00\x00"
	if !bytes.HasSuffix(file, []byte(want)) {
		t.Errorf("the file ends with % x", file[len(file)-len(want):])
	}
}

func TestWrite_RefusesWhatCannotBeEncoded(t *testing.T) {
	for _, c := range []struct {
		name  string
		elems []Element
		want  string
	}{
		{"tag twice", append(sample(), Element{tag.Rows, "US", 1}), "given twice"},
		{"tag twice in an item", with(sample(), Element{tag.ViewCodeSequence, "SQ",
			[]Item{{{tag.CodeValue, "SH", "a"}, {tag.CodeValue, "SH", "b"}}}}), "item 0: element (0008,0100): given twice"},
		{"meta element", append(sample(), Element{tag.TransferSyntaxUID, "UI", "1.2"}), "not the caller's"},
		{"no class", without(sample(), tag.SOPClassUID), "no SOPClassUID"},
		{"unknown VR", with(sample(), Element{tag.Rows, "ZZ", 1}), "unknown VR"},
		{"no VR for a private tag", append(sample(), Element{tag.Tag{Group: 9, Element: 0x1001}, "", 1}), "no VR given"},
		{"text in a number", with(sample(), Element{tag.Rows, "US", "2"}), "cannot hold a value of type string"},
		{"number in a text", with(sample(), Element{tag.Modality, "CS", 2}), "cannot hold integers"},
		{"number out of range", with(sample(), Element{tag.Rows, "US", 65536}), "outside [0, 65535]"},
		{"negative", with(sample(), Element{tag.Rows, "US", -1}), "outside"},
		{"float in US", with(sample(), Element{tag.Rows, "US", 1.5}), "cannot hold floating-point"},
		{"long text", with(sample(), Element{tag.StudyDescription, "LO", strings.Repeat("x", 65535)}), "16-bit length"},
		{"bytes in a sequence", with(sample(), Element{tag.ViewCodeSequence, "SQ", []byte{1}}), "cannot hold"},
	} {
		err := Write(io.Discard, ExplicitVRLittleEndian, c.elems)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestWrite_VRFromTheDictionary(t *testing.T) {
	explicit := sample()
	implied := sample()
	for i := range implied {
		implied[i].VR = ""
	}
	if !bytes.Equal(encode(t, ExplicitVRLittleEndian, explicit), encode(t, ExplicitVRLittleEndian, implied)) {
		t.Error("the files differ")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWrite_ReportsTheWritersError(t *testing.T) {
	for _, syntax := range nativeSyntaxes {
		if err := Write(failingWriter{}, syntax, sample()); err == nil {
			t.Errorf("%s: no error", SyntaxName(syntax))
		}
	}
}

func BenchmarkWrite_3000x2500(b *testing.B) {
	elems := with(sample(), Element{tag.PixelData, "OW", make([]byte, 2*3000*2500)})
	b.ReportAllocs()
	for b.Loop() {
		if err := Write(io.Discard, ExplicitVRLittleEndian, elems); err != nil {
			b.Fatal(err)
		}
	}
}
