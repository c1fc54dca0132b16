package external

import (
	"context"
	"errors"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// Decoders are the pool's decoders for package codec: JPEG-LS, JPEG 2000, HTJ2K. What ends ctx ends them. Those of a nil
// pool are none.
func (p *Pool) Decoders(ctx context.Context) codec.Decoders {
	if p == nil {
		return nil
	}
	decoders := codec.Decoders{}
	for syntax := range syntaxes {
		decoders[syntax] = func(frame []byte, px *dicom.Pixels, reduce int) (*codec.Plane, error) {
			return p.plane(ctx, frame, px, reduce)
		}
	}
	return decoders
}

// plane decodes a frame and describes its samples as native pixels.
func (p *Pool) plane(ctx context.Context, frame []byte, px *dicom.Pixels, reduce int) (*codec.Plane, error) {
	if px.BitsAllocated > 16 {
		return codec.Native(px) // which refuses it by name
	}
	m, err := p.Decode(ctx, Request{Syntax: px.TransferSyntaxUID, Rows: px.Rows, Columns: px.Columns, Samples: px.SamplesPerPixel,
		Bits: px.BitsAllocated, Reduce: reduce, Data: frame})
	if err != nil {
		var refusal *dicom.Error
		if !errors.As(err, &refusal) { // the caller gave up
			err = &dicom.Error{Code: dicom.CodeDecoderFailed, Detail: err.Error(), Err: err}
		}
		return nil, err
	}
	native, err := codec.Samples(px, px.Rows, px.Columns, m.Samples, m.Bits)
	if err != nil {
		return nil, err
	}
	native.Rows, native.Columns, native.Data = m.Rows, m.Columns, m.Data
	if LibraryFor(px.TransferSyntaxUID) == OpenJPEG {
		// The colour transform is undone (PS3.5 8.2.4). The header and the code stream should agree on the sign, too. Where they do
		// not, the words are what the header says, as pydicom and GDCM have it, and no average of such samples means anything.
		if m.Reduced > 0 && m.Signed != px.Signed {
			return p.plane(ctx, frame, px, 0)
		}
		switch px.Photometric {
		case "YBR_RCT", "YBR_ICT":
			native.Photometric = "RGB"
		}
	}
	if native.Photometric == "YBR_FULL_422" { // a code stream of whole components, as its header said
		native.Photometric = "YBR_FULL"
	}
	if m.Reduced > 0 {
		// Sharp edges overshoot in a low band. Where whole words were coded the stored bits would cut them off the wrong way.
		native.BitsStored, native.HighBit = m.Bits, m.Bits-1
	}
	plane, err := codec.Native(native)
	if err == nil && m.Reduced > 0 {
		plane.Reduced, plane.FullRows, plane.FullColumns, plane.Irreversible = m.Reduced, px.Rows, px.Columns, m.Irreversible
	}
	return plane, err
}
