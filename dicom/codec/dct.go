package codec

import (
	"encoding/binary"
)

// zigzag is the place in a block of each coefficient in the order of the stream (T.81 figure A.6).
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// blockPad is more than a block can take: 64 coefficients of a code of 16 bits and 15 bits more.
const blockPad = 64 * 31 / 8

// dctScan decodes a scan of sequential DCT (T.81 annex F) into the components' planes and returns what follows it.
func (s *jpegStream) dctScan(sc jpegScan, src []byte) (rest []byte, err error) {
	for _, h := range sc.dc {
		for _, category := range h.values {
			if category > 15 {
				return nil, malformed("a difference of %d bits in a JPEG stream", category)
			}
		}
	}
	if err := s.makePlanes(src); err != nil {
		return nil, err
	}
	hMax, vMax := s.factors()
	across, down := ceilDiv(s.native.Columns, 8*hMax), ceilDiv(s.native.Rows, 8*vMax) // in MCUs
	one := len(sc.components) == 1
	if one { // not interleaved: an MCU is a block, and none lies wholly beside the image (A.2.2)
		c := s.components[sc.components[0]]
		across = ceilDiv(ceilDiv(s.native.Columns*int(c.h), hMax), 8)
		down = ceilDiv(ceilDiv(s.native.Rows*int(c.v), vMax), 8)
	}
	rest = s.entropy.unstuff(src, blockPad)
	var dc [3]int32 // of the block before
	var block dctBlock
	for mcu := range across * down {
		if s.restarts > 0 && mcu > 0 && mcu%s.restarts == 0 {
			if rest, err = s.entropy.restart(rest, mcu/s.restarts, blockPad); err != nil {
				return nil, err
			}
			dc = [3]int32{}
		}
		for i, place := range sc.components {
			c := &s.components[place]
			h, v := int(c.h), int(c.v)
			if one {
				h, v = 1, 1
			}
			for b := range h * v {
				ok := s.entropy.block(&block, sc.dc[i], sc.ac[i], s.quant[c.quant], &dc[i])
				switch {
				case s.entropy.overrun(ok):
					return nil, endOfStream("its scan")
				case !ok:
					return nil, malformed("a code that is in no Huffman table, or a coefficient past the 64th")
				}
				if c.plane != nil {
					s.store(c, &block, mcu%across*h+b%h, mcu/across*v+b/h)
				}
			}
		}
	}
	return rest, nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// factors are the largest sampling factors.
func (s *jpegStream) factors() (h, v int) {
	for _, c := range s.components {
		h, v = max(h, int(c.h)), max(v, int(c.v))
	}
	return h, v
}

// makePlanes makes room for the components that count, before the first scan: the luma alone where the stream has one, as
// colour is given up anyway.
func (s *jpegStream) makePlanes(src []byte) error {
	for _, c := range s.components {
		if s.quant[c.quant] == nil {
			return malformed("a JPEG scan without its quantisation table")
		}
		if c.plane != nil {
			return nil
		}
	}
	hMax, vMax := s.factors()
	across, down := ceilDiv(s.native.Columns, 8*hMax), ceilDiv(s.native.Rows, 8*vMax)
	if first := s.components[0]; len(src)*8 < 2*across*down*int(first.h*first.v) { // a block takes two bits at least
		return endOfStream("its scan")
	}
	for i := range s.components {
		c := &s.components[i]
		if i > 0 && s.luma() {
			break
		}
		if int(c.h) != hMax || int(c.v) != vMax {
			return refuse("a JPEG stream with subsampled luma or RGB")
		}
		c.stride, c.lines = across*hMax*8, down*vMax*8
		c.plane = make([]byte, c.stride*c.lines*s.native.BitsAllocated/8)
	}
	return nil
}

// luma says whether the first of three components is the luma. The stream knows best (JFIF is YCbCr; Adobe's segment
// says), else the header.
func (s *jpegStream) luma() bool {
	switch {
	case s.adobe >= 0:
		return s.adobe != 0
	case s.jfif:
		return true
	}
	return s.header.Photometric != "RGB"
}

// dctBlock is a block of coefficients, quantisation undone, row by row. last is the place in the stream's order of the last
// one that is not zero.
type dctBlock struct {
	values [64]int32
	last   int
}

// block decodes the next block (T.81 F.2.2). It says false for a code that no table has and for more than 64 coefficients.
func (e *entropy) block(out *dctBlock, dc, ac *huffman, quant *[64]int32, predicted *int32) bool {
	data, pos, buf, n := e.data, e.pos, e.buf, e.n
	*out = dctBlock{}
	table, k := dc, 0
	for k < 64 {
		buf |= binary.BigEndian.Uint64(data[pos:]) >> (n & 63)
		pos += int(63-n) >> 3
		n |= 56
		entry := table.fast[buf>>(64-lookBits)]
		length, symbol := uint(entry>>8), uint(entry&0xff)
		if length == 0 {
			var long byte
			if length, long = table.long(buf); length == 0 {
				e.pos, e.n = pos, n
				return false
			}
			symbol = uint(long)
		}
		run, size := int(symbol>>4), symbol&15
		bits := buf << (length & 63)
		v := int32(bits>>1>>((63-size)&63)) - int32(^bits>>63)<<size + int32(^bits>>63)
		buf <<= (length + size) & 63
		n -= length + size
		switch {
		case k == 0:
			*predicted += v
			out.values[0] = *predicted * quant[0]
			table, k = ac, 1
			continue
		case size == 0 && run < 15: // end of block
			e.pos, e.buf, e.n = pos, buf, n
			return true
		}
		if k += run; k > 63 {
			e.pos, e.n = pos, n
			return false
		}
		if size > 0 {
			out.values[zigzag[k]] = v * quant[k]
			out.last = k
		}
		k++
	}
	e.pos, e.buf, e.n = pos, buf, n
	return true
}

// store transforms a block and puts it at column x and row y of the component's blocks.
func (s *jpegStream) store(c *jpegComponent, block *dctBlock, x, y int) {
	var samples [64]int
	inverseDCT(block, s.precision, &samples)
	centre, largest := 1<<(s.precision-1), 1<<s.precision-1
	at := y*8*c.stride + x*8
	for row := range 8 {
		in := samples[row*8 : row*8+8]
		if s.precision == 8 {
			out := c.plane[at : at+8]
			for i := range out {
				out[i] = uint8(min(max(in[i]+centre, 0), largest))
			}
		} else {
			out := c.plane[2*at : 2*at+16]
			for i, v := range in {
				binary.LittleEndian.PutUint16(out[2*i:], uint16(min(max(v+centre, 0), largest)))
			}
		}
		at += c.stride
	}
}

// crop cuts a plane of whole blocks to the image, in place.
func (s *jpegStream) crop(c jpegComponent) []byte {
	if c.plane == nil {
		return nil
	}
	size := s.native.BitsAllocated / 8
	width := s.native.Columns * size
	for y := range s.native.Rows {
		copy(c.plane[y*width:(y+1)*width], c.plane[y*c.stride*size:])
	}
	return c.plane[:s.native.Rows*width]
}
