package cxr

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// FromPicture reads a PNG (8 or 16 bits; gray, colour, palette) or JPEG file of a data set as if its pixels were those of a
// MONOCHROME2 DICOM object. Transparency is ignored. The view is unknown: the data set's table has it. Its errors are of
// type [*Refusal].
func FromPicture(data []byte, r Recipe) (*Image, error) {
	plane, kind, err := DecodePicture(data)
	if err != nil {
		return nil, err
	}
	img, err := r.image(plane, nil)
	if err != nil {
		return nil, refusal(err)
	}
	img.Photometric = kind
	return img, nil
}

// DecodePicture returns the gray plane of a PNG or JPEG file, and "PNG" or "JPEG". Its errors are of type [*Refusal].
func DecodePicture(data []byte) (plane *codec.Plane, kind string, err error) {
	size, decode := png.DecodeConfig, png.Decode
	kind = "PNG"
	if IsJPEG(data) {
		size, decode, kind = jpeg.DecodeConfig, jpeg.Decode, "JPEG"
	}
	// The size first: a file of a few bytes can ask for gigabytes.
	cfg, err := size(bytes.NewReader(data))
	if err != nil {
		return nil, "", &Refusal{CodePicture, err.Error()}
	}
	if limit := dicom.DefaultLimits().MaxPixels; cfg.Width < 1 || cfg.Height < 1 || cfg.Width > limit/cfg.Height {
		return nil, "", &Refusal{string(dicom.CodeTooLarge),
			fmt.Sprintf("%d x %d pixels, the limit is %d", cfg.Height, cfg.Width, limit)}
	}
	if kind == "JPEG" {
		plane, err = codec.Decode(frameOf(data, cfg))
	} else {
		plane, err = plainPNG(data, cfg)
	}
	if err == nil {
		return plane, kind, nil
	}
	// The standard library has the last word: it knows the kinds that are rare here, and says what is wrong with the others.
	img, err := decode(bytes.NewReader(data))
	if err != nil {
		return nil, "", &Refusal{CodePicture, err.Error()}
	}
	return grayPlane(img), kind, nil
}

// frameOf describes a JPEG file as the frame of a DICOM object that it might be. So its samples are those of libjpeg, as in the
// programs that data sets were made and are read with. The standard library's are up to 1 of 255 apart, and take three times as
// long.
func frameOf(data []byte, cfg image.Config) *dicom.Pixels {
	p := &dicom.Pixels{
		TransferSyntaxUID: dicom.JPEGBaseline, Fragments: [][]byte{data}, Frames: 1, Rows: cfg.Height, Columns: cfg.Width,
		BitsAllocated: 8, BitsStored: 8, HighBit: 7, SamplesPerPixel: 3, Photometric: "YBR_FULL_422",
	}
	switch cfg.ColorModel {
	case color.GrayModel:
		p.SamplesPerPixel, p.Photometric = 1, "MONOCHROME2"
	case color.RGBAModel:
		p.Photometric = "RGB"
	}
	return p
}

// IsPNG and IsJPEG tell the files by their first bytes.
func IsPNG(data []byte) bool  { return bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) }
func IsJPEG(data []byte) bool { return bytes.HasPrefix(data, []byte("\xff\xd8\xff")) }

// grayPlane is the image's gray values, in place where it has them.
func grayPlane(img image.Image) *codec.Plane {
	rows, columns := img.Bounds().Dy(), img.Bounds().Dx()
	switch img := img.(type) {
	case *image.Gray:
		return codec.Gray8(rows, columns, unpad(img.Pix, img.Stride, rows, columns))
	case *image.Gray16:
		return codec.Gray16(rows, columns, unpad(img.Pix, img.Stride, rows, 2*columns), binary.BigEndian)
	case *image.YCbCr: // JFIF's Y is the luma
		return coloured(codec.Gray8(rows, columns, unpad(img.Y, img.YStride, rows, columns)))
	case *image.RGBA64, *image.NRGBA64:
		gray := make([]byte, 0, 2*rows*columns)
		for y := range rows {
			for x := range columns {
				c := opaque(img.At(x, y))
				v := codec.Luma(uint32(c.R), uint32(c.G), uint32(c.B))
				gray = binary.BigEndian.AppendUint16(gray, uint16(v))
			}
		}
		return coloured(codec.Gray16(rows, columns, gray, binary.BigEndian))
	}
	gray := make([]byte, 0, rows*columns)
	for y := range rows {
		for x := range columns {
			c := opaque(img.At(x, y))
			gray = append(gray, uint8(codec.Luma(uint32(c.R>>8), uint32(c.G>>8), uint32(c.B>>8))))
		}
	}
	return coloured(codec.Gray8(rows, columns, gray))
}

func coloured(p *codec.Plane) *codec.Plane {
	p.Colour = true
	return p
}

// unpad cuts rows of stride bytes, JPEG blocks for one, to width.
func unpad(pix []byte, stride, rows, width int) []byte {
	if stride == width {
		return pix
	}
	out := make([]byte, 0, rows*width)
	for y := range rows {
		out = append(out, pix[y*stride:y*stride+width]...)
	}
	return out
}

// opaque is the colour without its transparency, which PNG keeps apart from it (not premultiplied).
func opaque(c color.Color) color.NRGBA64 {
	switch c := c.(type) {
	case color.NRGBA64:
		return c
	case color.NRGBA:
		return color.NRGBA64{R: uint16(c.R) * 0x101, G: uint16(c.G) * 0x101, B: uint16(c.B) * 0x101, A: 0xffff}
	}
	return color.NRGBA64Model.Convert(c).(color.NRGBA64)
}
