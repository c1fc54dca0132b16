package external

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
)

// answer is what a process sends.
func answer(h answerHeader, body string) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		panic(err)
	}
	return append(b, body...)
}

func pad(s string) (b [32]byte) {
	copy(b[:], s)
	return b
}

func (m *Image) answer() []byte {
	h := answerHeader{Magic: magic, Rows: uint32(m.Rows), Columns: uint32(m.Columns), Samples: uint8(m.Samples), Bits: uint8(m.Bits),
		Reduced: uint8(m.Reduced), Length: uint32(len(m.Data))}
	if m.Signed {
		h.Is |= isSigned
	}
	if m.Irreversible {
		h.Is |= isIrreversible
	}
	return answer(h, string(m.Data))
}

// What the pool reads from a process that a hostile image may have taken over: an image of the size that was asked for, or a
// refusal with a code that a decoder may give and a text fit for a log.
func FuzzReadAnswer(f *testing.F) {
	for _, m := range []Image{
		{Rows: 3, Columns: 5, Samples: 1, Bits: 12, Signed: true},
		{Rows: 2, Columns: 3, Samples: 1, Bits: 16, Reduced: 1, Irreversible: true},
		{Rows: 3, Columns: 5, Samples: 3, Bits: 8},
	} {
		m.Data = bytes.Repeat([]byte{7}, m.Rows*m.Columns*m.Samples*((m.Bits+7)/8))
		f.Add(m.answer(), uint8(3), uint8(5), m.Samples == 3, m.Bits == 8, uint8(m.Reduced))
	}
	for _, e := range []dicom.Error{{Code: dicom.CodeMalformed, Detail: "no end\x00\xff"}, {Code: "cured", Detail: "not a decoder's word"}} {
		f.Add(answer(answerHeader{Magic: magic, Code: pad(string(e.Code)), Length: uint32(len(e.Detail))}, e.Detail), uint8(3), uint8(5), false, false, uint8(0))
	}
	codes := []dicom.Code{dicom.CodeMalformed, dicom.CodeUnsupportedSyntax, dicom.CodeUnsupportedPixels, dicom.CodeTooLarge, dicom.CodeTruncated,
		dicom.CodeDecoderFailed}
	f.Fuzz(func(t *testing.T, data []byte, rows, columns uint8, colour, bytewise bool, reduce uint8) {
		r := Request{Syntax: dicom.JPEG2000, Rows: 1 + int(rows), Columns: 1 + int(columns), Samples: 1, Bits: 16, Reduce: int(reduce % 32)}
		if rows > 0 && columns > 0 {
			r.Rows, r.Columns = int(rows), int(columns)
		}
		if colour {
			r.Samples = 3
		}
		if bytewise {
			r.Bits = 8
		}
		m, err := readAnswer(bytes.NewReader(data), r)
		var refusal *dicom.Error
		if errors.As(err, &refusal) {
			if !slices.Contains(codes, refusal.Code) || len(refusal.Detail) > maxText || refusal.Detail != printable([]byte(refusal.Detail)) {
				t.Fatalf("refused with code %q, %q", refusal.Code, refusal.Detail)
			}
			return
		}
		if err != nil {
			return
		}
		if m.Reduced > r.Reduce || m.Rows != reduced(r.Rows, m.Reduced) || m.Columns != reduced(r.Columns, m.Reduced) || m.Samples != r.Samples ||
			m.Bits > r.Bits || len(m.Data) != m.Rows*m.Columns*m.Samples*((m.Bits+7)/8) {
			t.Fatalf("an image of %d x %d, %d samples of %d bits in %d bytes for the request %+v", m.Rows, m.Columns, m.Samples, m.Bits, len(m.Data), r)
		}
		again, err := readAnswer(bytes.NewReader(m.answer()), r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatalf("read, written and read again (-first +second)\n%s", diff)
		}
	})
}

// The C decoders themselves, in the process they always have: whatever the bytes, the pool gives an image of the size that was
// asked for or a refusal. One seed for each transfer syntax and kind of image.
func FuzzDecode(f *testing.F) {
	for _, c := range []struct {
		file   string
		syntax string
		colour bool
	}{
		{"gray16.jls", dicom.JPEGLSLossless, false}, {"rgb8.jls", dicom.JPEGLSNearLossless, true}, {"gray16.j2k", dicom.JPEG2000Lossless, false},
		{"rgb8.j2k", dicom.JPEG2000, true}, {"gray16.jp2", dicom.JPEG2000, false}, {"gray16.jph", dicom.HTJ2KLossless, false},
		{"rgb8.jph", dicom.HTJ2KLosslessRPCL, true}, {"rgb8.jph", dicom.HTJ2K, true},
	} {
		for reduce := range uint8(2) {
			f.Add(seed(f, c.file, c.syntax, 1, 16).Data, LibraryFor(c.syntax) == CharLS, c.colour, reduce)
		}
	}
	p := pool(f, Options{Processes: 1})
	f.Fuzz(func(t *testing.T, data []byte, jpegls, colour bool, reduce uint8) {
		r := Request{Syntax: dicom.HTJ2K, Rows: 24, Columns: 20, Samples: 1, Bits: 16, Reduce: int(reduce % 4), Data: data}
		if jpegls {
			r.Syntax, r.Reduce = dicom.JPEGLSLossless, 0
		}
		if colour {
			r.Samples, r.Bits = 3, 8
		}
		m, err := p.Decode(t.Context(), r)
		if err != nil {
			if refused(err) == "" {
				t.Fatal(err)
			}
			return
		}
		if m.Reduced > r.Reduce || m.Rows != reduced(24, m.Reduced) || m.Columns != reduced(20, m.Reduced) || m.Samples != r.Samples ||
			len(m.Data) != m.Rows*m.Columns*m.Samples*((m.Bits+7)/8) {
			t.Fatalf("an image of %d x %d, %d samples of %d bits in %d bytes", m.Rows, m.Columns, m.Samples, m.Bits, len(m.Data))
		}
	})
}
