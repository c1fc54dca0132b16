package codec

import (
	"encoding/binary"

	"github.com/mvmae/mvmae/dicom"
)

// decodeRLE is a Decoder of PS3.5 annex G: PackBits of each byte of each sample apart, the most significant byte first.
func decodeRLE(frame []byte, p *dicom.Pixels) (*Plane, error) {
	if err := supported(p); err != nil {
		return nil, err
	}
	native, err := Samples(p, p.Rows, p.Columns, p.SamplesPerPixel, p.BitsAllocated)
	if err != nil {
		return nil, err
	}
	native.Planar = native.SamplesPerPixel > 1 // here, whatever the header says of the decoded image
	segments, err := rleSegments(frame, p.SamplesPerPixel*p.BitsAllocated/8)
	if err != nil {
		return nil, err
	}
	pixels, step := p.Rows*p.Columns, p.BitsAllocated/8
	for i, segment := range segments { // two bytes make at most 128
		if len(segment)*64 < pixels {
			return nil, truncated("RLE segment %d of %d bytes for %d pixels", i, len(segment), pixels)
		}
	}
	native.Data = make([]byte, native.FrameBytes())
	for i, segment := range segments {
		sample, low := i/step, step-1-i%step // low: where the segment's byte is in a little-endian word
		if err := unpackBits(native.Data[sample*pixels*step+low:(sample+1)*pixels*step], step, segment); err != nil {
			return nil, err
		}
	}
	return Native(native)
}

// rleSegments cuts a frame at the offsets of its header: 16 numbers of 32 bits, the count of segments first.
func rleSegments(frame []byte, want int) ([][]byte, error) {
	const header = 64
	if len(frame) < header {
		return nil, truncated("an RLE frame of %d bytes", len(frame))
	}
	if n := binary.LittleEndian.Uint32(frame); n != uint32(want) {
		return nil, malformed("%d RLE segments where the header says %d bytes per pixel", n, want)
	}
	segments := make([][]byte, want)
	for i := range segments {
		start, end := binary.LittleEndian.Uint32(frame[4+4*i:]), uint32(len(frame))
		if i+1 < want {
			end = binary.LittleEndian.Uint32(frame[8+4*i:])
		}
		switch {
		case start < header || start > end:
			return nil, malformed("RLE segment %d from byte %d to %d", i, start, end)
		case uint64(end) > uint64(len(frame)):
			return nil, truncated("RLE segment %d ends at byte %d of %d", i, end, len(frame))
		}
		segments[i] = frame[start:end]
	}
	return segments, nil
}

// unpackBits decodes a segment into every step-th byte of out. Bytes after the last pixel are padding.
func unpackBits(out []byte, step int, segment []byte) error {
	for len(out) > 0 {
		if len(segment) < 2 {
			return truncated("an RLE segment ends %d bytes early", ceilDiv(len(out), step))
		}
		n := int(int8(segment[0]))
		if n == -128 {
			segment = segment[1:]
			continue
		}
		literal := n >= 0
		n = max(n, -n) + 1
		span := (n-1)*step + 1 // of out, which ends with its last pixel
		switch {
		case span > len(out):
			return malformed("an RLE run of %d past the end of the image", n)
		case literal && n >= len(segment):
			return truncated("an RLE segment ends in a run of %d", n)
		}
		dst := out[:span]
		if literal {
			src := segment[1 : 1+n]
			segment = segment[1+n:]
			if step == 1 {
				copy(dst, src)
			} else {
				for i, v := range src {
					dst[2*i] = v
				}
			}
		} else {
			v := segment[1]
			segment = segment[2:]
			for i := 0; i < len(dst); i += step {
				dst[i] = v
			}
		}
		out = out[min(span+step-1, len(out)):]
	}
	return nil
}

// EncodeRLE is a frame of RLE Lossless (PS3.5 annex G) of samples of 16 bits, one component, row-major. Rows are encoded apart, as
// G.3.1 asks.
func EncodeRLE(samples []uint16, columns int) []byte {
	frame := make([]byte, 64)
	binary.LittleEndian.PutUint32(frame, 2)
	row := make([]byte, columns)
	for segment, shift := range []int{8, 0} {
		binary.LittleEndian.PutUint32(frame[4+4*segment:], uint32(len(frame)))
		for line := samples; len(line) > 0; line = line[columns:] {
			for i := range row {
				row[i] = byte(line[i] >> shift)
			}
			frame = packBits(frame, row)
		}
		frame = append(frame, make([]byte, len(frame)%2)...)
	}
	return frame
}

// packBits appends a row in runs of three equal bytes and more, and literals between them.
func packBits(out, row []byte) []byte {
	const most = 128
	for literal := 0; len(row) > 0; {
		n := literal + 1
		for n < len(row) && n-literal < most && row[n] == row[literal] {
			n++
		}
		switch run := n-literal > 2; {
		case run && literal == 0:
			out = append(out, byte(1-n), row[0])
			row = row[n:]
		case run || literal+1 == most || literal+1 == len(row): // the literals end here
			if !run {
				literal++
			}
			out = append(append(out, byte(literal-1)), row[:literal]...)
			row, literal = row[literal:], 0
		default:
			literal++
		}
	}
	return out
}
