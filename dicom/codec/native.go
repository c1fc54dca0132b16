package codec

import (
	"encoding/binary"
	"fmt"

	"github.com/mvmae/mvmae/dicom"
)

// Native returns frame 0 of native pixels as a plane. Monochrome pixels stay where they are. A decoder that has filled Data
// with the samples of a code stream ends here: Native knows about colour, palettes, signs and bits. Its errors are of type
// *dicom.Error.
func Native(p *dicom.Pixels) (*Plane, error) {
	if p.BitsAllocated > 16 {
		return nil, refuse("%d bits allocated", p.BitsAllocated)
	}
	switch p.Photometric {
	case "MONOCHROME1", "MONOCHROME2":
		if p.SamplesPerPixel != 1 {
			return nil, refuse("%s with %d samples per pixel", p.Photometric, p.SamplesPerPixel)
		}
		plane := wordPlane(p, p.Rows, p.Columns, frame(p))
		plane.Inverted = p.Photometric == "MONOCHROME1"
		return plane, nil
	case "RGB", "YBR_FULL", "YBR_FULL_422":
		if p.SamplesPerPixel != 3 || p.Signed {
			return nil, refuse("%s of %d samples per pixel, signed %t", p.Photometric, p.SamplesPerPixel, p.Signed)
		}
		return luma(p)
	}
	return nil, refuse("PhotometricInterpretation %.32q", p.Photometric)
}

func refuse(format string, args ...any) error {
	return &dicom.Error{Code: dicom.CodeUnsupportedPixels, Detail: fmt.Sprintf(format, args...)}
}

// frame returns the bytes of frame 0 with 8-bit pixels in their order. The pixels of a big-endian OW are words: their
// bytes change places (PS3.5 8.2 and annex D.2).
func frame(p *dicom.Pixels) []byte {
	n := p.FrameBytes()
	if p.BitsAllocated != 8 || !p.BigEndian || !p.Words {
		return p.Data[:n]
	}
	out := make([]byte, n)
	for i := range out {
		if j := i ^ 1; j < len(p.Data) {
			out[i] = p.Data[j]
		}
	}
	return out
}

// wordPlane is the plane of raw words laid out as p says.
func wordPlane(p *dicom.Pixels, rows, columns int, data []byte) *Plane {
	plane := &Plane{Rows: rows, Columns: columns, data: data, wide: p.BitsAllocated == 16, order: binary.LittleEndian,
		low: p.HighBit + 1 - p.BitsStored, bits: p.BitsStored, sign: p.Signed}
	if p.BigEndian {
		plane.order = binary.BigEndian
	}
	return plane
}

// Luma is the gray value of a colour, ITU-R BT.601 as in JFIF and PS3.3 C.7.6.3.1.2, rounded half up. A gray colour is
// its own luma.
func Luma(r, g, b uint32) uint32 { return (299*r + 587*g + 114*b + 500) / 1000 }

// luma makes the plane of a colour image.
func luma(p *dicom.Pixels) (*Plane, error) {
	if p.Photometric == "YBR_FULL_422" && (p.BitsAllocated != 8 || p.Planar || p.Columns%2 != 0) {
		return nil, refuse("YBR_FULL_422 other than 8 bits, by pixel, with an even number of columns")
	}
	data := frame(p)
	samples := wordPlane(p, 1, len(data)/(p.BitsAllocated/8), data)
	sample := func(i int) uint32 { return uint32(samples.at(i)) }

	n := p.Rows * p.Columns
	step, r, g, b := 3, 0, 1, 2 // where the samples of pixel 0 are, and how far it is to pixel 1
	if p.Planar {
		step, g, b = 1, n, 2*n
	}
	out := make([]byte, 0, 2*n)
	for i := range n {
		var v uint32
		switch p.Photometric {
		case "RGB":
			v = Luma(sample(i*step+r), sample(i*step+g), sample(i*step+b))
		case "YBR_FULL":
			v = sample(i * step)
		case "YBR_FULL_422": // Y Y Cb Cr
			v = sample(i/2*4 + i%2)
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(v))
	}
	plane := Gray16(p.Rows, p.Columns, out, binary.LittleEndian)
	plane.bits, plane.Colour = p.BitsStored, true
	return plane, nil
}
