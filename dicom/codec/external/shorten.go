package external

import (
	"bytes"
	"encoding/binary"
)

// The markers of a code stream that must be understood (T.800 table A.2, T.814 for CAP).
const (
	markSIZ, markCOD, markQCD, markCAP = 0xff51, 0xff52, 0xff5c, 0xff50
	markSOT, markSOD, markEOC          = 0xff90, 0xff93, 0xffd9
	// What may be left out: comments, and lengths that are no longer true.
	markCOM, markCRG, markTLM, markPLM, markPLT = 0xff64, 0xff63, 0xff55, 0xff57, 0xff58
)

// Packets are ordered by one of these (T.800 table A.16).
const (
	layersFirst      = 0 // layer, resolution, component, position
	resolutionsFirst = 1 // resolution, layer, component, position
	positionsSecond  = 2 // resolution, position, component, layer
)

// What keeps the headers of packets short beside their data: layers of quality, samples of a code block (as coded: the two
// exponents less 2 each) and sides of a precinct (exponents).
const mostLayers, leastBlock, leastPrecinct = 64, 4, 5

// shorten makes the request for the image without its finest levels of resolution, as many as it may lack: a JPEG 2000 code
// stream whose packets come in the order of resolution begins with those of the smaller image, and needs only be told that it
// is that image. The rest need not be copied or read. left is 0 where that is not so: several tiles or parts of them, layers
// of quality first, headers apart from their packets, a stream without its end, JP2.
//
// How long the packets are nobody knows who has not decoded their headers, so what is taken of them is more than they can be: 24 bits
// for each sample of 16 (a coefficient has at most 20 bit planes with its sign, and the coder spends no more than a bit on
// each) and room for headers. Should a code stream need more all the same, the decoder misses the end of its data and refuses it,
// unless the cut is in the header of a packet, which reads as an empty one.
func shorten(r Request) (short Request, left int) {
	return shortenTo(r, func(own int) int { return 1<<14 + own/2*3 })
}

// shortenTo is shorten with room for so many bytes of packets, by the size of the small image.
func shortenTo(r Request, room func(own int) int) (short Request, left int) {
	if LibraryFor(r.Syntax) != OpenJPEG || r.Reduce == 0 || !bytes.HasPrefix(r.Data, []byte{0xff, 0x4f}) {
		return r, 0
	}
	s := shortener{rest: r.Data[2:], out: append(make([]byte, 0, 1<<10), 0xff, 0x4f), reduce: r.Reduce}
	packets, ok := s.mainHeader()
	if !ok {
		return r, 0
	}
	left = s.reduce
	short = r
	short.Rows, short.Columns, short.Reduce = reduced(r.Rows, left), reduced(r.Columns, left), 0
	width := (r.Bits + 7) / 8
	if most := room(short.Rows * short.Columns * r.Samples * width); most < len(packets) {
		packets = packets[:most]
	}
	short.Data = make([]byte, 0, len(s.out)+len(packets)+16)
	short.Data = append(short.Data, s.out...)
	short.Data = binary.BigEndian.AppendUint16(short.Data, markSOT)
	short.Data = append(short.Data, 0, 10, 0, 0)
	short.Data = binary.BigEndian.AppendUint32(short.Data, uint32(12+2+len(packets)))
	short.Data = append(short.Data, 0, 1, markSOD>>8, markSOD&0xff)
	short.Data = append(short.Data, packets...)
	short.Data = append(short.Data, markEOC>>8, markEOC&0xff)
	return short, left
}

// shortener walks the headers of a code stream and writes those of the shortened one.
type shortener struct {
	rest, out  []byte
	reduce     int // levels that go
	levels     int // that the code stream has, after COD
	size, coef bool
}

// next takes a marker segment from rest: its marker and what follows the length.
func (s *shortener) next() (marker int, body []byte, ok bool) {
	if len(s.rest) < 4 {
		return 0, nil, false
	}
	marker, length := int(binary.BigEndian.Uint16(s.rest)), int(binary.BigEndian.Uint16(s.rest[2:]))
	if length < 2 || 2+length > len(s.rest) {
		return 0, nil, false
	}
	body, s.rest = s.rest[4:2+length], s.rest[2+length:]
	return marker, body, true
}

func (s *shortener) write(marker int, body []byte) {
	s.out = binary.BigEndian.AppendUint16(s.out, uint16(marker))
	s.out = binary.BigEndian.AppendUint16(s.out, uint16(2+len(body)))
	s.out = append(s.out, body...)
}

// mainHeader goes through the headers as far as the packets, and returns these.
func (s *shortener) mainHeader() (packets []byte, ok bool) {
	for {
		before := len(s.rest)
		marker, body, ok := s.next()
		if !ok {
			return nil, false
		}
		switch marker {
		case markSIZ:
			ok = s.imageSize(body)
		case markCOD:
			ok = s.coding(body)
		case markQCD:
			ok = s.quantisation(body)
		case markCAP:
			s.write(marker, body)
		case markCOM, markCRG, markTLM, markPLM:
		case markSOT:
			if !s.size || !s.coef || s.reduce == 0 {
				return nil, false
			}
			return s.tile(body, before)
		default: // something that holds for single components, or packets in another order
			ok = false
		}
		if !ok {
			return nil, false
		}
	}
}

// imageSize: one tile from the origin, no component subsampled.
func (s *shortener) imageSize(body []byte) bool {
	const fixed = 36 // bytes before the components
	if s.size || len(body) < fixed || (len(body)-fixed)%3 != 0 {
		return false
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(body[at:]) }
	for _, at := range []int{2, 6} { // Xsiz, Ysiz; then the image's and, 16 on, the tile's size and origin
		size := u32(at)
		if size == 0 || size > maxSide || u32(at+16) < size || u32(at+8) != 0 || u32(at+24) != 0 {
			return false
		}
	}
	for c := fixed; c < len(body); c += 3 {
		if body[c+1] != 1 || body[c+2] != 1 {
			return false
		}
	}
	s.size = true
	s.write(markSIZ, body)
	return true
}

// coding: packets in the order of resolution.
func (s *shortener) coding(body []byte) bool {
	const fixed = 10 // bytes before the precincts
	if s.levels > 0 || !s.size || len(body) < fixed {
		return false
	}
	order, layers := body[1], binary.BigEndian.Uint16(body[2:])
	inOrder := order == resolutionsFirst || order == positionsSecond || order == layersFirst && layers == 1
	s.levels = int(body[5])
	if s.levels > 32 || !inOrder || layers > mostLayers || body[6]+body[7] < leastBlock {
		return false
	}
	s.reduce = min(s.reduce, s.levels)
	out := bytes.Clone(body)
	out[5] -= byte(s.reduce)
	if body[0]&1 != 0 { // a size of precincts for each resolution
		if len(body) != fixed+s.levels+1 {
			return false
		}
		for _, size := range body[fixed:] {
			if size&15 < leastPrecinct || size>>4 < leastPrecinct {
				return false
			}
		}
		out = out[:len(out)-s.reduce]
	}
	s.write(markCOD, out)
	siz := s.out[6:] // it came first, after SOC
	for _, at := range []int{2, 6} {
		small := uint32(reduced(int(binary.BigEndian.Uint32(siz[at:])), s.reduce))
		binary.BigEndian.PutUint32(siz[at:], small)
		binary.BigEndian.PutUint32(siz[at+16:], small)
	}
	return s.reduce > 0
}

// quantisation: a step for each sub-band, or one from which the others follow.
func (s *shortener) quantisation(body []byte) bool {
	if s.coef || s.levels == 0 || len(body) == 0 {
		return false
	}
	width := 0
	switch body[0] & 31 {
	case 0: // none
		width = 1
	case 2: // each
		width = 2
	}
	if width > 0 {
		if len(body) != 1+width*(3*s.levels+1) {
			return false
		}
		body = body[:len(body)-width*3*s.reduce]
	}
	s.coef = true
	s.write(markQCD, body)
	return true
}

// tile goes through the header of the tile, which must be the only one and whole, as far as its packets. The marker
// segment of the tile began where so many bytes were left.
func (s *shortener) tile(sot []byte, before int) (packets []byte, ok bool) {
	if len(sot) != 8 || sot[0] != 0 || sot[1] != 0 || sot[6] != 0 || sot[7] > 1 {
		return nil, false
	}
	end := bytes.TrimRight(s.rest, "\x00")
	if !bytes.HasSuffix(end, []byte{markEOC >> 8, markEOC & 0xff}) {
		return nil, false
	}
	end = end[:len(end)-2]
	if length := int(binary.BigEndian.Uint32(sot[2:])); length != 0 && length != before-len(s.rest)+len(end) {
		return nil, false
	}
	for s.rest = end; ; {
		if len(s.rest) >= 2 && binary.BigEndian.Uint16(s.rest) == markSOD {
			return s.rest[2:], true
		}
		if marker, _, ok := s.next(); !ok || marker != markPLT && marker != markCOM {
			return nil, false
		}
	}
}
