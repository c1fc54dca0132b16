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
	x, y := 0, 0
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
				switch {
				case c.plane == nil:
				case h == 1: // without a division
					s.store(c, &block, x, y*v+b)
				default:
					s.store(c, &block, x*h+b%h, y*v+b/h)
				}
			}
		}
		if x++; x == across {
			x, y = 0, y+1
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

// step is what a coefficient is multiplied by, and, in the lowest 8 bits, its place in the block.
type step uint32

// newStep is the i-th step of a quantisation table.
func newStep(quantum uint16, i int) step { return step(quantum)<<8 | step(zigzag[i]) }

func (s step) of(value int32) int32 { return value * int32(s>>8) }
func (s step) place() int           { return int(s & 63) }

// dctBlock is a block of coefficients, quantisation undone, row by row.
type dctBlock struct {
	values [64]int32
	last   uint   // no coefficient after this one, in the stream's order, is other than zero
	reach  uint64 // the sum of the coefficients without their signs
}

// block decodes the next block (T.81 F.2.2). It says false for a code that no table has and for more than 64 coefficients.
func (e *entropy) block(out *dctBlock, dc, ac *huffman, quant *[64]step, predicted *int32) bool {
	*out = dctBlock{}
	data, pos, buf, n := e.data, e.pos, e.buf, e.n
	table, reach, last, ok := dc, uint64(0), uint(0), true
	for k := uint(0); k < 64; k++ {
		buf |= binary.BigEndian.Uint64(data[pos:]) >> (n & 63)
		pos += int(63-n) >> 3
		n |= 56
		code := table.fast[buf>>(64-lookBits)]
		if code&open != 0 {
			if code = table.find(code, buf); code == 0 {
				ok = false
				break
			}
		}
		buf <<= code.taken() & 63
		n -= code.taken()
		v := code.value()
		if k == 0 {
			*predicted += v
			v, table = *predicted, ac
		}
		if k += code.step(); k > 63 {
			ok = code.step() == beyond
			break
		}
		v = quant[k].of(v)
		out.values[quant[k].place()] = v
		reach += uint64(max(v, -v))
		last = k
	}
	e.pos, e.buf, e.n = pos, buf, n
	out.last, out.reach = last, reach
	return ok
}

// store transforms a block and puts it at column x and row y of the component's blocks.
func (s *jpegStream) store(c *jpegComponent, block *dctBlock, x, y int) {
	at := y*8*c.stride + x*8
	if s.precision == 8 && block.reach < farthest {
		inverseDCT8(block, c.plane[at:], c.stride)
		return
	}
	var samples [64]int
	inverseDCT(block, s.precision, &samples)
	middle, largest := 1<<(s.precision-1), 1<<s.precision-1
	for row := range 8 {
		for i, v := range samples[8*row : 8*row+8] {
			v = min(max(v+middle, 0), largest)
			if s.precision == 8 {
				c.plane[at+i] = uint8(v)
			} else {
				binary.LittleEndian.PutUint16(c.plane[2*(at+i):], uint16(v))
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
	if s.native.Columns == c.stride {
		return c.plane[:s.native.Rows*width]
	}
	for y := range s.native.Rows {
		copy(c.plane[y*width:(y+1)*width], c.plane[y*c.stride*size:])
	}
	return c.plane[:s.native.Rows*width]
}
