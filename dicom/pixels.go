package dicom

import (
	"encoding/binary"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// Pixels describes the pixels of an image (PS3.3 C.7.6.3, PS3.5 8): checked against each other and, where they are native,
// against the bytes that are there.
type Pixels struct {
	// TransferSyntaxUID says how the pixels are coded; "" means as a native one.
	TransferSyntaxUID string

	Rows, Columns   int
	Frames          int
	SamplesPerPixel int
	BitsAllocated   int // 8, 16, or 32 and 64, which no codec here decodes
	BitsStored      int
	HighBit         int
	Signed          bool
	Planar          bool     // colour by plane
	Photometric     string   // PhotometricInterpretation, upper case
	Palette         *Palette // of PALETTE COLOR, else nil
	BigEndian       bool
	// Words: the bytes are 16-bit words (VR OW), so that 8-bit pixels of a big-endian file come in swapped pairs.
	Words bool
	// Data is all frames of native pixels, a part of the bytes that were parsed.
	Data []byte

	// Fragments is set in place of Data for an encapsulated transfer syntax: the code streams of all frames, cut anywhere,
	// parts of the bytes that were parsed. Package codec puts frames together.
	Fragments [][]byte
	// Offsets says where the first fragment of each frame is, counted from the item tag of the first fragment, and
	// Lengths how long the frame's code stream is (PS3.5 A.4). Each is nil or has one entry per frame; Offsets come from
	// the Extended Offset Table, else from the Basic one.
	Offsets, Lengths []uint64
}

// Encapsulated says whether the pixels are fragments of code streams.
func (p *Pixels) Encapsulated() bool { return encapsulates(p.TransferSyntaxUID) }

// FrameBytes is the size of one native frame. 4:2:2 colour has two samples per pixel (PS3.3 C.7.6.3.1.2).
func (p *Pixels) FrameBytes() int {
	samples := p.SamplesPerPixel
	if p.Photometric == "YBR_FULL_422" {
		samples = 2
	}
	return p.Rows * p.Columns * samples * (p.BitsAllocated / 8)
}

// Pixels returns the description of the image's pixels, or an [*Error] saying what is wrong with it.
func (f *File) Pixels() (*Pixels, error) {
	lay := f.lay
	if !lay.found || len(lay.pixels) == 0 && len(lay.fragments) == 0 {
		return nil, refuse(CodeNoPixelData, "no PixelData")
	}
	p := &Pixels{TransferSyntaxUID: lay.syntax, Frames: 1, Words: lay.vr == "OW", BigEndian: lay.syntax == ExplicitVRBigEndian}
	if !lay.encapsulated {
		p.Data = lay.pixels
	}
	for _, a := range []struct {
		name  string
		tag   tag.Tag
		value *int
	}{
		{"Rows", tag.Rows, &p.Rows}, {"Columns", tag.Columns, &p.Columns},
		{"SamplesPerPixel", tag.SamplesPerPixel, &p.SamplesPerPixel},
		{"BitsAllocated", tag.BitsAllocated, &p.BitsAllocated}, {"BitsStored", tag.BitsStored, &p.BitsStored},
	} {
		var ok bool
		if *a.value, ok = f.Int(a.tag); !ok {
			return nil, refuse(CodeMalformed, "no %s", a.name)
		}
		if *a.value <= 0 {
			return nil, refuse(CodeMalformed, "%s is %d", a.name, *a.value)
		}
	}
	p.HighBit = p.BitsStored - 1 // as it is in nearly all files; some leave it out
	if v, ok := f.Int(tag.HighBit); ok {
		p.HighBit = v
	}
	representation, _ := f.Int(tag.PixelRepresentation)
	p.Signed = representation == 1
	planar, _ := f.Int(tag.PlanarConfiguration)
	p.Planar = planar == 1 && p.SamplesPerPixel > 1
	p.Photometric = strings.ToUpper(f.String(tag.PhotometricInterpretation))
	if len(f.Strings(tag.NumberOfFrames)) > 0 {
		p.Frames, _ = f.Int(tag.NumberOfFrames)
	}
	if err := p.check(f.lim); err != nil {
		return nil, err
	}
	if p.Photometric == "PALETTE COLOR" {
		var err error
		if p.Palette, err = f.palette(p.Signed); err != nil {
			return nil, err
		}
	}
	if lay.encapsulated {
		if err := p.encapsulated(lay); err != nil {
			return nil, err
		}
		return p, nil
	}
	if want := p.FrameBytes() * p.Frames; len(p.Data) < want {
		return nil, refuse(CodeTruncated, "%d bytes of pixels where %d frames of %d x %d need %d",
			len(p.Data), p.Frames, p.Rows, p.Columns, want)
	}
	return p, nil
}

// encapsulated fills in fragments and offset tables. A table that has not one entry per frame is of no use to anybody: it is
// refused where frames must be told apart.
func (p *Pixels) encapsulated(lay *layout) error {
	p.Fragments = lay.fragments
	if len(p.Fragments) == 0 {
		return refuse(CodeNoPixelData, "PixelData without a fragment")
	}
	if p.Frames == 1 {
		return nil // all fragments are the frame's
	}
	var err error
	switch {
	case len(lay.offsets) > 0:
		if p.Offsets, err = p.table("ExtendedOffsetTable", lay.offsets, 8); err == nil {
			p.Lengths, err = p.table("ExtendedOffsetTableLengths", lay.lengths, 8)
		}
	case len(lay.pixels) > 0:
		p.Offsets, err = p.table("the Basic Offset Table", lay.pixels, 4)
	}
	return err
}

// table reads a table of one little-endian number of size bytes per frame.
func (p *Pixels) table(name string, b []byte, size int) ([]uint64, error) {
	if len(b) != p.Frames*size {
		return nil, refuse(CodeMalformed, "%s has %d bytes where %d frames need %d", name, len(b), p.Frames, p.Frames*size)
	}
	entries := make([]uint64, p.Frames)
	for i := range entries {
		if size == 8 {
			entries[i] = binary.LittleEndian.Uint64(b[8*i:])
		} else {
			entries[i] = uint64(binary.LittleEndian.Uint32(b[4*i:]))
		}
	}
	return entries, nil
}

func (p *Pixels) check(lim Limits) error {
	switch {
	case p.Photometric == "":
		return refuse(CodeMalformed, "no PhotometricInterpretation")
	case p.Rows*p.Columns > lim.MaxPixels:
		return refuse(CodeTooLarge, "%d x %d pixels, the limit is %d", p.Rows, p.Columns, lim.MaxPixels)
	case p.Frames < 1:
		return refuse(CodeMalformed, "NumberOfFrames is no positive number")
	case p.Frames > lim.MaxFrames:
		return refuse(CodeTooLarge, "%d frames, the limit is %d", p.Frames, lim.MaxFrames)
	case p.SamplesPerPixel != 1 && p.SamplesPerPixel != 3:
		return refuse(CodeUnsupportedPixels, "%d samples per pixel", p.SamplesPerPixel)
	case p.BitsAllocated != 8 && p.BitsAllocated != 16 && p.BitsAllocated != 32 && p.BitsAllocated != 64:
		return refuse(CodeUnsupportedPixels, "%d bits allocated", p.BitsAllocated)
	case p.BitsStored > p.BitsAllocated:
		return refuse(CodeMalformed, "%d bits stored in %d allocated", p.BitsStored, p.BitsAllocated)
	case p.HighBit >= p.BitsAllocated || p.HighBit < p.BitsStored-1:
		return refuse(CodeMalformed, "HighBit is %d with %d bits stored in %d", p.HighBit, p.BitsStored, p.BitsAllocated)
	}
	return nil
}
