package codec

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/mvmae/mvmae/dicom"
)

// Frame returns the code stream of frame 0 of encapsulated pixels (PS3.5 A.4). A frame may be any number of fragments; it
// is copied only when it is more than one. What follows the code stream (padding to an even length) is left at its end.
//
// A single frame is all fragments. The first of several ends where the offset table says that the second starts. Without
// a table it is the first fragment when there are as many fragments as frames; else it ends before the next fragment that
// starts a code stream.
func Frame(p *dicom.Pixels) ([]byte, error) {
	if len(p.Fragments) == 0 {
		return nil, &dicom.Error{Code: dicom.CodeNoPixelData, Detail: "no fragments of pixels"}
	}
	first, n := 0, len(p.Fragments)
	var err error
	switch {
	case p.Frames == 1:
	case n < p.Frames:
		return nil, truncated("%d fragments of %d frames", n, p.Frames)
	case p.Offsets != nil:
		if first, err = fragmentAt(p, p.Offsets[0]); err != nil {
			return nil, err
		}
		if n, err = fragmentAt(p, p.Offsets[1]); err != nil {
			return nil, err
		}
		if n <= first {
			return nil, malformed("frame 1 starts at fragment %d, frame 0 at %d", n, first)
		}
	case n == p.Frames:
		n = 1
	default:
		n = 1 + slices.IndexFunc(p.Fragments[1:], startsCodeStream)
		if n == 0 || !startsCodeStream(p.Fragments[0]) {
			return nil, malformed("%d fragments of %d frames, and no offset table", len(p.Fragments), p.Frames)
		}
	}
	frame := p.Fragments[first]
	if n-first > 1 {
		frame = slices.Concat(p.Fragments[first:n]...)
	}
	if p.Lengths != nil {
		if p.Lengths[0] > uint64(len(frame)) {
			return nil, malformed("frame 0 of %d bytes in fragments of %d", p.Lengths[0], len(frame))
		}
		frame = frame[:p.Lengths[0]]
	}
	return frame, nil
}

// fragmentAt is the fragment whose item starts at an offset.
func fragmentAt(p *dicom.Pixels, offset uint64) (int, error) {
	var at uint64
	for i, f := range p.Fragments {
		if at == offset {
			return i, nil
		}
		at += 8 + uint64(len(f))
	}
	return 0, malformed("the offset table points at byte %d, where no fragment starts", offset)
}

// startsCodeStream tells the beginning of a JPEG, JPEG-LS or JPEG 2000 stream (SOI; SOC and SIZ; the box of a JP2 file) from
// a continuation: coded data never holds these marker codes.
func startsCodeStream(fragment []byte) bool {
	for _, magic := range []string{"\xff\xd8\xff", "\xff\x4f\xff\x51", "\x00\x00\x00\x0cjP  \r\n\x87\n"} {
		if bytes.HasPrefix(fragment, []byte(magic)) {
			return true
		}
	}
	return false
}

func malformed(format string, args ...any) error {
	return &dicom.Error{Code: dicom.CodeMalformed, Detail: fmt.Sprintf(format, args...)}
}

func truncated(format string, args ...any) error {
	return &dicom.Error{Code: dicom.CodeTruncated, Detail: fmt.Sprintf(format, args...)}
}
