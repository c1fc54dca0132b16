package codec

import (
	"testing"

	"github.com/mvmae/mvmae/dicom"
)

func TestFrame_IsPutTogether(t *testing.T) {
	f := func(fragments ...string) (b [][]byte) {
		for _, s := range fragments {
			b = append(b, []byte(s))
		}
		return b
	}
	const soi = "\xff\xd8\xff"
	for _, c := range []struct {
		name             string
		frames           int
		fragments        [][]byte
		offsets, lengths []uint64
		want             string
		code             dicom.Code
	}{
		{"one fragment", 1, f("abcd"), nil, nil, "abcd", ""},
		{"one frame in three", 1, f("abcd", "", "efgh"), nil, nil, "abcdefgh", ""},
		{"a table", 2, f("abcd", "ef", "gh"), []uint64{0, 22}, nil, "abcdef", ""},
		{"a table, a fragment each", 3, f("abcd", "ef", "gh"), []uint64{0, 12, 22}, nil, "abcd", ""},
		{"a table that starts later", 2, f("abcd", "ef", "gh"), []uint64{12, 22}, nil, "ef", ""},
		{"lengths", 2, f("abcd", "ef"), []uint64{0, 12}, []uint64{3, 2}, "abc", ""},
		{"a fragment each", 2, f("abcd", "ef"), nil, nil, "abcd", ""},
		{"JPEG, no table", 2, f(soi+"a", "bc", soi+"d", "ef"), nil, nil, soi + "abc", ""},
		{"JPEG 2000, no table", 2, f("\xff\x4f\xff\x51a", "bc", "\xff\x4f\xff\x51d"), nil, nil, "\xff\x4f\xff\x51abc", ""},
		{"JP2, no table", 2, f("\x00\x00\x00\x0cjP  \r\n\x87\na", "bc", "\x00\x00\x00\x0cjP  \r\n\x87\n"), nil, nil, "\x00\x00\x00\x0cjP  \r\n\x87\nabc", ""},

		{"no fragment", 1, nil, nil, nil, "", dicom.CodeNoPixelData},
		{"fewer fragments than frames", 3, f("abcd", "ef"), nil, nil, "", dicom.CodeTruncated},
		{"no table, no start", 2, f("ab", "cd", "ef"), nil, nil, "", dicom.CodeMalformed},
		{"no table, one start", 2, f(soi+"ab", "cd", "ef"), nil, nil, "", dicom.CodeMalformed},
		{"no table, starts late", 2, f("ab", soi+"cd", "ef"), nil, nil, "", dicom.CodeMalformed},
		{"a table into a fragment", 2, f("abcd", "ef"), []uint64{0, 8}, nil, "", dicom.CodeMalformed},
		{"a table past the end", 2, f("abcd", "ef"), []uint64{0, 1 << 63}, nil, "", dicom.CodeMalformed},
		{"a table from nowhere", 2, f("abcd", "ef"), []uint64{4, 12}, nil, "", dicom.CodeMalformed},
		{"a table backwards", 2, f("abcd", "ef"), []uint64{12, 0}, nil, "", dicom.CodeMalformed},
		{"a table of equal offsets", 2, f("abcd", "ef"), []uint64{0, 0}, nil, "", dicom.CodeMalformed},
		{"longer than its fragments", 2, f("abcd", "ef"), []uint64{0, 12}, []uint64{5, 2}, "", dicom.CodeMalformed},
	} {
		got, err := Frame(&dicom.Pixels{Frames: c.frames, Fragments: c.fragments, Offsets: c.offsets, Lengths: c.lengths})
		switch {
		case c.code != "":
			wantCode(t, c.name, err, c.code)
		case err != nil || string(got) != c.want:
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

func TestDecode_UndecodedSyntaxIsRefusedByName(t *testing.T) {
	_, err := Decode(coded(dicom.JPEGLSLossless, 1, 1, 1, 8, 8, []byte{1, 2}))
	if err == nil || err.Error() != "unsupported_transfer_syntax: JPEG-LS Lossless Image Compression (1.2.840.10008.1.2.4.80)" {
		t.Error(err)
	}
}

func TestDecoders_ComeFirst(t *testing.T) {
	called := ""
	decoders := Decoders{}
	for _, syntax := range []string{dicom.JPEG2000, dicom.RLELossless, dicom.ExplicitVRLittleEndian} {
		decoders[syntax] = func(frame []byte, p *dicom.Pixels, _ int) (*Plane, error) {
			called += syntax + " " + string(frame) + "\n"
			return Gray8(1, 2, frame), nil
		}
	}
	for _, syntax := range []string{dicom.JPEG2000, dicom.RLELossless} {
		p := coded(syntax, 1, 2, 1, 8, 8, []byte("a"))
		p.Fragments = append(p.Fragments, []byte("b"))
		plane, err := decoders.Decode(p)
		if err != nil || plane.Values()[1] != 'b' {
			t.Errorf("%s: %v", syntax, err)
		}
	}
	native := nativeOf(coded("", 1, 2, 1, 8, 8, nil), []uint16{3, 4})
	if plane, err := decoders.Decode(native); err != nil || plane.Values()[1] != 4 {
		t.Errorf("native pixels: %v", err)
	}
	if want := dicom.JPEG2000 + " ab\n" + dicom.RLELossless + " ab\n"; called != want {
		t.Errorf("called %q, want %q", called, want)
	}
}
