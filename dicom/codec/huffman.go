package codec

import (
	"bytes"

	"github.com/mvmae/mvmae/dicom"
)

// lookBits is how many bits one look at a table decodes: nearly all codes with the value after them, in 16 KiB.
const lookBits = 12

// huffman decodes the codes of one table, with the bits that follow each (ITU-T T.81 annexes C and F.2.2.3).
type huffman struct {
	fast   [1 << lookBits]entry // by the next bits
	ac     bool                 // symbols are of coefficients: a run of zeros and a size
	limit  [17]int32            // by length: the first code that is too large for it, aligned to 16 bits
	offset [17]int32            // by length: the place of its code 0 in values, if it were used
	values []byte
}

// entry is what the next bits mean, from the lowest bit on: how many of them are taken (8 bits), the step that a coefficient
// takes in its block (7 bits), whether the value is still to be found, and the value (16 bits).
type entry uint32

const (
	open   entry = 1 << 15 // value is the symbol, whose bits are still to be read; or taken is 0: the code is longer than lookBits
	beyond       = 64      // the step of a block's end
)

func newEntry(taken uint, step int, value int32) entry {
	return entry(taken) | entry(step)<<8 | entry(value)<<16
}

func (e entry) taken() uint  { return uint(e & 0xff) }
func (e entry) step() uint   { return uint(e >> 8 & 0x7f) }
func (e entry) value() int32 { return int32(e) >> 16 }

// newHuffman makes the table of a DHT segment, of coefficients or of differences, and returns what follows it there.
func newHuffman(b []byte, ac bool) (h *huffman, rest []byte, err error) {
	if len(b) < 16 {
		return nil, nil, malformed("a Huffman table of %d bytes", len(b))
	}
	counts, b := b[:16], b[16:]
	h = &huffman{ac: ac}
	code, n := int32(0), 0
	for i, count := range counts {
		length := i + 1
		h.offset[length] = int32(n) - code
		n += int(count)
		if code += int32(count); code > 1<<length || n > 256 || n > len(b) {
			return nil, nil, malformed("a Huffman table with more codes of %d bits than there can be", length)
		}
		h.limit[length] = code << (16 - length)
		code <<= 1
	}
	h.values = b[:n]
	h.fill(lookBits)
	return h, b[n:], nil
}

// fill makes the entries. Codes that take more bits than most with their values are left open. Of a lossless stream, whose
// differences are long, all are: no branch predictor knows which would fit.
func (h *huffman) fill(most uint) {
	for i := range h.fast {
		h.fast[i] = open
	}
	code := int32(0)
	for length := uint(1); length <= lookBits; length++ {
		for ; code < h.limit[length]>>(16-length); code++ {
			symbol := h.values[h.offset[length]+code]
			unknown := newEntry(length+uint(symbol&15), 0, int32(symbol)) | open
			all := h.fast[code<<(lookBits-length):][:1<<(lookBits-length)]
			for i := range all {
				all[i] = unknown
				if length+uint(symbol&15) <= most {
					all[i] = h.entry(length, symbol, uint64(i)<<(64-lookBits+length))
				}
			}
		}
		code <<= 1
	}
}

// find is the entry of a code with a long value, or of a long code, of which fast says no more than open: next are the next 64
// bits. It takes no bits if there is no such code.
func (h *huffman) find(fast entry, next uint64) entry {
	if taken, symbol := fast.taken(), byte(fast.value()); taken > 0 {
		length := taken - uint(symbol&15)
		return h.entry(length, symbol, next<<length)
	}
	code := int32(next >> 48)
	for length := uint(lookBits + 1); length <= 16; length++ {
		if code < h.limit[length] {
			return h.entry(length, h.values[h.offset[length]+code>>(16-length)], next<<length)
		}
	}
	return 0
}

// entry is what a symbol means with the bits after it, of which its lowest four bits are the number. A difference of category
// 16 has none, and is 32,768.
func (h *huffman) entry(length uint, symbol byte, after uint64) entry {
	size, run := uint(symbol&15), int(symbol>>4)
	value := extend(after, size)
	switch {
	case h.ac && size == 0 && run < 15:
		run = beyond
	case !h.ac:
		value, run = value+int32(run)<<15, 0
	}
	return newEntry(length+size, run, value)
}

// extend is the value of the next bits, size of them. A leading 0 says that it is negative (T.81 figure F.12).
func extend(next uint64, size uint) int32 {
	negative := int32(^next >> 63)
	return int32(next>>1>>((63-size)&63)) - negative<<(size&31) + negative
}

// entropy is one entropy-coded segment, without its stuffed bytes and with zero bytes after it, and a place in it: the top
// n bits of buf at least are the next ones, and data[pos:] follows them. Who reads keeps these in variables of his own and
// refills them so (at least 56 bits are there then):
//
//	buf |= binary.BigEndian.Uint64(data[pos:]) >> n
//	pos += int(63-n) >> 3
//	n |= 56
type entropy struct {
	data []byte
	size int // bytes of data that are not padding
	pos  int
	buf  uint64
	n    uint
}

// overrun says whether more bits were taken than there are, or, when a code was not found, whether it is cut off.
func (e *entropy) overrun(found bool) bool {
	taken := 8*e.pos - int(e.n)
	return taken > 8*e.size || !found && taken+16 > 8*e.size
}

// unstuff makes the next segment of src and returns what follows it: a marker, or nothing. pad is how many bytes may be read
// past the segment's end before anybody looks at overrun.
func (e *entropy) unstuff(src []byte, pad int) (rest []byte) {
	pad += 16 // a refill takes 8 bytes from up to 8 bytes on
	if e.data == nil {
		e.data = make([]byte, 0, len(src)+pad)
	}
	d := e.data[:0]
	for {
		i := bytes.IndexByte(src, 0xff)
		if i < 0 || i+1 == len(src) {
			d, src = append(d, src...), nil
			break
		}
		d = append(d, src[:i]...)
		next := src[i+1]
		if next != 0 && next != 0xff {
			src = src[i:]
			break
		}
		src = src[i+1:] // at the zero, or at the second of several 0xff, which fill
		if next == 0 {
			d, src = append(d, 0xff), src[1:]
		}
	}
	size := len(d)
	for range pad {
		d = append(d, 0)
	}
	*e = entropy{data: d, size: size}
	return src
}

// restart goes to the next segment of a scan: the marker before it is RST0 to RST7 in turn.
func (e *entropy) restart(src []byte, interval, pad int) (rest []byte, err error) {
	switch {
	case len(src) < 2:
		return nil, truncated("the JPEG stream ends before restart interval %d", interval)
	case src[1] != 0xd0+byte(interval-1)%8:
		return nil, malformed("marker %02X before restart interval %d", src[1], interval)
	}
	return e.unstuff(src[2:], pad), nil
}

// endOfStream is the refusal of entropy-coded data that gives out.
func endOfStream(what string) error {
	return &dicom.Error{Code: dicom.CodeTruncated, Detail: "the JPEG stream ends in " + what}
}
