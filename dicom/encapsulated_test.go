package dicom

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"
)

const openPixels = "\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"

func itemOf(s string) string { return item + le32(uint32(len(s))) + s }

func le64(values ...uint64) (s string) {
	for _, v := range values {
		s += string(binary.LittleEndian.AppendUint64(nil, v))
	}
	return s
}

// extended is an element of the Extended Offset Table.
func extended(element byte, value string) string {
	return "\xe0\x7f" + string(element) + "\x00OV\x00\x00" + le32(uint32(len(value))) + value
}

// encapsulated is a file of some frames whose pixels are the given bytes.
func encapsulated(t testing.TB, frames string, parts ...string) []byte {
	data := encode(t, JPEGLossless, with(without(sample(), tag.PixelData), Element{tag.NumberOfFrames, "IS", frames}))
	for _, p := range parts {
		data = append(data, p...)
	}
	return data
}

func TestPixels_Encapsulated(t *testing.T) {
	fragments := itemOf("abcd") + itemOf("ef") + itemOf("gh")
	all := []string{"abcd", "ef", "gh"}
	basic := itemOf(le32(0) + le32(22))
	for _, c := range []struct {
		name             string
		frames           string
		parts            []string
		fragments        []string
		offsets, lengths []uint64
	}{
		{"one frame", "1", []string{openPixels, itemOf(""), fragments, seqEnd}, all, nil, nil},
		{"one frame with a table that nothing needs", "1", []string{openPixels, basic, fragments, seqEnd}, all, nil, nil},
		{"two frames", "2", []string{openPixels, itemOf(""), fragments, seqEnd}, all, nil, nil},
		{"Basic Offset Table", "2", []string{openPixels, basic, fragments, seqEnd}, all, []uint64{0, 22}, nil},
		{"Extended Offset Table", "2", []string{extended(1, le64(0, 22)), extended(2, le64(5, 2)), openPixels, itemOf(""), fragments, seqEnd},
			all, []uint64{0, 22}, []uint64{5, 2}},
		{"as words", "1", []string{"\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\xff", itemOf(""), fragments, seqEnd, "tail"}, all, nil, nil},
	} {
		f, err := Parse(encapsulated(t, c.frames, c.parts...), DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		p, err := f.Pixels()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, b := range p.Fragments {
			got = append(got, string(b))
		}
		if diff := cmp.Diff([]any{c.fragments, c.offsets, c.lengths}, []any{got, p.Offsets, p.Lengths}); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
		if !p.Encapsulated() || p.TransferSyntaxUID != JPEGLossless || p.Data != nil || f.String(tag.Modality) != "DX" {
			t.Errorf("%s: %+v, modality %q", c.name, p, f.String(tag.Modality))
		}
	}
}

// unsound are encapsulated pixels that Parse or Pixels refuses.
func unsound(t testing.TB) []struct {
	name string
	data []byte
	code Code
} {
	fragments := itemOf("abcd") + itemOf("ef")
	return []struct {
		name string
		data []byte
		code Code
	}{
		{"native pixels", encapsulated(t, "1", "\xe0\x7f\x10\x00OB\x00\x00"+le32(2)+"ab"), CodeMalformed},
		{"unknown VR", encapsulated(t, "1", "\xe0\x7f\x10\x00UN\x00\x00\xff\xff\xff\xff", itemOf(""), fragments, seqEnd), CodeMalformed},
		{"no delimiter", encapsulated(t, "1", openPixels, itemOf(""), fragments), CodeTruncated},
		{"cut fragment", encapsulated(t, "1", openPixels, itemOf(""), item, le32(9), "abcd"), CodeTruncated},
		{"4 GiB fragment", encapsulated(t, "1", openPixels, itemOf(""), item, "\xfe\xff\xff\xff"), CodeTruncated},
		{"fragment of undefined length", encapsulated(t, "1", openPixels, itemOf(""), openItem, seqEnd), CodeMalformed},
		{"no item", encapsulated(t, "1", openPixels, meaning, seqEnd), CodeMalformed},
		{"nothing", encapsulated(t, "1", openPixels, seqEnd), CodeNoPixelData},
		{"a table and no fragment", encapsulated(t, "1", openPixels, itemOf("abcd"), seqEnd), CodeNoPixelData},
		{"no pixels", encapsulated(t, "1"), CodeNoPixelData},
		{"table of three frames of two", encapsulated(t, "2", openPixels, itemOf(le32(0)+le32(12)+le32(20)), fragments, seqEnd), CodeMalformed},
		{"table of seven bytes", encapsulated(t, "2", openPixels, itemOf("abcdefg"), fragments, seqEnd), CodeMalformed},
		{"extended table of one frame of two", encapsulated(t, "2", extended(1, le64(0)), extended(2, le64(4, 2)), openPixels, itemOf(""), fragments, seqEnd), CodeMalformed},
		{"extended table without lengths", encapsulated(t, "2", extended(1, le64(0, 12)), openPixels, itemOf(""), fragments, seqEnd), CodeMalformed},
	}
}

func TestPixels_UnsoundEncapsulationIsRefused(t *testing.T) {
	for _, c := range unsound(t) {
		f, err := Parse(c.data, DefaultLimits())
		if err == nil {
			_, err = f.Pixels()
		}
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v, want code %s", c.name, err, c.code)
		}
	}
}
