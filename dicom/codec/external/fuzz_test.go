package external

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
)

// What mvmae-codec reads: whatever it accepts is within the protocol's bounds, and is what the sender would have written.
func FuzzReadRequest(f *testing.F) {
	for _, syntax := range []string{dicom.JPEGLSLossless, dicom.JPEG2000, dicom.HTJ2KLossless} {
		r := Request{Syntax: syntax, Rows: 3000, Columns: 2500, Samples: 1, Bits: 16, Reduce: 2, Threads: 2, Seconds: 9, Data: make([]byte, 5)}
		var b bytes.Buffer
		if err := r.writeHeader(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(append(b.Bytes(), r.Data...))
		f.Add(b.Bytes()[:b.Len()-1])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, length, err := ReadRequest(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := r.check(); err != nil || length < 0 || length > maxStream {
			t.Fatalf("accepted: %d bytes, %v", length, err)
		}
		var b bytes.Buffer
		if err := r.writeHeader(&b); err != nil {
			t.Fatal(err)
		}
		const lengthBytes = 4 // of the code stream, which is not read yet
		if n := b.Len() - lengthBytes; !bytes.Equal(b.Bytes()[:n], data[:n]) {
			t.Fatalf("read %x, it would be written as %x", data[:n], b.Bytes()[:n])
		}
	})
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
		var b bytes.Buffer
		if err := m.Write(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), uint8(3), uint8(5), m.Samples == 3, m.Bits == 8, uint8(m.Reduced))
	}
	for _, e := range []dicom.Error{{Code: dicom.CodeMalformed, Detail: "no end\x00\xff"}, {Code: "cured", Detail: "not a decoder's word"}} {
		var b bytes.Buffer
		if err := WriteError(&b, &e); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), uint8(3), uint8(5), false, false, uint8(0))
	}
	codes := []dicom.Code{dicom.CodeMalformed, dicom.CodeUnsupportedSyntax, dicom.CodeUnsupportedPixels, dicom.CodeTooLarge, dicom.CodeTruncated,
		dicom.CodeDecoderFailed}
	f.Fuzz(func(t *testing.T, data []byte, rows, columns uint8, colour, bytewise bool, reduce uint8) {
		r := Request{Syntax: dicom.JPEG2000, Rows: 1 + int(rows), Columns: 1 + int(columns), Samples: 1, Bits: 16, Reduce: int(reduce % 32), Threads: 1, Seconds: 1}
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
		var b bytes.Buffer
		if err := m.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := readAnswer(&b, r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatalf("read, written and read again (-first +second)\n%s", diff)
		}
	})
}
