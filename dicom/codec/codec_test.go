package codec

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
)

// mono is 8- or 16-bit monochrome pixels; values are raw words.
func mono(allocated, stored, high int, signed, big bool, words ...uint16) *dicom.Pixels {
	p := &dicom.Pixels{Rows: 1, Columns: len(words), Frames: 1, SamplesPerPixel: 1, BitsAllocated: allocated,
		BitsStored: stored, HighBit: high, Signed: signed, BigEndian: big, Photometric: "MONOCHROME2"}
	for _, w := range words {
		switch {
		case allocated == 8:
			p.Data = append(p.Data, byte(w))
		case big:
			p.Data = binary.BigEndian.AppendUint16(p.Data, w)
		default:
			p.Data = binary.LittleEndian.AppendUint16(p.Data, w)
		}
	}
	return p
}

func TestDecode_StoredValues(t *testing.T) {
	for _, c := range []struct {
		name   string
		pixels *dicom.Pixels
		want   []int32
	}{
		{"8 bits", mono(8, 8, 7, false, false, 0, 128, 255), []int32{0, 128, 255}},
		{"8 bits signed", mono(8, 8, 7, true, false, 0, 127, 128, 255), []int32{0, 127, -128, -1}},
		{"12 of 16", mono(16, 12, 11, false, false, 0, 4095), []int32{0, 4095}},
		{"12 of 16, big endian", mono(16, 12, 11, false, true, 1, 4095), []int32{1, 4095}},
		{"12 of 16 with an overlay above", mono(16, 12, 11, false, false, 0xf123, 0x8000), []int32{0x123, 0}},
		{"12 of 16 signed", mono(16, 12, 11, true, false, 0x7ff, 0x800, 0xfff), []int32{2047, -2048, -1}},
		{"12 of 16 signed with an overlay above", mono(16, 12, 11, true, false, 0xf7ff, 0x4fff), []int32{2047, -1}},
		{"12 high bits of 16", mono(16, 12, 15, false, false, 0xfff0, 0x123f), []int32{4095, 0x123}},
		{"12 high bits of 16, signed", mono(16, 12, 15, true, false, 0xfff0, 0x8000, 0x7ff5), []int32{-1, -2048, 2047}},
		{"16 bits", mono(16, 16, 15, false, false, 0, 65535), []int32{0, 65535}},
		{"16 bits signed", mono(16, 16, 15, true, true, 0x7fff, 0x8000), []int32{32767, -32768}},
		{"1 bit signed", mono(8, 1, 0, true, false, 0, 1), []int32{0, -1}},
	} {
		p, err := Decode(c.pixels)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, p.Values()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
}

func TestDecode_FirstFrame(t *testing.T) {
	px := mono(8, 8, 7, false, false, 1, 2, 3, 4)
	px.Columns, px.Frames = 2, 2
	p, err := Decode(px)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int32{1, 2}, p.Values()); diff != "" {
		t.Error(diff)
	}
}

// 8-bit pixels of a big-endian OW are 16-bit words: PS3.5 annex D.2.
func TestDecode_BigEndianWordsOfBytes(t *testing.T) {
	px := mono(8, 8, 7, false, true, 2, 1, 4, 3, 0, 5)
	px.Columns, px.Words = 5, true
	p, err := Decode(px)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int32{1, 2, 3, 4, 5}, p.Values()); diff != "" {
		t.Error(diff)
	}
}

func TestDecode_Monochrome1IsMarkedNotChanged(t *testing.T) {
	px := mono(8, 8, 7, false, false, 3)
	px.Photometric = "MONOCHROME1"
	p, err := Decode(px)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Inverted || p.Values()[0] != 3 {
		t.Errorf("inverted %t, value %d", p.Inverted, p.Values()[0])
	}
}

func TestDecode_ColourBecomesLuma(t *testing.T) {
	colour := func(photometric string, allocated int, planar bool, words ...uint16) *dicom.Pixels {
		p := mono(allocated, allocated, allocated-1, false, false, words...)
		p.SamplesPerPixel, p.Photometric, p.Planar, p.Columns = 3, photometric, planar, 2
		return p
	}
	for _, c := range []struct {
		name   string
		pixels *dicom.Pixels
		want   []int32
	}{
		// 0.299*200 + 0.587*100 + 0.114*50 = 124.2; 0.299*10 + 0.587*20 + 0.114*30 = 18.15
		{"RGB", colour("RGB", 8, false, 200, 100, 50, 10, 20, 30), []int32{124, 18}},
		{"RGB by plane", colour("RGB", 8, true, 200, 10, 100, 20, 50, 30), []int32{124, 18}},
		{"RGB of 16 bits", colour("RGB", 16, false, 65535, 65535, 65535, 1000, 1000, 1000), []int32{65535, 1000}},
		{"gray RGB stays", colour("RGB", 8, false, 77, 77, 77, 255, 255, 255), []int32{77, 255}},
		{"YBR_FULL", colour("YBR_FULL", 8, false, 9, 128, 128, 8, 1, 2), []int32{9, 8}},
		{"YBR_FULL by plane", colour("YBR_FULL", 8, true, 9, 8, 128, 1, 128, 2), []int32{9, 8}},
		{"YBR_FULL_422", colour("YBR_FULL_422", 8, false, 9, 8, 128, 128), []int32{9, 8}},
	} {
		p, err := Decode(c.pixels)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, p.Values()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
		if !p.Colour {
			t.Errorf("%s: not marked as colour", c.name)
		}
	}
}

func TestDecode_RefusesByName(t *testing.T) {
	for _, c := range []struct {
		change func(*dicom.Pixels)
		want   string
	}{
		{func(p *dicom.Pixels) { p.BitsAllocated = 32 }, "32 bits allocated"},
		{func(p *dicom.Pixels) { p.Photometric = "PALETTE COLOR" }, "PALETTE COLOR with 1 samples per pixel, lookup tables false"},
		{func(p *dicom.Pixels) { p.Photometric = "YBR_ICT" }, `PhotometricInterpretation "YBR_ICT"`},
		{func(p *dicom.Pixels) { p.SamplesPerPixel = 3 }, "MONOCHROME2 with 3 samples per pixel"},
		{func(p *dicom.Pixels) { p.Photometric = "RGB" }, "RGB of 1 samples per pixel, signed false"},
		{func(p *dicom.Pixels) { p.Photometric, p.SamplesPerPixel = "YBR_FULL_422", 3 },
			"YBR_FULL_422 other than 8 bits, by pixel, with an even number of columns"},
	} {
		px := mono(16, 16, 15, false, false, 1, 2, 3)
		c.change(px)
		_, err := Decode(px)
		var e *dicom.Error
		if !errors.As(err, &e) || e.Code != dicom.CodeUnsupportedPixels || e.Detail != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// Histogram and MapRow must see the words that Values sees, on every path: width, byte order, odd number of pixels.
func TestPlane_HistogramAndMapRowAgreeWithValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name          string
		allocated     int
		big           bool
		rows, columns int
	}{
		{"bytes", 8, false, 4, 6}, {"odd number of bytes", 8, false, 3, 7},
		{"words", 16, false, 4, 6}, {"odd number of words", 16, false, 3, 7},
		{"big-endian words", 16, true, 3, 7},
	} {
		words := make([]uint16, c.rows*c.columns)
		for i := range words {
			words[i] = uint16(rng.UintN(1 << c.allocated))
		}
		px := mono(c.allocated, c.allocated, c.allocated-1, false, c.big, words...)
		px.Rows, px.Columns = c.rows, c.columns
		p, err := Decode(px)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]uint32, p.Words())
		table := make([]uint8, p.Words())
		for i := range table {
			table[i] = uint8(rng.UintN(256))
		}
		var mapped []uint8
		for _, v := range p.Values() {
			want[v]++
			mapped = append(mapped, table[v])
		}
		if diff := cmp.Diff(want, p.Histogram()); diff != "" {
			t.Errorf("%s: histogram (-want +got)\n%s", c.name, diff)
		}
		got := make([]uint8, len(mapped))
		for r := range c.rows {
			p.MapRow(r, table, got[r*c.columns:(r+1)*c.columns])
		}
		if diff := cmp.Diff(mapped, got); diff != "" {
			t.Errorf("%s: mapped (-want +got)\n%s", c.name, diff)
		}
	}
}
