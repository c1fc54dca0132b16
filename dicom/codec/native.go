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
	if err := supported(p); err != nil {
		return nil, err
	}
	if p.Photometric == "YBR_FULL_422" && (p.BitsAllocated != 8 || p.Planar || p.Columns%2 != 0) {
		return nil, refuse("YBR_FULL_422 other than 8 bits, by pixel, with an even number of columns")
	}
	if len(p.Data) < p.FrameBytes() {
		return nil, truncated("%d bytes of pixels where a frame of %d x %d needs %d", len(p.Data), p.Rows, p.Columns, p.FrameBytes())
	}
	switch p.Photometric {
	case "MONOCHROME1", "MONOCHROME2":
		plane := wordPlane(p, p.Rows, p.Columns, frame(p))
		plane.Inverted = p.Photometric == "MONOCHROME1"
		return plane, nil
	case "PALETTE COLOR":
		return paletteLuma(p)
	}
	return luma(p)
}

// supported refuses by name the kinds of pixels that Native does not know. Decoders ask before they decode.
func supported(p *dicom.Pixels) error {
	if p.BitsAllocated > 16 {
		return refuse("%d bits allocated", p.BitsAllocated)
	}
	switch p.Photometric {
	case "MONOCHROME1", "MONOCHROME2":
		if p.SamplesPerPixel != 1 {
			return refuse("%s with %d samples per pixel", p.Photometric, p.SamplesPerPixel)
		}
	case "PALETTE COLOR":
		if p.SamplesPerPixel != 1 || p.Palette == nil {
			return refuse("%s with %d samples per pixel, lookup tables %t", p.Photometric, p.SamplesPerPixel, p.Palette != nil)
		}
	case "RGB", "YBR_FULL", "YBR_FULL_422":
		if p.SamplesPerPixel != 3 || p.Signed {
			return refuse("%s of %d samples per pixel, signed %t", p.Photometric, p.SamplesPerPixel, p.Signed)
		}
	default:
		return refuse("PhotometricInterpretation %.32q", p.Photometric)
	}
	return nil
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

// paletteLuma makes the plane of an image whose stored values are places in a table of colours.
func paletteLuma(p *dicom.Pixels) (*Plane, error) {
	index := wordPlane(p, p.Rows, p.Columns, frame(p))
	table := make([]uint16, index.Words())
	for word := range table {
		i := min(max(int(index.Value(word))-p.Palette.First, 0), len(p.Palette.Red)-1)
		table[word] = uint16(Luma(uint32(p.Palette.Red[i]), uint32(p.Palette.Green[i]), uint32(p.Palette.Blue[i])))
	}
	out := make([]byte, 2*p.Rows*p.Columns)
	for i := range p.Rows * p.Columns {
		binary.LittleEndian.PutUint16(out[2*i:], table[index.word(i)])
	}
	plane := Gray16(p.Rows, p.Columns, out, binary.LittleEndian)
	plane.bits, plane.Colour = p.Palette.Bits, true
	return plane, nil
}

// luma makes the plane of a colour image.
func luma(p *dicom.Pixels) (*Plane, error) {
	data := frame(p)
	size := p.BitsAllocated / 8
	low, high := 0, size-1 // where the bytes of a word are; the only one of an 8-bit sample counts twice, and is cut
	if p.BigEndian {
		low, high = high, low
	}
	shift, mask := p.HighBit+1-p.BitsStored, uint32(1)<<p.BitsStored-1
	sample := func(i int) uint32 {
		word := data[i*size : i*size+size]
		return (uint32(word[low]) | uint32(word[high])<<8) >> shift & mask
	}

	n := p.Rows * p.Columns
	step, g, b := 3, 1, 2 // how far it is to the next pixel, and where the samples of pixel 0 are
	if p.Planar {
		step, g, b = 1, n, 2*n
	}
	rgb, halved := p.Photometric == "RGB", p.Photometric == "YBR_FULL_422"
	out := make([]byte, 2*n)
	for i := range n {
		var v uint32
		switch {
		case rgb:
			v = Luma(sample(i*step), sample(i*step+g), sample(i*step+b))
		case halved: // Y Y Cb Cr
			v = sample(i/2*4 + i%2)
		default:
			v = sample(i * step)
		}
		binary.LittleEndian.PutUint16(out[2*i:], uint16(v))
	}
	plane := Gray16(p.Rows, p.Columns, out, binary.LittleEndian)
	plane.bits, plane.Colour = p.BitsStored, true
	return plane, nil
}
