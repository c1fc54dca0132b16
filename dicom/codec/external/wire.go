package external

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/mvmae/mvmae/dicom"
)

// Request is one frame to decode, with what the DICOM header says of it: the process holds the code stream to that before
// it allocates a pixel.
type Request struct {
	Syntax        string // transfer syntax UID
	Rows, Columns int
	Samples       int // per pixel
	Bits          int // allocated: 8 or 16
	// Reduce asks for 1/2^Reduce of the resolution, where the code stream has that many levels. JPEG 2000 only.
	Reduce int
	Data   []byte // the code stream
}

// Image is the decoded frame.
type Image struct {
	Rows, Columns int
	Samples       int
	Bits          int  // of precision, as the code stream says
	Signed        bool // as the code stream says
	Reduced       int  // resolution levels left out: 0 to Request.Reduce
	Irreversible  bool // by the 9/7 transform
	// Data holds the samples by pixel: a byte each up to 8 bits, else a little-endian word. [Rows*Columns*Samples]
	Data []byte
}

// The bounds of the wire: what exceeds them is no message. The pixels' own limit is that of the request.
const (
	maxSide = 1 << 16
	maxText = 400
)

var magic = [4]byte{'M', 'V', 'C', '3'}

// requestHeader goes before the code stream, answerHeader before pixels or the text of an error: little-endian.
// cmd/mvmae-codec/main.c is the other side.
type requestHeader struct {
	Magic                          [4]byte
	Library                        byte // the first letter of the standard: JPEG-LS or JPEG 2000
	Samples, Bits, Reduce          uint8
	Rows, Columns                  uint32
	Threads, MebiBytes, Seconds, _ uint32
	Length                         uint32
}

type answerHeader struct {
	Magic                  [4]byte
	Code                   [32]byte // dicom.Code, padded with zeros; all zeros for an image
	Rows, Columns          uint32
	Samples, Bits, Reduced uint8
	Is                     uint8 // signed, irreversible: bits
	Length                 uint32
}

// What an image is.
const (
	isSigned = 1 << iota
	isIrreversible
)

// header is what goes before the code stream.
func (r Request) header(l limits) requestHeader {
	library := byte('J')
	if LibraryFor(r.Syntax) == CharLS {
		library = 'L'
	}
	return requestHeader{Magic: magic, Library: library, Samples: uint8(r.Samples), Bits: uint8(r.Bits), Reduce: uint8(r.Reduce), Rows: uint32(r.Rows),
		Columns: uint32(r.Columns), Threads: uint32(l.threads), MebiBytes: uint32(l.mebiBytes), Seconds: uint32(l.seconds), Length: uint32(len(r.Data))}
}

// check refuses what no process could decode.
func (r Request) check(maxSamples int) error {
	if LibraryFor(r.Syntax) == "" {
		return dicom.UnsupportedSyntax(r.Syntax)
	}
	ok := r.Rows > 0 && r.Rows <= maxSide && r.Columns > 0 && r.Columns <= maxSide && (r.Samples == 1 || r.Samples == 3) &&
		(r.Bits == 8 || r.Bits == 16) && r.Reduce >= 0 && r.Reduce < 32
	if !ok {
		return &dicom.Error{Code: dicom.CodeUnsupportedPixels, Detail: fmt.Sprintf("no such image: %d x %d, %d samples of %d bits",
			r.Rows, r.Columns, r.Samples, r.Bits)}
	}
	if n := r.Rows * r.Columns * r.Samples; n > maxSamples {
		return &dicom.Error{Code: dicom.CodeTooLarge, Detail: fmt.Sprintf("%d samples, the limit is %d", n, maxSamples)}
	}
	return nil
}

// readAnswer receives the answer to a request. The sender is not trusted: an answer that does not fit the request is an
// error, and no more is allocated than its image may take. A refusal is a *dicom.Error.
func readAnswer(from io.Reader, r Request) (*Image, error) {
	var h answerHeader
	if err := binary.Read(from, binary.LittleEndian, &h); err != nil {
		return nil, err
	}
	if h.Magic != magic {
		return nil, fmt.Errorf("no answer of this protocol")
	}
	if code := string(bytes.TrimRight(h.Code[:], "\x00")); code != "" {
		text := make([]byte, min(h.Length, maxText))
		if _, err := io.ReadFull(from, text); err != nil {
			return nil, err
		}
		return nil, &dicom.Error{Code: known(code), Detail: printable(text)}
	}
	m := &Image{Rows: int(h.Rows), Columns: int(h.Columns), Samples: int(h.Samples), Bits: int(h.Bits), Reduced: int(h.Reduced),
		Signed: h.Is&isSigned != 0, Irreversible: h.Is&isIrreversible != 0}
	width := 1
	if m.Bits > 8 {
		width = 2
	}
	if m.Reduced > r.Reduce || m.Rows != reduced(r.Rows, m.Reduced) || m.Columns != reduced(r.Columns, m.Reduced) ||
		m.Samples != r.Samples || m.Bits < 1 || m.Bits > r.Bits || int(h.Length) != m.Rows*m.Columns*m.Samples*width {
		return nil, fmt.Errorf("an answer of %d x %d pixels that was not asked for", h.Rows, h.Columns)
	}
	m.Data = make([]byte, h.Length)
	if _, err := io.ReadFull(from, m.Data); err != nil {
		return nil, err
	}
	return m, nil
}

// reduced is a side of n pixels with levels of resolution left out (T.800 B-15, for an image at the origin).
func reduced(n, levels int) int { return (n + 1<<levels - 1) >> levels }

// known is the code if the process may give it: a process does not invent codes.
func known(code string) dicom.Code {
	switch c := dicom.Code(code); c {
	case dicom.CodeMalformed, dicom.CodeUnsupportedSyntax, dicom.CodeUnsupportedPixels, dicom.CodeTooLarge, dicom.CodeTruncated:
		return c
	}
	return dicom.CodeDecoderFailed
}

// printable is text from another process, fit for a log.
func printable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == utf8.RuneError {
			return '?'
		}
		return r
	}, string(text))
}
