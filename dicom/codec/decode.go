package codec

import (
	"github.com/mvmae/mvmae/dicom"
)

// Decoder decodes the code stream of frame 0, as [Frame] put it together, of the image that p describes. It must
//
//   - call [Samples] with what the code stream says of its size, before it allocates or decodes anything: it refuses what
//     disagrees with p, and returns the description of the native pixels to fill in;
//   - refuse a stream that ends early as truncated: pixels are never guessed;
//   - fill in Data, little endian, of that description and return [Native] of it, or make a plane with [Gray8] or [Gray16];
//   - give errors of type *dicom.Error and keep no reference to frame.
//
// It may leave out up to reduce levels of resolution, where the code stream has them; Plane.Reduced says how many.
// It is called from several goroutines at once.
type Decoder func(frame []byte, p *dicom.Pixels, reduce int) (*Plane, error)

// Decoders are decoders from outside this package, by transfer syntax UID. They come before this package's own. The zero
// value, nil, is ready to use: what this package decodes itself.
type Decoders map[string]Decoder

// Decode returns frame 0 as a plane. Its errors are of type *dicom.Error.
func Decode(p *dicom.Pixels) (*Plane, error) { return Decoders(nil).Decode(p) }

// Decode returns frame 0 as a plane. A transfer syntax that nothing decodes is refused by name.
func (d Decoders) Decode(p *dicom.Pixels) (*Plane, error) { return d.DecodeReduced(p, 0) }

// DecodeReduced is Decode for whoever shrinks the image anyway: a decoder that can do so cheaply leaves out up to reduce
// levels of resolution, each of which halves the sides.
func (d Decoders) DecodeReduced(p *dicom.Pixels, reduce int) (*Plane, error) {
	if !p.Encapsulated() {
		return Native(p)
	}
	outside, ours := d[p.TransferSyntaxUID], own(p.TransferSyntaxUID)
	if outside == nil && ours == nil {
		return nil, dicom.UnsupportedSyntax(p.TransferSyntaxUID)
	}
	frame, err := Frame(p)
	if err != nil {
		return nil, err
	}
	if outside != nil {
		return outside(frame, p, reduce)
	}
	return ours(frame, p)
}

// own is the table of this package's decoders.
func own(transferSyntaxUID string) func([]byte, *dicom.Pixels) (*Plane, error) {
	switch transferSyntaxUID {
	case dicom.RLELossless:
		return decodeRLE
	case dicom.JPEGBaseline, dicom.JPEGExtended, dicom.JPEGLossless, dicom.JPEGLosslessSV1:
		return decodeJPEG
	}
	return nil
}

// Samples checks the size of a code stream, with its components and the bits of a sample (JPEG's precision), against the
// header's. It returns the description of one frame of native pixels, interleaved, that the decoder is to fill with samples
// as they come from the code stream: a byte each if precision is at most 8, else two.
//
// Precision is BitsStored as a rule. Some encoders (DCMTK's lossless ones) code whole words, with what lies around the
// stored bits; then HighBit counts. Samples of fewer bits than the header says are not the image that it describes.
func Samples(p *dicom.Pixels, rows, columns, components, precision int) (*dicom.Pixels, error) {
	switch {
	case rows != p.Rows || columns != p.Columns:
		return nil, malformed("a code stream of %d x %d pixels where the header says %d x %d", rows, columns, p.Rows, p.Columns)
	case components != p.SamplesPerPixel:
		return nil, malformed("a code stream of %d components where the header says %d", components, p.SamplesPerPixel)
	case precision < p.BitsStored || precision > p.BitsAllocated:
		return nil, malformed("a code stream of %d bits where the header says %d in %d", precision, p.BitsStored, p.BitsAllocated)
	case precision > p.BitsStored && precision <= p.HighBit:
		return nil, malformed("a code stream of %d bits where the header says HighBit %d", precision, p.HighBit)
	}
	native := *p
	native.TransferSyntaxUID, native.Fragments, native.Offsets, native.Lengths = "", nil, nil, nil
	native.Frames, native.Planar, native.BigEndian, native.Words = 1, false, false, false
	if precision == p.BitsStored {
		native.HighBit = precision - 1
	}
	if native.Photometric == "YBR_FULL_422" { // where the stream subsamples, its decoder sees to it
		native.Photometric = "YBR_FULL"
	}
	native.BitsAllocated = 8
	if precision > 8 {
		native.BitsAllocated = 16
	}
	return &native, nil
}
