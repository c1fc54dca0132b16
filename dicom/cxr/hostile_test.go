package cxr

import (
	"bytes"
	"compress/flate"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// bomb is the image as a deflated file that ends in a PixelData of so many zeros.
func bomb(t testing.TB, elems []dicom.Element, zeros int) []byte {
	t.Helper()
	elems = without(elems, tag.PixelData)
	plain := encode(t, dicom.ExplicitVRLittleEndian, elems)
	whole := encode(t, dicom.DeflatedExplicitVRLittleEndian, elems)
	meta := bytes.Index(whole, []byte("MVMAE_1")) + len("MVMAE_1") + 1 // the last value of the meta information, padded
	set := bytes.Index(plain, []byte("\x08\x00\x16\x00UI"))            // the first element of the data set, SOPClassUID
	var deflated bytes.Buffer
	w, err := flate.NewWriter(&deflated, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(plain[set:])
	w.Write([]byte{0xe0, 0x7f, 0x10, 0x00, 'O', 'W', 0, 0, byte(zeros), byte(zeros >> 8), byte(zeros >> 16), byte(zeros >> 24)})
	for block := make([]byte, 1<<20); zeros > 0; zeros -= len(block) {
		block = block[:min(len(block), zeros)]
		w.Write(block)
	}
	w.Close()
	return append(whole[:meta:meta], deflated.Bytes()...)
}

// However a file is made, what is allocated for it in all, and so what is held at any time, stays within 64 MiB and 8 bytes
// for each pixel of the limit.
func TestFromDICOM_MemoryUnderAttack(t *testing.T) {
	lim := dicom.DefaultLimits()
	allowed := uint64(64<<20 + 8*lim.MaxPixels)
	small := chest(randomPicture(1, 4, 4, 0, 4095), 12, false, "MONOCHROME2")
	huge := with(small, dicom.Element{Tag: tag.Rows, VR: "US", Value: 8192}, dicom.Element{Tag: tag.Columns, VR: "US", Value: 8192})
	many := func(n int, value string) []dicom.Element {
		elems := with(small)
		for i := range n { // in groups that the header keeps: even, below 5000
			elems = append(elems, dicom.Element{Tag: tag.Tag{Group: 0x4ffe - uint16(i/4096)*2, Element: uint16(0x1000 + i%4096)}, VR: "LT", Value: value})
		}
		return elems
	}
	items := make([]dicom.Item, 90_000)
	for _, c := range []struct {
		name string
		data []byte
		code dicom.Code // "" is accepted
	}{
		{"four million values", encode(t, dicom.ExplicitVRLittleEndian, many(60, strings.Repeat(`\`, 65_000))), ""},
		{"90,000 elements", encode(t, dicom.ExplicitVRLittleEndian, many(90_000, "x")), ""},
		{"90,000 items", encode(t, dicom.ExplicitVRLittleEndian, with(small, dicom.Element{Tag: tag.ViewCodeSequence, VR: "SQ", Value: items})), ""},
		{"64 megapixels in a small file", bomb(t, huge, 2*8192*8192), ""},
		{"more than the limit in a small file", bomb(t, huge, lim.MaxBytes), dicom.CodeTooLarge},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := FromDICOM(c.data, Mimic, lim)
		runtime.ReadMemStats(&after)
		var r *Refusal
		if c.code == "" && err != nil || c.code != "" && (!errors.As(err, &r) || r.Code != string(c.code)) {
			t.Errorf("%s: %v, want code %q", c.name, err, c.code)
		}
		used := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d bytes, %d MiB allocated", c.name, len(c.data), used>>20)
		if used > allowed {
			t.Errorf("%s: %d MiB allocated for %d bytes; %d are allowed", c.name, used>>20, len(c.data), allowed>>20)
		}
	}
}
