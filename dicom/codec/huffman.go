package codec

import (
	"bytes"

	"github.com/mvmae/mvmae/dicom"
)

// lookBits is the length of the codes that one look at a table decodes: nearly all in practice, in 2 KiB.
const lookBits = 10

// huffman decodes the codes of one table (ITU-T T.81 annexes C and F.2.2.3).
type huffman struct {
	fast   [1 << lookBits]uint16 // by the next bits: length << 8 | symbol; 0 for a longer code or none
	limit  [17]int32             // by length: the first code that is too large for it, aligned to 16 bits
	offset [17]int32             // by length: the place of its code 0 in values, if it were used
	values []byte
}

// newHuffman makes the table of a DHT segment and returns what follows it there.
func newHuffman(b []byte) (h *huffman, rest []byte, err error) {
	if len(b) < 16 {
		return nil, nil, malformed("a Huffman table of %d bytes", len(b))
	}
	counts, b := b[:16], b[16:]
	h = &huffman{}
	code, n := int32(0), 0
	for i, count := range counts {
		length := i + 1
		h.offset[length] = int32(n) - code
		n += int(count)
		first := code
		if code += int32(count); code > 1<<length || n > 256 || n > len(b) {
			return nil, nil, malformed("a Huffman table with more codes of %d bits than there can be", length)
		}
		h.limit[length] = code << (16 - length)
		for c := first; c < code && length <= lookBits; c++ {
			entry := uint16(length)<<8 | uint16(b[h.offset[length]+c])
			at := c << (lookBits - length)
			for j := range int32(1) << (lookBits - length) {
				h.fast[at+j] = entry
			}
		}
		code <<= 1
	}
	h.values = b[:n]
	return h, b[n:], nil
}

// long decodes a code that fast does not have: the next 64 bits are given. The length is 0 if there is no such code.
func (h *huffman) long(bits uint64) (length uint, symbol byte) {
	next := int32(bits >> 48)
	for length := lookBits + 1; length <= 16; length++ {
		if next < h.limit[length] {
			return uint(length), h.values[h.offset[length]+next>>(16-length)]
		}
	}
	return 0, 0
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
