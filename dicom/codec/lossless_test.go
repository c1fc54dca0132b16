package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
)

// coded describes an image whose only frame is a code stream.
func coded(syntax string, rows, columns, components, allocated, stored int, frame []byte) *dicom.Pixels {
	p := &dicom.Pixels{TransferSyntaxUID: syntax, Rows: rows, Columns: columns, Frames: 1, SamplesPerPixel: components,
		BitsAllocated: allocated, BitsStored: stored, HighBit: stored - 1, Photometric: "MONOCHROME2",
		Fragments: [][]byte{frame}}
	if components == 3 {
		p.Photometric = "RGB"
	}
	return p
}

// nativeOf is the same image without compression.
func nativeOf(p *dicom.Pixels, samples []uint16) *dicom.Pixels {
	native := *p
	native.TransferSyntaxUID, native.Fragments, native.Planar = dicom.ExplicitVRLittleEndian, nil, false
	for _, v := range samples {
		if p.BitsAllocated == 8 {
			native.Data = append(native.Data, byte(v))
		} else {
			native.Data = binary.LittleEndian.AppendUint16(native.Data, v)
		}
	}
	return &native
}

// sameAsNative checks that a coded image is the native one of its samples.
func sameAsNative(t *testing.T, name string, p *dicom.Pixels, samples []uint16) {
	t.Helper()
	want, err := Decode(nativeOf(p, samples))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got, err := Decode(p)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if diff := cmp.Diff(want.Values(), got.Values()); diff != "" {
		t.Errorf("%s (-want +got)\n%.2000s", name, diff)
	}
	if want.Inverted != got.Inverted || want.Colour != got.Colour || want.BitsStored() != got.BitsStored() || want.Signed() != got.Signed() {
		t.Errorf("%s: inverted, colour, bits or sign differ", name)
	}
}

// radiograph is a picture of slopes, edges, flat parts and noise.
func radiograph(seed uint64, rows, columns, components, bits int) []uint16 {
	rng := rand.New(rand.NewPCG(seed, 7))
	largest := 1<<bits - 1
	samples := make([]uint16, 0, rows*columns*components)
	for y := range rows {
		for x := range columns {
			for c := range components {
				v := (x*(c+1) + 2*y) * largest / (3*columns + 2*rows)
				switch {
				case y%16 < 3:
					v = largest
				case x%16 > 12:
					v = 0
				case y%4 == 3:
					v = rng.IntN(largest + 1)
				default:
					v += rng.IntN(largest/16 + 1)
				}
				samples = append(samples, uint16(min(v, largest)))
			}
		}
	}
	return samples
}

func TestJPEGLossless_RoundTrip(t *testing.T) {
	for precision := 2; precision <= 16; precision++ {
		for predictor := 1; predictor <= 7; predictor++ {
			for _, variant := range []codectest.JPEG{
				{Components: 1}, {Components: 1, RestartLines: 1}, {Components: 1, RestartLines: 3}, {Components: 1, Shift: 1},
				{Components: 3}, {Components: 3, RestartLines: 2}, {Components: 3, Apart: true, RestartLines: 4, Shift: 1},
			} {
				j := variant
				j.Rows, j.Columns, j.Precision, j.Predictor = 29, 23, precision, predictor
				allocated := 16
				if precision <= 8 {
					allocated = 8
				}
				samples := radiograph(uint64(precision), j.Rows, j.Columns, j.Components, precision)
				frame := codectest.LosslessJPEG(j, samples)
				for i := range samples {
					samples[i] = samples[i] >> j.Shift << j.Shift
				}
				p := coded(dicom.JPEGLossless, j.Rows, j.Columns, j.Components, allocated, precision, frame)
				sameAsNative(t, fmt.Sprintf("%+v", j), p, samples)
			}
		}
	}
}

// The smallest images have more to read ahead than they are long.
func TestJPEGLossless_SmallSizes(t *testing.T) {
	for rows := 1; rows <= 3; rows++ {
		for columns := 1; columns <= 20; columns++ {
			for _, bits := range []int{2, 8, 16} {
				j := codectest.JPEG{Rows: rows, Columns: columns, Components: 1, Precision: bits, Predictor: 1}
				samples := radiograph(2, rows, columns, 1, bits)
				p := coded(dicom.JPEGLosslessSV1, rows, columns, 1, ceilDiv(bits, 8)*8, bits, codectest.LosslessJPEG(j, samples))
				sameAsNative(t, fmt.Sprintf("%+v", j), p, samples)
			}
		}
	}
}

// The difference of 32768, category 16, has no bits of its own.
func TestJPEGLossless_LargestDifference(t *testing.T) {
	samples := []uint16{0, 32768, 0, 65535, 32767, 65535, 0, 1}
	j := codectest.JPEG{Rows: 2, Columns: 4, Components: 1, Precision: 16, Predictor: 1}
	sameAsNative(t, "16 bits", coded(dicom.JPEGLosslessSV1, 2, 4, 1, 16, 16, codectest.LosslessJPEG(j, samples)), samples)
}

// Some encoders code the words with all that lies around the stored bits.
func TestJPEGLossless_WholeWords(t *testing.T) {
	samples := radiograph(3, 20, 30, 1, 16)
	frame := codectest.LosslessJPEG(codectest.JPEG{Rows: 20, Columns: 30, Components: 1, Precision: 16, Predictor: 4}, samples)
	for _, high := range []int{11, 13, 15} {
		for _, signed := range []bool{false, true} {
			p := coded(dicom.JPEGLossless, 20, 30, 1, 16, 12, frame)
			p.HighBit, p.Signed = high, signed
			sameAsNative(t, fmt.Sprintf("HighBit %d, signed %t", high, signed), p, samples)
		}
	}
}

// A stream of 12 bits has nothing below them, wherever the header says that they are.
func TestJPEGLossless_StoredBitsAreLow(t *testing.T) {
	samples := radiograph(3, 20, 30, 1, 12)
	frame := codectest.LosslessJPEG(codectest.JPEG{Rows: 20, Columns: 30, Components: 1, Precision: 12, Predictor: 1}, samples)
	p := coded(dicom.JPEGLossless, 20, 30, 1, 16, 12, frame)
	p.HighBit, p.Signed, p.Photometric = 15, true, "MONOCHROME1"
	got, err := Decode(p)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]int32, len(samples))
	for i, v := range samples {
		want[i] = int32(int16(v<<4)) >> 4
	}
	if diff := cmp.Diff(want, got.Values()); diff != "" || !got.Inverted {
		t.Errorf("inverted %t (-want +got)\n%.2000s", got.Inverted, diff)
	}
}

func TestJPEGLossless_ColourSpaces(t *testing.T) {
	samples := radiograph(5, 11, 13, 3, 8)
	frame := codectest.LosslessJPEG(codectest.JPEG{Rows: 11, Columns: 13, Components: 3, Precision: 8, Predictor: 6}, samples)
	for photometric, native := range map[string]string{"RGB": "RGB", "YBR_FULL": "YBR_FULL", "YBR_FULL_422": "YBR_FULL"} {
		p := coded(dicom.JPEGLossless, 11, 13, 3, 8, 8, frame)
		p.Photometric, p.Planar = photometric, true // PlanarConfiguration is of the decoded image
		want := nativeOf(p, samples)
		want.Photometric = native
		a, err := Decode(want)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Decode(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a.Values(), b.Values()); diff != "" || !b.Colour {
			t.Errorf("%s: colour %t (-want +got)\n%.2000s", photometric, b.Colour, diff)
		}
	}
}

// Wherever a stream ends, it is refused as truncated, until only its end marker and padding bits are missing.
func TestJPEGLossless_CutAnywhere(t *testing.T) {
	for _, restart := range []int{0, 2} {
		j := codectest.JPEG{Rows: 9, Columns: 7, Components: 1, Precision: 12, Predictor: 5, RestartLines: restart}
		frame := codectest.LosslessJPEG(j, radiograph(1, 9, 7, 1, 12))
		for n := 2; n < len(frame)-2; n++ {
			_, err := Decode(coded(dicom.JPEGLossless, 9, 7, 1, 16, 12, frame[:n:n]))
			wantCode(t, fmt.Sprintf("%d of %d bytes", n, len(frame)), err, dicom.CodeTruncated)
		}
		if _, err := Decode(coded(dicom.JPEGLossless, 9, 7, 1, 16, 12, frame[:len(frame)-2])); err != nil {
			t.Errorf("all pixels are there, the end marker is not: %v", err)
		}
	}
}

func wantCode(t *testing.T, name string, err error, code dicom.Code) {
	t.Helper()
	var e *dicom.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: %v, want code %s", name, err, code)
	}
}

func TestJPEG_RefusesWhatDisagreesOrIsUnsound(t *testing.T) {
	j := codectest.JPEG{Rows: 20, Columns: 30, Components: 1, Precision: 12, Predictor: 1, RestartLines: 10}
	good := codectest.LosslessJPEG(j, radiograph(1, 20, 30, 1, 12))
	sof, dht, dri, sos := bytes.Index(good, []byte{0xff, 0xc3}), bytes.Index(good, []byte{0xff, 0xc4}),
		bytes.Index(good, []byte{0xff, 0xdd}), bytes.Index(good, []byte{0xff, 0xda})
	set := func(at int, b ...byte) func([]byte) []byte {
		return func(f []byte) []byte { copy(f[at:], b); return f }
	}
	same := func(f []byte) []byte { return f }
	header := func(change func(*dicom.Pixels)) func(*dicom.Pixels) { return change }
	asIs := header(func(*dicom.Pixels) {})
	for _, c := range []struct {
		name   string
		header func(*dicom.Pixels)
		frame  func([]byte) []byte
		code   dicom.Code
	}{
		{"other rows", header(func(p *dicom.Pixels) { p.Rows = 21 }), same, dicom.CodeMalformed},
		{"other columns", header(func(p *dicom.Pixels) { p.Columns = 29 }), same, dicom.CodeMalformed},
		{"other samples", header(func(p *dicom.Pixels) { p.SamplesPerPixel, p.Photometric = 3, "RGB" }), same, dicom.CodeMalformed},
		{"more bits stored", header(func(p *dicom.Pixels) { p.BitsStored, p.HighBit = 14, 13 }), same, dicom.CodeMalformed},
		{"fewer bits allocated", header(func(p *dicom.Pixels) { p.BitsAllocated, p.BitsStored, p.HighBit = 8, 8, 7 }), same, dicom.CodeMalformed},
		{"HighBit past the stream's", header(func(p *dicom.Pixels) { p.BitsStored, p.HighBit = 10, 13 }), same, dicom.CodeMalformed},
		{"32 bits", header(func(p *dicom.Pixels) { p.BitsAllocated = 32 }), same, dicom.CodeUnsupportedPixels},
		{"YBR_ICT", header(func(p *dicom.Pixels) { p.Photometric = "YBR_ICT" }), same, dicom.CodeUnsupportedPixels},
		{"no JPEG", asIs, set(0, 'P', 'N'), dicom.CodeMalformed},
		{"progressive", asIs, set(sof+1, 0xc2), dicom.CodeUnsupportedPixels},
		{"arithmetic", asIs, set(sof+1, 0xcb), dicom.CodeUnsupportedPixels},
		{"DCT of 16 bits", asIs, set(sof+1, 0xc1, 0, 11, 16), dicom.CodeMalformed},
		{"rows to follow", asIs, set(sof+5, 0, 0), dicom.CodeMalformed},
		{"no sampling", asIs, set(sof+11, 0), dicom.CodeMalformed},
		{"frame header of a byte less", asIs, set(sof+3, 10), dicom.CodeMalformed},
		{"two frame headers", asIs, func(f []byte) []byte { return append(bytes.Clone(f[:sos]), f[sof:]...) }, dicom.CodeMalformed},
		{"no frame header", asIs, set(sof+1, 0xe1), dicom.CodeMalformed},
		{"table 4", asIs, set(dht+4, 4), dicom.CodeMalformed},
		{"three codes of a bit", asIs, set(dht+5, 3), dicom.CodeMalformed},
		{"more codes than symbols", asIs, set(dht+20, 9), dicom.CodeMalformed},
		{"no tables", asIs, set(dht+1, 0xe1), dicom.CodeMalformed},
		{"difference of 17 bits", asIs, set(dht+21, 17), dicom.CodeMalformed},
		{"restarts within a line", asIs, set(dri+4, 0, 31), dicom.CodeMalformed},
		{"restart markers out of order", asIs, func(f []byte) []byte { return bytes.Replace(f, []byte{0xff, 0xd0}, []byte{0xff, 0xd1}, 1) }, dicom.CodeMalformed},
		{"no restart marker", asIs, func(f []byte) []byte { return bytes.Replace(f, []byte{0xff, 0xd0}, []byte{0xff, 0xd9}, 1) }, dicom.CodeMalformed},
		{"predictor 0", asIs, set(sos+7, 0), dicom.CodeMalformed},
		{"predictor 8", asIs, set(sos+7, 8), dicom.CodeMalformed},
		{"point transform of all bits", asIs, set(sos+9, 12), dicom.CodeMalformed},
		{"scan of another component", asIs, set(sos+5, 9), dicom.CodeMalformed},
		{"scan of no component", asIs, set(sos+4, 0), dicom.CodeMalformed},
		{"scan with another table", asIs, set(sos+6, 0x10), dicom.CodeMalformed},
		{"scan with table 9", asIs, set(sos+6, 0x90), dicom.CodeMalformed},
		{"code of ones", asIs, set(sos+10, 0xff, 0, 0xff, 0), dicom.CodeMalformed},
		{"segment of a byte", asIs, set(dri+2, 0, 1), dicom.CodeMalformed},
		{"no marker", asIs, set(dri, 0), dicom.CodeMalformed},
		{"restart marker between segments", asIs, set(dri+1, 0xd3), dicom.CodeMalformed},
		{"no scan", asIs, func(f []byte) []byte { return append(f[:sos], 0xff, 0xd9) }, dicom.CodeTruncated},
	} {
		p := coded(dicom.JPEGLossless, 20, 30, 1, 16, 12, c.frame(bytes.Clone(good)))
		c.header(p)
		_, err := Decode(p)
		wantCode(t, c.name, err, c.code)
	}
	if _, err := Decode(coded(dicom.JPEGLossless, 20, 30, 1, 16, 12, good)); err != nil {
		t.Error(err)
	}
}

// A few bytes cannot be a large image: nothing is allocated for them.
func TestDecode_TinyStreamsOfLargeImages(t *testing.T) {
	const rows, columns = 8000, 8000
	j := codectest.JPEG{Rows: 1, Columns: 1, Components: 1, Precision: 16, Predictor: 1}
	jpeg := codectest.LosslessJPEG(j, []uint16{1})
	sof := bytes.Index(jpeg, []byte{0xff, 0xc3})
	binary.BigEndian.PutUint16(jpeg[sof+5:], rows)
	binary.BigEndian.PutUint16(jpeg[sof+7:], columns)
	for syntax, frame := range map[string][]byte{
		dicom.JPEGLossless: jpeg,
		dicom.RLELossless:  codectest.RLE([]uint16{1, 2, 3}, 1, 2),
	} {
		p := coded(syntax, rows, columns, 1, 16, 16, frame)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(p)
		runtime.ReadMemStats(&after)
		wantCode(t, syntax, err, dicom.CodeTruncated)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("%s: %d bytes allocated for %d", syntax, used, len(frame))
		}
	}
}
