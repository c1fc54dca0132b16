// Package codectest encodes pixels for the tests of the packages that decode them: RLE and lossless JPEG, plainly and
// slowly, with every choice that an encoder has.
package codectest

import (
	"encoding/binary"
	"math/bits"
)

// RLE is the frame of PS3.5 annex G of samples, interleaved, of size bytes each.
func RLE(samples []uint16, components, size int) []byte {
	var segments [][]byte
	for c := range components {
		for b := size - 1; b >= 0; b-- {
			var plane []byte
			for i := c; i < len(samples); i += components {
				plane = append(plane, byte(samples[i]>>(8*b)))
			}
			segments = append(segments, packBits(plane))
		}
	}
	frame := make([]byte, 64)
	binary.LittleEndian.PutUint32(frame, uint32(len(segments)))
	for i, s := range segments {
		binary.LittleEndian.PutUint32(frame[4+4*i:], uint32(len(frame)))
		frame = append(frame, s...)
	}
	return frame
}

// packBits makes runs of three equal bytes and more, with a no-op now and then, and pads to an even length.
func packBits(b []byte) []byte {
	var out []byte
	same := func(b []byte) int {
		n := 1
		for n < min(len(b), 128) && b[n] == b[0] {
			n++
		}
		return n
	}
	for count := 0; len(b) > 0; count++ {
		if count%100 == 99 {
			out = append(out, 0x80)
		}
		n := same(b)
		if n > 2 {
			out = append(out, byte(1-n), b[0])
		} else {
			for n < min(len(b), 128) && same(b[n:]) < 3 {
				n++
			}
			out = append(out, byte(n-1))
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return append(out, make([]byte, len(out)%2)...)
}

// JPEG says how LosslessJPEG encodes.
type JPEG struct {
	Rows, Columns, Components int
	Precision                 int
	Predictor                 int  // 1 to 7
	Shift                     int  // the point transform: so many low bits are lost
	RestartLines              int  // lines between restart markers, or 0
	Apart                     bool // a scan for each component
}

// huffmanLengths are the lengths of the codes of the 17 categories: short ones, long ones, as a table is decoded in two ways.
var huffmanLengths = [17]int{3, 3, 3, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}

// LosslessJPEG is a JPEG stream of process 14 (ITU-T T.81 annex H) of samples, interleaved.
func LosslessJPEG(j JPEG, samples []uint16) []byte {
	out := []byte{0xff, 0xd8, 0xff, 0xc3, 0, byte(8 + 3*j.Components), byte(j.Precision)}
	out = binary.BigEndian.AppendUint16(out, uint16(j.Rows))
	out = binary.BigEndian.AppendUint16(out, uint16(j.Columns))
	out = append(out, byte(j.Components))
	for c := range j.Components {
		out = append(out, byte(c+1), 0x11, 0)
	}
	out = append(out, 0xff, 0xc4, 0, 2+17+17, 0)
	var codes [17]uint32
	var symbols []byte
	code := uint32(0)
	for length := 1; length <= 16; length++ {
		n := 0
		for category, l := range huffmanLengths {
			if l == length {
				codes[category] = code
				symbols = append(symbols, byte(category))
				code++
				n++
			}
		}
		out = append(out, byte(n))
		code <<= 1
	}
	out = append(out, symbols...)
	if j.RestartLines > 0 {
		out = append(out, 0xff, 0xdd, 0, 4)
		out = binary.BigEndian.AppendUint16(out, uint16(j.RestartLines*j.Columns))
	}
	if !j.Apart {
		all := make([]int, j.Components)
		for c := range all {
			all[c] = c
		}
		return append(j.scan(out, codes, samples, all), 0xff, 0xd9)
	}
	for c := range j.Components {
		out = j.scan(out, codes, samples, []int{c})
	}
	return append(out, 0xff, 0xd9)
}

func (j JPEG) scan(out []byte, codes [17]uint32, samples []uint16, components []int) []byte {
	out = append(out, 0xff, 0xda, 0, byte(6+2*len(components)), byte(len(components)))
	for _, c := range components {
		out = append(out, byte(c+1), 0)
	}
	out = append(out, byte(j.Predictor), 0, byte(j.Shift))
	w := bitWriter{out: out}
	for y := range j.Rows {
		first := y == 0
		if j.RestartLines > 0 && y > 0 && y%j.RestartLines == 0 {
			w.flush()
			w.out = append(w.out, 0xff, 0xd0+byte(y/j.RestartLines-1)%8)
			first = true
		}
		for x := range j.Columns {
			for _, c := range components {
				at := func(dy, dx int) int { return int(samples[((y-dy)*j.Columns+x-dx)*j.Components+c] >> j.Shift) }
				d := int16(at(0, 0) - j.prediction(first, x == 0, at))
				category := 16
				if d != -32768 {
					category = bits.Len16(uint16(max(d, -d)))
				}
				w.write(codes[category], huffmanLengths[category])
				if category < 16 {
					if d < 0 {
						d--
					}
					w.write(uint32(d)&(1<<category-1), category)
				}
			}
		}
	}
	w.flush()
	return w.out
}

// prediction is T.81 table H.1 and what it says of edges.
func (j JPEG) prediction(firstLine, firstColumn bool, at func(dy, dx int) int) int {
	switch {
	case firstLine && firstColumn:
		return 1 << (j.Precision - j.Shift - 1)
	case firstLine:
		return at(0, 1)
	case firstColumn:
		return at(1, 0)
	}
	a, b, c := at(0, 1), at(1, 0), at(1, 1)
	return [8]int{0, a, b, c, a + b - c, a + (b-c)>>1, b + (a-c)>>1, (a + b) >> 1}[j.Predictor]
}

type bitWriter struct {
	out []byte
	buf uint64
	n   int
}

func (w *bitWriter) write(v uint32, n int) {
	w.buf, w.n = w.buf<<n|uint64(v), w.n+n
	for ; w.n >= 8; w.n -= 8 {
		b := byte(w.buf >> (w.n - 8))
		if w.out = append(w.out, b); b == 0xff {
			w.out = append(w.out, 0)
		}
	}
}

// flush fills the last byte with ones.
func (w *bitWriter) flush() {
	if w.n > 0 {
		w.write(0xff>>w.n, 8-w.n)
	}
	w.buf, w.n = 0, 0
}
