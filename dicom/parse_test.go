package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// header is a data set up to its pixels; raw adds bytes of the test's own to it.
func header(t testing.TB, syntax string) []byte {
	return encode(t, syntax, without(sample(), tag.PixelData))
}

func raw(t testing.TB, syntax string, parts ...string) []byte {
	return append(header(t, syntax), strings.Join(parts, "")...)
}

func le32(v uint32) string { return string(binary.LittleEndian.AppendUint32(nil, v)) }

const (
	item    = "\xfe\xff\x00\xe0"
	itemEnd = "\xfe\xff\x0d\xe0\x00\x00\x00\x00"
	seqEnd  = "\xfe\xff\xdd\xe0\x00\x00\x00\x00"
	// (0054,0222), a sequence of undefined length, and (0008,0104) with a value.
	openSeq  = "\x54\x00\x22\x02SQ\x00\x00\xff\xff\xff\xff"
	openItem = item + "\xff\xff\xff\xff"
	meaning  = "\x08\x00\x04\x01LO\x04\x00here"
)

// deflated is a file whose data set is the given bytes, deflated.
func deflated(t testing.TB, set []byte) []byte {
	meta, err := Meta{"1.2.840.10008.5.1.4.1.1.1.1", "1.2.3", DeflatedExplicitVRLittleEndian}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.Write(meta)
	w, _ := flate.NewWriter(&b, flate.BestSpeed)
	w.Write(set)
	w.Close()
	return b.Bytes()
}

// hostile are inputs of which each has made a parser crash, hang or take all memory, or be silently wrong.
func hostile(t testing.TB) []struct {
	name string
	data []byte
	code Code
} {
	good := encode(t, ExplicitVRLittleEndian, sample())
	meta, err := Meta{"1.2.840.10008.5.1.4.1.1.1.1", "1.2.3", DeflatedExplicitVRLittleEndian}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	deep := func(levels int) string {
		return strings.Repeat(openSeq+openItem, levels) + strings.Repeat(itemEnd+seqEnd, levels)
	}
	deepDefined := func(levels int) (s string) {
		for range levels {
			s = "\x54\x00\x22\x02SQ\x00\x00" + le32(uint32(len(s)+8)) + item + le32(uint32(len(s))) + s
		}
		return s
	}
	const el, il = ExplicitVRLittleEndian, ImplicitVRLittleEndian
	return []struct {
		name string
		data []byte
		code Code
	}{
		{"empty", nil, CodeNotDICOM},
		{"text", []byte("Patient;View\n1;PA\n"), CodeNotDICOM},
		{"no preamble", good[132:], CodeNotDICOM},
		{"zeros", make([]byte, 4096), CodeNotDICOM},
		{"preamble only", good[:132], CodeMalformed},
		{"cut in the meta information", good[:200], CodeTruncated},
		{"cut in a header", good[:len(good)-12-5], CodeTruncated},
		{"cut in the pixels", good[:len(good)-1], CodeTruncated},
		{"unknown transfer syntax", encode(t, "1.2.3", with(sample(), Element{tag.PixelData, "OB", []byte{1, 2}})), CodeUnsupportedSyntax},
		{"MPEG-2", encode(t, "1.2.840.10008.1.2.4.100", with(sample(), Element{tag.PixelData, "OB", []byte{1, 2}})), CodeUnsupportedSyntax},
		{"no transfer syntax", slices.Concat(good[:132], []byte("\x02\x00\x02\x00UI\x02\x001\x00\x08\x00\x60\x00CS\x02\x00DX")), CodeMalformed},
		{"4 GiB OB", raw(t, el, "\x42\x00\x11\x00OB\x00\x00\xfe\xff\xff\xff"), CodeTruncated},
		{"4 GiB UT", raw(t, el, "\x40\x00\x60\xa1UT\x00\x00\xfe\xff\xff\xff"), CodeTruncated},
		{"4 GiB fragment", raw(t, el, "\x42\x00\x11\x00OB\x00\x00\xff\xff\xff\xff", item, "\xfe\xff\xff\xff"), CodeTruncated},
		{"4 GiB pixels", raw(t, il, "\xe0\x7f\x10\x00\xfe\xff\xff\xff"), CodeTruncated},
		{"endless UT", raw(t, el, "\x40\x00\x60\xa1UT\x00\x00\xff\xff\xff\xff"), CodeMalformed},
		{"endless text, implicit", raw(t, il, "\x54\x00\x00\x04\xff\xff\xff\xff"), CodeMalformed},
		{"VR of two zeros", raw(t, el, "\x54\x00\x00\x04\x00\x00\x02\x00ab"), CodeMalformed},
		{"VR across the list", raw(t, el, "\x54\x00\x00\x04E \x02\x00ab"), CodeMalformed},
		{"nested 13 deep", raw(t, el, deep(13)), CodeTooLarge},
		{"nested 1,000 deep", raw(t, el, deep(1000)), CodeTooLarge},
		{"nested 30,000 deep", raw(t, el, deep(30_000)), CodeTooLarge},
		{"nested 13 deep with lengths", raw(t, el, deepDefined(13)), CodeTooLarge},
		{"nested in an unknown VR", raw(t, el, "\x54\x00\x00\x04UN\x00\x00\xff\xff\xff\xff", strings.Repeat(item+"\xff\xff\xff\xff\x54\x00\x22\x02\xff\xff\xff\xff", 1000)), CodeTooLarge},
		{"100,001 items", raw(t, el, openSeq, strings.Repeat(item+le32(0), 100_001), seqEnd), CodeTooLarge},
		{"item longer than its sequence", raw(t, el, "\x54\x00\x22\x02SQ\x00\x00", le32(16), item, le32(9), "12345678", "padding"), CodeMalformed},
		{"element longer than its item", raw(t, el, openSeq, item, le32(12), "\x08\x00\x04\x01LO\x08\x00here", seqEnd, "padding"), CodeMalformed},
		{"no item in a sequence", raw(t, el, openSeq, meaning, seqEnd), CodeMalformed},
		{"delimiter with a length", raw(t, el, openSeq, "\xfe\xff\xdd\xe0\x04\x00\x00\x00abcd"), CodeMalformed},
		{"delimiter outside a sequence", raw(t, el, seqEnd), CodeMalformed},
		{"sequence without end", raw(t, el, openSeq, openItem, meaning), CodeTruncated},
		{"encapsulated pixels", raw(t, el, "\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff", item, le32(0), seqEnd), CodeMalformed},
		{"element twice", raw(t, il, "\x08\x00\x60\x00\x02\x00\x00\x00CT"), CodeMalformed},
		{"header of 5 MiB", raw(t, el, strings.Repeat("\x54\x00\x00\x04LT\xfe\xff"+strings.Repeat(`\`, 0xfffe), 80)), CodeTooLarge},
		{"not deflated", slices.Concat(meta, good), CodeMalformed},
		{"cut deflate stream", func() []byte {
			d := encode(t, DeflatedExplicitVRLittleEndian, sample())
			return d[:len(d)-20]
		}(), CodeTruncated},
	}
}

func TestParse_HostileInputIsRefusedCheaply(t *testing.T) {
	for _, c := range hostile(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(c.data, DefaultLimits())
		runtime.ReadMemStats(&after)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v, want code %s", c.name, err, c.code)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
			t.Errorf("%s: %d MiB allocated for %d bytes", c.name, used>>20, len(c.data))
		}
	}
}

func TestParse_DeflateBombCostsNoMemory(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		lim  Limits
	}{
		"own limit": {64 << 20, Limits{MaxBytes: 1 << 20}},
		"default":   {DefaultLimits().MaxBytes + 1, DefaultLimits()},
	} {
		bomb := deflated(t, make([]byte, c.size))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(bomb, c.lim)
		runtime.ReadMemStats(&after)
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeTooLarge {
			t.Errorf("%s: %v, want code %s", name, err, CodeTooLarge)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("%s: %d kiB allocated for %d bytes", name, used>>10, len(bomb))
		}
	}
}

// An honest data set costs what it inflates to, no multiple of it.
func TestParse_DeflatedDataSetIsHeldOnce(t *testing.T) {
	const pixels = 16 << 20
	file := encode(t, DeflatedExplicitVRLittleEndian, with(sample(), Element{tag.PixelData, "OW", make([]byte, pixels)}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Parse(file, DefaultLimits())
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; err != nil || used > pixels+1<<20 {
		t.Errorf("%v, %d kiB allocated for %d kiB", err, used>>10, pixels>>10)
	}
}

// What the parser would misread is cut out of the sequence it is in; the rest of the sequence stays.
func TestParse_CutsOnlyWhatTheParserMisreads(t *testing.T) {
	code := "\x08\x00\x00\x01SH\x04\x00here"
	private := "\x55\x00\x01\x10OV\x00\x00" + le32(8) + "12345678"
	unknown := "\x54\x00\x00\x04UN\x00\x00\xff\xff\xff\xff" + item + le32(12) + "\x08\x00\x04\x01\x04\x00\x00\x00here" + seqEnd
	icon := "\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff" + item + le32(2) + "ab" + seqEnd
	sized := func(s string) string { return item + le32(uint32(len(s))) + s }
	sequence := func(s string) string { return "\x08\x00\x18\x22SQ\x00\x00" + le32(uint32(len(s))) + s } // AnatomicRegionSequence
	deep := "\x54\x00\x22\x02SQ\x00\x00" + le32(uint32(len(sized(private+code)))) + sized(private+code)
	for name, set := range map[string]string{
		"defined lengths":    sequence(sized(private+code+unknown) + sized(code)),
		"undefined lengths":  "\x08\x00\x18\x22SQ\x00\x00\xff\xff\xff\xff" + openItem + code + icon + itemEnd + sized(private+code) + seqEnd,
		"deeper":             sequence(sized(deep+code) + openItem + unknown + code + deep + itemEnd),
		"nothing left of it": sequence(sized(code) + sized(code+"\x54\x00\x22\x02SQ\x00\x00"+le32(uint32(len(sized(private))))+sized(private))),
	} {
		data := encode(t, ExplicitVRLittleEndian, without(without(sample(), tag.PixelData), tag.ViewCodeSequence))
		data = append(data, set+"\xe0\x7f\x10\x00OW\x00\x00"+le32(12)+"abcdefghijkl"...)
		before := bytes.Clone(data)
		f, err := Parse(data, DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		items := f.Items(tag.AnatomicRegionSequence)
		if len(items) != 2 || items[0].String(tag.CodeValue) != "here" || items[1].String(tag.CodeValue) != "here" {
			t.Errorf("%s: items %v", name, items)
		}
		for _, it := range items {
			for _, inner := range it.Items(tag.ViewModifierCodeSequence) {
				if name == "deeper" && inner.String(tag.CodeValue) != "here" {
					t.Errorf("%s: the sequence in the sequence is %v", name, inner)
				}
			}
			if it[tag.Tag{Group: 0x0055, Element: 0x1001}] != nil || it[tag.PixelData] != nil || it[tag.Tag{Group: 0x0054, Element: 0x0400}] != nil {
				t.Errorf("%s: something was not cut out of %v", name, it)
			}
		}
		if !bytes.Equal(before, data) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestParse_UnreadableSequenceThatDecidesIsRefused(t *testing.T) {
	for name, set := range map[string]string{
		"unknown VR":   "\x28\x00\x10\x30UN\x00\x00\xff\xff\xff\xff" + item + le32(12) + "\x08\x00\x04\x01\x04\x00\x00\x00here" + seqEnd,
		"2 MiB of LUT": "\x28\x00\x10\x30SQ\x00\x00" + le32(2<<20+20) + item + le32(2<<20+12) + "\x28\x00\x06\x30OW\x00\x00" + le32(2<<20) + strings.Repeat("x", 2<<20),
	} {
		_, err := Parse(raw(t, ExplicitVRLittleEndian, set), DefaultLimits())
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeMalformed || !strings.Contains(e.Detail, "(0028,3010)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParse_UnsupportedSyntaxIsRefusedByName(t *testing.T) {
	for uid, name := range map[string]string{
		"1.2.840.10008.1.2.4.55":  "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)",
		"1.2.840.10008.1.2.4.102": "MPEG-4 AVC/H.264 High Profile / Level 4.1",
		"1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
		"1.2.840.10008.1.2.8.1":   "Deflated Image Frame Compression",
		"1.2.3":                   "unknown transfer syntax",
		"1.2.840.DOE^JANE":        "unknown transfer syntax", // not quoted: it may be anything
		"1.2.840.10008.1.1":       "unknown transfer syntax", // a SOP class
	} {
		_, err := Parse(encode(t, uid, with(sample(), Element{tag.PixelData, "OB", []byte{1, 2}})), DefaultLimits())
		want := "unsupported_transfer_syntax: " + name
		if !strings.HasPrefix(name, "unknown") {
			want += " (" + uid + ")"
		}
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Files that break no rule, though the parser alone would misread them or stumble.
func TestParse_SoundButUnusual(t *testing.T) {
	pixels := "\xe0\x7f\x10\x00OW\x00\x00" + le32(12) + "abcdefghijkl"
	for _, c := range []struct {
		name  string
		parts []string
	}{
		{"plain", nil},
		{"sequence of undefined length", []string{openSeq, openItem, meaning, itemEnd, item, le32(12), meaning, seqEnd}},
		{"unknown VR of undefined length", []string{"\x54\x00\x00\x04UN\x00\x00\xff\xff\xff\xff", item, le32(12), "\x08\x00\x04\x01\x04\x00\x00\x00here", seqEnd}},
		{"64-bit integers", []string{"\x54\x00\x00\x04UV\x00\x00", le32(8), "12345678"}},
		{"text of 65,535 bytes", []string{"\x54\x00\x00\x04LT\xff\xff", strings.Repeat("x", 65535)}},
		{"odd number of bytes in US", []string{"\x54\x00\x00\x04US\x03\x00abc"}},
		{"private element of any kind", []string{"\x55\x00\x00\x10SS\x03\x00abc"}},
		{"value of 2 MiB", []string{"\x54\x00\x00\x04UT\x00\x00", le32(2 << 20), strings.Repeat("x", 2<<20)}},
		{"icon with compressed pixels", []string{openSeq, openItem, "\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff", item, le32(2), "ab", seqEnd, itemEnd, seqEnd}},
		{"encapsulated bytes", []string{"\x54\x00\x00\x04OB\x00\x00\xff\xff\xff\xff", item, le32(2), "ab", seqEnd}},
		{"unknown character set", nil},
		{"something after the pixels", []string{pixels, "\xfc\xff\xfc\xffOB\x00\x00"}},
	} {
		data := raw(t, ExplicitVRLittleEndian, append(c.parts, pixels)...)
		if c.name == "unknown character set" {
			elems := with(without(sample(), tag.PixelData), Element{tag.SpecificCharacterSet, "CS", "KLINGON"})
			data = append(encode(t, ExplicitVRLittleEndian, elems), pixels...)
		}
		f, err := Parse(data, DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		p, err := f.Pixels()
		if err != nil || string(p.Data) != "abcdefghijkl" || f.String(tag.Modality) != "DX" {
			t.Errorf("%s: pixels %v, %v, modality %q", c.name, p, err, f.String(tag.Modality))
		}
	}
}

func TestParse_LeavesOutWhatNothingNeeds(t *testing.T) {
	elems := with(sample(),
		Element{tag.Tag{Group: 0x0055, Element: 0x0010}, "LO", "private"},
		Element{tag.Tag{Group: 0x6000, Element: 0x3000}, "OW", []byte{1, 2}},
		Element{tag.TextValue, "UT", strings.Repeat("x", 2<<20)},
		Element{tag.IconImageSequence, "SQ", []Item{{{tag.PixelData, "OB", []byte{1, 2}}}}})
	f, err := Parse(encode(t, ExplicitVRLittleEndian, elems), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	// Two of the UIDs are in the file meta information too, which is not part of the header either.
	if got, want := len(f.Header), len(sample())-1+1; got != want {
		t.Errorf("%d elements, want %d: all but the pixels, and the sequence with an icon", got, want)
	}
	if len(f.Items(tag.IconImageSequence)) != 1 {
		t.Error("the sequence with an icon is gone")
	}
}

func TestParse_CharacterSets(t *testing.T) {
	for _, c := range []struct{ set, bytes, want string }{
		{"ISO_IR 192", "Tórax", "Tórax"},
		{"ISO_IR 100", "T\xf3rax", "Tórax"},
	} {
		f, err := Parse(encode(t, ExplicitVRLittleEndian, with(sample(),
			Element{tag.SpecificCharacterSet, "CS", c.set}, Element{tag.StudyDescription, "LO", c.bytes})), DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if got := f.String(tag.StudyDescription); got != c.want {
			t.Errorf("%s: %q, want %q", c.set, got, c.want)
		}
	}
}

func TestPixels_Checks(t *testing.T) {
	us := func(t tag.Tag, v int) Element { return Element{t, "US", v} }
	for _, c := range []struct {
		name  string
		elems []Element
		code  Code // "" for sound
	}{
		{"sound", sample(), ""},
		{"more pixels than needed", with(sample(), Element{tag.PixelData, "OW", make([]byte, 100)}), ""},
		{"no HighBit", without(sample(), tag.HighBit), ""},
		{"one frame", with(sample(), Element{tag.NumberOfFrames, "IS", "1"}), ""},
		{"empty NumberOfFrames", with(sample(), Element{tag.NumberOfFrames, "IS", ""}), ""},
		{"no pixels", without(sample(), tag.PixelData), CodeNoPixelData},
		{"empty pixels", with(sample(), Element{tag.PixelData, "OW", nil}), CodeNoPixelData},
		{"too few pixels", with(sample(), Element{tag.PixelData, "OW", make([]byte, 10)}), CodeTruncated},
		{"two frames, pixels of one", with(sample(), Element{tag.NumberOfFrames, "IS", "2"}), CodeTruncated},
		{"no Rows", without(sample(), tag.Rows), CodeMalformed},
		{"empty Rows", with(sample(), Element{tag.Rows, "US", nil}), CodeMalformed},
		{"Rows as text", with(sample(), Element{tag.Rows, "LO", "many"}), CodeMalformed},
		{"0 rows", with(sample(), us(tag.Rows, 0)), CodeMalformed},
		{"no PixelRepresentation", without(sample(), tag.PixelRepresentation), CodeMalformed},
		{"empty PixelRepresentation", with(sample(), Element{tag.PixelRepresentation, "US", nil}), CodeMalformed},
		{"PixelRepresentation of unknown VR", with(sample(), Element{tag.PixelRepresentation, "UN", []byte{1, 0}}), CodeMalformed},
		{"PixelRepresentation 2", with(sample(), us(tag.PixelRepresentation, 2)), CodeMalformed},
		{"signed", with(sample(), us(tag.PixelRepresentation, 1)), ""},
		{"no photometric", without(sample(), tag.PhotometricInterpretation), CodeMalformed},
		{"-1 frames", with(sample(), Element{tag.NumberOfFrames, "IS", "-1"}), CodeMalformed},
		{"frames as text", with(sample(), Element{tag.NumberOfFrames, "IS", "x"}), CodeMalformed},
		{"200,000,000 frames", with(sample(), Element{tag.NumberOfFrames, "IS", "200000000"}), CodeTooLarge},
		{"frames past 64 bits", with(sample(), Element{tag.NumberOfFrames, "IS", "99999999999999999999"}), CodeMalformed},
		{"65,535 x 65,535", with(sample(), us(tag.Rows, math.MaxUint16), us(tag.Columns, math.MaxUint16)), CodeTooLarge},
		{"17 stored of 16", with(sample(), us(tag.BitsStored, 17)), CodeMalformed},
		{"HighBit 16 of 16", with(sample(), us(tag.HighBit, 16)), CodeMalformed},
		{"HighBit below the stored bits", with(sample(), us(tag.HighBit, 5)), CodeMalformed},
		{"1 bit allocated", with(sample(), us(tag.BitsAllocated, 1), us(tag.BitsStored, 1), us(tag.HighBit, 0)), CodeUnsupportedPixels},
		{"4 samples", with(sample(), us(tag.SamplesPerPixel, 4)), CodeUnsupportedPixels},
	} {
		f, err := Parse(encode(t, ExplicitVRLittleEndian, c.elems), DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		p, err := f.Pixels()
		var e *Error
		switch {
		case c.code == "" && (err != nil || len(p.Data) < 12):
			t.Errorf("%s: %v", c.name, err)
		case c.code != "" && (!errors.As(err, &e) || e.Code != c.code || p != nil):
			t.Errorf("%s: %v, want code %s", c.name, err, c.code)
		}
	}
}

func TestParse_OwnLimits(t *testing.T) {
	data := encode(t, ExplicitVRLittleEndian, sample())
	for name, lim := range map[string]Limits{
		"bytes":    {MaxBytes: len(data) - 1},
		"header":   {MaxHeaderBytes: 50},
		"elements": {MaxElements: 10},
		"depth":    {MaxDepth: 1},
	} {
		var e *Error
		if _, err := Parse(data, lim); !errors.As(err, &e) || e.Code != CodeTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := Parse(data, Limits{MaxPixels: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Pixels(); err == nil {
		t.Error("6 pixels pass a limit of 5")
	}
	if _, err := Parse(data, Limits{}); err != nil {
		t.Errorf("the zero limits are the defaults: %v", err)
	}
}

func TestHeader_AbsentOrOfAnotherKind(t *testing.T) {
	f, err := Parse(encode(t, ExplicitVRLittleEndian, sample()), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	type answers struct {
		Strings []string
		Ints    []int
		Float   bool
		Bytes   []byte
		Items   int
	}
	for _, at := range []tag.Tag{tag.PatientName, tag.DistanceSourceToDetector} {
		_, ok := f.Float(at)
		got := answers{f.Strings(at), f.Ints(at), ok, f.Bytes(at), len(f.Items(at))}
		if diff := cmp.Diff(answers{}, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", at, diff)
		}
	}
	if f.Strings(tag.Rows) != nil || f.Ints(tag.Modality) != nil || f.Items(tag.Modality) != nil || f.Bytes(tag.Rows) != nil {
		t.Error("an accessor answers for an element of another kind")
	}
}

func FuzzParse(f *testing.F) {
	for _, syntax := range nativeSyntaxes {
		f.Add(encode(f, syntax, sample()))
	}
	for _, c := range hostile(f) {
		if len(c.data) < 1<<16 {
			f.Add(c.data)
		}
	}
	for _, c := range unsound(f) {
		f.Add(c.data)
	}
	f.Add(encapsulated(f, "2", openPixels, itemOf(le32(0)+le32(12)), itemOf("abcd"), itemOf("ef"), seqEnd))
	// Small limits keep a run fast and make each of them reachable.
	lim := Limits{MaxBytes: 1 << 20, MaxHeaderBytes: 1 << 16, MaxElements: 5000, MaxPixels: 1 << 16}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data, lim)
		var e *Error
		if prefix, prefixErr := ParsePrefix(data, lim); err == nil && (prefixErr != nil || !prefix.Whole || len(prefix.Header) != len(file.Header)) {
			t.Fatalf("the prefix of a sound file: %+v, %v", prefix, prefixErr)
		}
		if err != nil {
			if !errors.As(err, &e) {
				t.Fatalf("an error without code: %v", err)
			}
			return
		}
		p, err := file.Pixels()
		if err != nil {
			if !errors.As(err, &e) {
				t.Fatalf("an error without code: %v", err)
			}
			return
		}
		if p.Encapsulated() {
			if len(p.Fragments) == 0 || p.Offsets != nil && len(p.Offsets) != p.Frames {
				t.Fatalf("%d fragments, %d offsets, %d frames", len(p.Fragments), len(p.Offsets), p.Frames)
			}
			return
		}
		if p.FrameBytes()*p.Frames > len(p.Data) {
			t.Fatalf("%d frames of %d bytes in %d", p.Frames, p.FrameBytes(), len(p.Data))
		}
	})
}

func BenchmarkParse_Header(b *testing.B) {
	data := encode(b, ExplicitVRLittleEndian, with(sample(), Element{tag.PixelData, "OW", make([]byte, 2*3000*2500)}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data, DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}
