package codec

import (
	"encoding/binary"
	"slices"
)

// losslessScan decodes a scan of T.81 annex H into native.Data, interleaved there whatever the scan holds, and returns what
// follows it.
func (s *jpegStream) losslessScan(sc jpegScan, src []byte) (rest []byte, err error) {
	if err := s.checkLossless(sc, src); err != nil {
		return nil, err
	}
	rows, columns := s.native.Rows, s.native.Columns
	n := len(sc.components)
	width := n * columns
	if s.native.Data == nil {
		s.native.Data = make([]byte, s.native.FrameBytes())
	}
	for _, h := range sc.dc {
		h.fill(0)
	}
	pad := 4 * width // a code and a difference of 16 bits each
	above, line := make([]uint16, width), make([]uint16, width)
	start := slices.Repeat([]uint16{1 << (s.precision - sc.shift - 1)}, n)
	rest = s.entropy.unstuff(src, pad)
	linesPerInterval := s.restarts / columns
	for y := range rows {
		first := y == 0
		if linesPerInterval > 0 && y > 0 && y%linesPerInterval == 0 {
			if rest, err = s.entropy.restart(rest, y/linesPerInterval, pad); err != nil {
				return nil, err
			}
			first = true
		}
		ok := s.entropy.differences(sc.dc, line)
		switch {
		case s.entropy.overrun(ok):
			return nil, endOfStream("its scan")
		case !ok:
			return nil, malformed("a code that is in no Huffman table")
		}
		switch {
		case first:
			accumulate(start, line)
		case sc.predictor == 1: // by far the most frequent
			accumulate(above[:n], line)
		default:
			predict(sc.predictor, n, above, line)
		}
		s.storeLine(sc, y, line)
		above, line = line, above
	}
	return rest, nil
}

// checkLossless refuses a scan that cannot be decoded, before anything is allocated for it.
func (s *jpegStream) checkLossless(sc jpegScan, src []byte) error {
	rows, columns := s.native.Rows, s.native.Columns
	width := len(sc.components) * columns
	switch {
	case sc.predictor < 1 || sc.predictor > 7 || sc.shift >= s.precision:
		return malformed("a lossless JPEG scan with predictor %d and point transform %d", sc.predictor, sc.shift)
	case s.precision < 2 || s.precision > 16:
		return malformed("a lossless JPEG stream of %d bits", s.precision)
	case s.restarts%columns != 0: // H.1.2.1
		return malformed("%d MCUs between restart markers where a line has %d", s.restarts, columns)
	case len(src)*8 < rows*width: // a sample takes a bit at least
		return endOfStream("its scan")
	}
	for _, c := range s.components {
		if c.h != 1 || c.v != 1 {
			return refuse("a lossless JPEG stream with subsampled components")
		}
	}
	for _, h := range sc.dc {
		for _, category := range h.values {
			if category > 16 {
				return malformed("a difference of %d bits in a lossless JPEG stream", category)
			}
		}
	}
	return nil
}

// differences decodes a line of differences modulo 2^16 (T.81 H.1.2.2), one of each component in turn. It says false for a
// code that no table has.
func (e *entropy) differences(tables []*huffman, line []uint16) bool {
	data, pos, buf, n := e.data, e.pos, e.buf, e.n
	table, next := tables[0], 0
	for i := range line {
		buf |= binary.BigEndian.Uint64(data[pos:]) >> (n & 63)
		pos += int(63-n) >> 3
		n |= 56
		code := table.fast[buf>>(64-lookBits)]
		taken, difference := code.taken(), code.value()
		if taken == 0 {
			if code = table.find(code, buf); code == 0 {
				e.pos, e.n = pos, n
				return false
			}
			taken, difference = code.taken(), code.value()
		} else { // as in find
			size := uint(difference & 15)
			difference = extend(buf<<((taken-size)&63), size) + difference>>4<<15
		}
		line[i] = uint16(difference)
		buf <<= taken & 63
		n -= taken
		if len(tables) > 1 {
			if next++; next == len(tables) {
				next = 0
			}
			table = tables[next]
		}
	}
	e.pos, e.buf, e.n = pos, buf, n
	return true
}

// predict adds the prediction of T.81 table H.1 to a line of differences of n components; the first pixel's is the one
// above. It never sees a scan's first line.
func predict(predictor, n int, above, line []uint16) {
	above = above[:len(line)]
	for component := range n {
		line[component] += above[component]
		left, corner := int32(line[component]), int32(above[component])
		for i := component + n; i < len(line); i += n {
			up := int32(above[i])
			p := left
			switch predictor {
			case 2:
				p = up
			case 3:
				p = corner
			case 4:
				p = left + up - corner
			case 5:
				p = left + (up-corner)>>1
			case 6:
				p = up + (left-corner)>>1
			case 7:
				p = (left + up) >> 1
			}
			line[i] += uint16(p)
			left, corner = int32(line[i]), up
		}
	}
}

// accumulate is what predictor 1 does, and all of them do on a scan's first line: the prediction is the pixel before, that
// of the first pixel the given one.
func accumulate(first []uint16, line []uint16) {
	for component, v := range first {
		for i := component; i < len(line); i += len(first) {
			v += line[i]
			line[i] = v
		}
	}
}

// storeLine writes the samples of a line where they belong.
func (s *jpegStream) storeLine(sc jpegScan, y int, line []uint16) {
	all, n := len(s.components), len(sc.components)
	wide := s.native.BitsAllocated == 16
	size := len(s.native.Data) / s.native.Rows
	out := s.native.Data[y*size : (y+1)*size]
	switch {
	case n == all && wide:
		shift := sc.shift & 15
		for i, v := range line {
			binary.LittleEndian.PutUint16(out[2*i:2*i+2], v<<shift)
		}
	case n == all:
		for i, v := range line {
			out[i] = byte(v << sc.shift)
		}
	default: // some components, to be interleaved with those of other scans
		for i, v := range line {
			at := i/n*all + sc.components[i%n]
			if wide {
				binary.LittleEndian.PutUint16(out[2*at:], v<<sc.shift)
			} else {
				out[at] = byte(v << sc.shift)
			}
		}
	}
}
