package codec

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
)

// checkDecoded: an image is whole, a refusal has a code.
func checkDecoded(t *testing.T, p *dicom.Pixels) {
	plane, err := Decode(p)
	var e *dicom.Error
	switch {
	case err != nil && !errors.As(err, &e):
		t.Fatalf("an error without code: %v", err)
	case err == nil && (plane.Rows != p.Rows || plane.Columns != p.Columns || len(plane.Values()) != p.Rows*p.Columns):
		t.Fatalf("%d x %d pixels of %d x %d", plane.Rows, plane.Columns, p.Rows, p.Columns)
	}
}

// fuzzed describes an image of at most 100 x 100 pixels by a few numbers.
func fuzzed(syntax string, rows, columns, stored uint8, colour bool, frame []byte) *dicom.Pixels {
	components := 1
	if colour {
		components = 3
	}
	bits := 1 + int(stored)%16
	return coded(syntax, 1+int(rows)%100, 1+int(columns)%100, components, ceilDiv(bits, 8)*8, bits, frame)
}

func FuzzRLE(f *testing.F) {
	for _, components := range []int{1, 3} {
		f.Add(codectest.RLE(radiograph(1, 10, 12, components, 8), components, 1), uint8(9), uint8(11), uint8(7), components == 3)
		f.Add(codectest.RLE(radiograph(1, 10, 12, components, 16), components, 2), uint8(9), uint8(11), uint8(15), components == 3)
	}
	f.Fuzz(func(t *testing.T, frame []byte, rows, columns, stored uint8, colour bool) {
		checkDecoded(t, fuzzed(dicom.RLELossless, rows, columns, stored, colour, frame))
	})
}

// FuzzJPEG has a seed for each of the four transfer syntaxes and each way of coding.
func FuzzJPEG(f *testing.F) {
	for _, c := range foreign {
		p := foreignPixels(f, c.name, c.syntax, c.components, c.bits)
		f.Add(p.Fragments[0], uint8(44), uint8(60), uint8(c.bits-1), c.components == 3)
	}
	for _, j := range []codectest.JPEG{
		{Components: 1, Precision: 8, Predictor: 2, RestartLines: 3}, {Components: 3, Precision: 12, Predictor: 7, Apart: true},
		{Components: 3, Precision: 16, Predictor: 1}, {Components: 1, Precision: 2, Predictor: 4, Shift: 1},
	} {
		j.Rows, j.Columns = 10, 12
		frame := codectest.LosslessJPEG(j, radiograph(1, 10, 12, j.Components, j.Precision))
		f.Add(frame, uint8(9), uint8(11), uint8(j.Precision-1), j.Components == 3)
	}
	f.Fuzz(func(t *testing.T, frame []byte, rows, columns, stored uint8, colour bool) {
		p := fuzzed(dicom.JPEGLossless, rows, columns, stored, colour, frame)
		checkDecoded(t, p)
		p.Photometric = "MONOCHROME2"
		if colour {
			p.Photometric = "YBR_FULL_422"
		}
		checkDecoded(t, p)
	})
}

// FuzzFrame puts frames together from fragments cut of data at the given places, with and without a table.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\xff\xd8\xffab\xff\xd8\xffcd"), []byte{2, 3, 2}, uint8(2), []byte{}, false)
	f.Add([]byte("abcdefgh"), []byte{4, 2}, uint8(2), []byte{0, 22}, false)
	f.Add([]byte("abcdefgh"), []byte{4, 2}, uint8(3), []byte{0, 12, 22}, true)
	f.Add([]byte("abcdefgh"), []byte{8}, uint8(1), []byte{}, false)
	f.Fuzz(func(t *testing.T, data, cuts []byte, frames uint8, table []byte, lengths bool) {
		p := &dicom.Pixels{Frames: 1 + int(frames)}
		total := len(data)
		for _, n := range cuts {
			n := min(int(n), len(data))
			p.Fragments, data = append(p.Fragments, data[:n]), data[n:]
		}
		if len(table) > 0 { // dicom.Pixels has a table of one entry per frame, or none
			for i := range p.Frames {
				p.Offsets = append(p.Offsets, uint64(table[i%len(table)]))
			}
			if lengths {
				p.Lengths = p.Offsets
			}
		}
		frame, err := Frame(p)
		var e *dicom.Error
		if err != nil && !errors.As(err, &e) || len(frame) > total {
			t.Fatalf("%d bytes of %d, %v", len(frame), total, err)
		}
	})
}

// FuzzFile goes the whole way, with one seed per transfer syntax.
func FuzzFile(f *testing.F) {
	pixels := []byte{0, 1, 2, 3, 255}
	samples := []uint16{0, 1, 2, 3, 255}
	jpeg := codectest.LosslessJPEG(codectest.JPEG{Rows: 1, Columns: 5, Components: 1, Precision: 8, Predictor: 1}, samples)
	for _, syntax := range []string{dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian, dicom.ExplicitVRBigEndian,
		dicom.DeflatedExplicitVRLittleEndian} {
		f.Add(paletteFile(f, syntax, pixels))
	}
	f.Add(paletteFile(f, dicom.RLELossless, codectest.RLE(samples, 1, 1)))
	for _, syntax := range []string{dicom.JPEGBaseline, dicom.JPEGExtended, dicom.JPEGLossless, dicom.JPEGLosslessSV1, dicom.JPEG2000} {
		f.Add(paletteFile(f, syntax, jpeg))
	}
	lim := dicom.Limits{MaxBytes: 1 << 20, MaxHeaderBytes: 1 << 16, MaxElements: 5000, MaxPixels: 1 << 14}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := dicom.Parse(data, lim)
		if err != nil {
			return
		}
		if p, err := file.Pixels(); err == nil {
			checkDecoded(t, p)
		}
	})
}

// FuzzJPEGLossless: what is encoded is decoded, whatever the samples.
func FuzzJPEGLossless(f *testing.F) {
	f.Add([]byte("\x00\x80\xff\xff\x00\x00\x34\x12"), uint8(2), uint8(16), uint8(1), false)
	f.Add([]byte("\x01\x02\x03\x04\x05\x06"), uint8(3), uint8(3), uint8(4), true)
	f.Fuzz(func(t *testing.T, data []byte, columns, precision, predictor uint8, restart bool) {
		j := codectest.JPEG{Columns: 1 + int(columns)%32, Components: 1, Precision: 2 + int(precision)%15, Predictor: 1 + int(predictor)%7}
		if restart {
			j.RestartLines = 1
		}
		if j.Rows = min(len(data)/2/j.Columns, 64); j.Rows == 0 {
			return
		}
		samples := make([]uint16, j.Rows*j.Columns)
		for i := range samples {
			samples[i] = binary.LittleEndian.Uint16(data[2*i:]) & (1<<j.Precision - 1)
		}
		p := coded(dicom.JPEGLossless, j.Rows, j.Columns, 1, ceilDiv(j.Precision, 8)*8, j.Precision, codectest.LosslessJPEG(j, samples))
		sameAsNative(t, "fuzzed", p, samples)
	})
}
