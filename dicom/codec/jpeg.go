package codec

import (
	"encoding/binary"
	"slices"

	"github.com/mvmae/mvmae/dicom"
)

// jpegStream is the state of decoding one JPEG code stream: Huffman-coded, sequential DCT of 8 or 12 bits (ITU-T T.81 SOF0,
// SOF1) or lossless (SOF3), as DICOM's processes 1, 2, 4 and 14. What the stream itself says counts, not which of these
// the transfer syntax names.
type jpegStream struct {
	header *dicom.Pixels // of the file
	native *dicom.Pixels // what the stream decodes to; nil before its SOF

	huffman  [2][4]*huffman // DC and lossless, AC
	quant    [4]*[64]step
	restarts int // MCUs between restart markers, or 0

	lossless   bool
	precision  int
	components []jpegComponent
	jfif       bool
	adobe      int // transform of an Adobe segment, or -1

	entropy entropy // reused from scan to scan
}

type jpegComponent struct {
	id, h, v, quant byte
	done            bool   // its scan was decoded
	plane           []byte // DCT only: samples of whole blocks; nil when nobody needs them
	stride, lines   int    // of plane, in samples
}

// decodeJPEG is a Decoder.
func decodeJPEG(frame []byte, p *dicom.Pixels) (*Plane, error) {
	if err := supported(p); err != nil {
		return nil, err
	}
	if len(frame) < 2 || frame[0] != 0xff || frame[1] != 0xd8 {
		return nil, malformed("no JPEG stream")
	}
	s := &jpegStream{header: p, adobe: -1}
	for frame = frame[2:]; ; {
		marker, body, rest, err := nextMarker(frame)
		if err != nil {
			return nil, err
		}
		switch {
		case marker == 0xda:
			if rest, err = s.scan(body, rest); err == nil && !slices.ContainsFunc(s.components, jpegComponent.missing) {
				return s.plane()
			}
		case marker == 0xd9:
			return nil, truncated("the JPEG stream ends without a scan of each component")
		default:
			err = s.segment(marker, body)
		}
		if err != nil {
			return nil, err
		}
		frame = rest
	}
}

func (c jpegComponent) missing() bool { return !c.done }

// nextMarker returns the marker at the start of b, the segment after it and what follows.
func nextMarker(b []byte) (marker byte, body, rest []byte, err error) {
	if len(b) > 0 && b[0] != 0xff {
		return 0, nil, nil, malformed("byte %02X in place of a JPEG marker", b[0])
	}
	for len(b) > 1 && b[1] == 0xff { // fill bytes
		b = b[1:]
	}
	if len(b) < 2 {
		return 0, nil, nil, endOfStream("place of a marker")
	}
	marker, b = b[1], b[2:]
	if marker == 0xd9 {
		return marker, nil, b, nil
	}
	if marker < 0xc0 || marker >= 0xd0 && marker <= 0xd8 {
		return 0, nil, nil, malformed("JPEG marker %02X out of place", marker)
	}
	if len(b) < 2 {
		return 0, nil, nil, endOfStream("a segment")
	}
	n := int(binary.BigEndian.Uint16(b))
	switch {
	case n < 2:
		return 0, nil, nil, malformed("a JPEG segment of %d bytes", n)
	case n > len(b):
		return 0, nil, nil, endOfStream("a segment")
	}
	return marker, b[2:n], b[n:], nil
}

// segment reads a segment other than a scan.
func (s *jpegStream) segment(marker byte, b []byte) error {
	switch marker {
	case 0xc0, 0xc1, 0xc3:
		return s.sof(marker, b)
	case 0xc4:
		return s.dht(b)
	case 0xdb:
		return s.dqt(b)
	case 0xdd:
		if len(b) != 2 {
			return malformed("a JPEG restart interval of %d bytes", len(b))
		}
		s.restarts = int(binary.BigEndian.Uint16(b))
	case 0xe0:
		s.jfif = s.jfif || len(b) >= 5 && string(b[:5]) == "JFIF\x00"
	case 0xee:
		if len(b) >= 12 && string(b[:5]) == "Adobe" {
			s.adobe = int(b[11])
		}
	case 0xc2, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf:
		return refuse("a JPEG stream of process SOF%d", marker-0xc0)
	}
	return nil
}

// sof reads the frame header (T.81 B.2.2) and checks it against the file's.
func (s *jpegStream) sof(marker byte, b []byte) error {
	if s.native != nil {
		return malformed("two frame headers in a JPEG stream")
	}
	if len(b) < 6 || len(b) != 6+3*int(b[5]) {
		return malformed("a JPEG frame header of %d bytes", len(b))
	}
	s.lossless, s.precision = marker == 0xc3, int(b[0])
	rows, columns := int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	native, err := Samples(s.header, rows, columns, int(b[5]), s.precision)
	if err != nil {
		return err
	}
	if !s.lossless && s.precision != 8 && s.precision != 12 {
		return malformed("a JPEG stream of %d bits by DCT", s.precision)
	}
	for b = b[6:]; len(b) > 0; b = b[3:] {
		c := jpegComponent{id: b[0], h: b[1] >> 4, v: b[1] & 15, quant: b[2]}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.quant > 3 {
			return malformed("JPEG component %d: sampling %d x %d, table %d", c.id, c.h, c.v, c.quant)
		}
		if s.component(c.id) >= 0 {
			return malformed("two JPEG components %d", c.id)
		}
		s.components = append(s.components, c)
	}
	if len(s.components) == 1 { // the factors are relative to each other
		s.components[0].h, s.components[0].v = 1, 1
	}
	s.native = native
	return nil
}

func (s *jpegStream) component(id byte) int {
	return slices.IndexFunc(s.components, func(c jpegComponent) bool { return c.id == id })
}

// dht reads Huffman tables (T.81 B.2.4.2).
func (s *jpegStream) dht(b []byte) (err error) {
	for len(b) > 0 {
		class, id := b[0]>>4, b[0]&15
		if class > 1 || id > 3 {
			return malformed("Huffman table %d of class %d", id, class)
		}
		if s.huffman[class][id], b, err = newHuffman(b[1:], class == 1); err != nil {
			return err
		}
	}
	return nil
}

// dqt reads quantisation tables (T.81 B.2.4.1).
func (s *jpegStream) dqt(b []byte) error {
	for len(b) > 0 {
		size, id := 1+int(b[0]>>4), b[0]&15
		if size > 2 || id > 3 || len(b) < 1+64*size {
			return malformed("quantisation table %d of %d bytes", id, len(b)-1)
		}
		q := new([64]step)
		for i := range q {
			if size == 1 {
				q[i] = newStep(uint16(b[1+i]), i)
			} else {
				q[i] = newStep(binary.BigEndian.Uint16(b[1+2*i:]), i)
			}
		}
		s.quant[id], b = q, b[1+64*size:]
	}
	return nil
}

// jpegScan is a scan header (T.81 B.2.3).
type jpegScan struct {
	components []int      // places in the frame header
	dc, ac     []*huffman // of each component; ac is nil in a lossless scan
	predictor  int        // lossless: the selection value
	shift      int        // lossless: the point transform
}

// scan reads a scan header, decodes the scan and returns what follows it.
func (s *jpegStream) scan(b, data []byte) (rest []byte, err error) {
	if s.native == nil {
		return nil, malformed("a JPEG scan before the frame header")
	}
	if len(b) < 1 || len(b) != 4+2*int(b[0]) || b[0] < 1 || int(b[0]) > len(s.components) {
		return nil, malformed("a JPEG scan header of %d bytes", len(b))
	}
	n := int(b[0])
	var sc jpegScan
	for i := range n {
		c := s.component(b[1+2*i])
		if c < 0 || s.components[c].done || i > 0 && c <= sc.components[i-1] {
			return nil, malformed("JPEG component %d unknown, out of order or in two scans", b[1+2*i])
		}
		dc, ac := b[2+2*i]>>4, b[2+2*i]&15
		if dc > 3 || ac > 3 || s.huffman[0][dc] == nil || !s.lossless && s.huffman[1][ac] == nil {
			return nil, malformed("a JPEG scan without its Huffman tables")
		}
		s.components[c].done = true
		sc.components = append(sc.components, c)
		sc.dc = append(sc.dc, s.huffman[0][dc])
		sc.ac = append(sc.ac, s.huffman[1][ac])
	}
	sc.predictor, sc.shift = int(b[1+2*n]), int(b[3+2*n]&15)
	if s.lossless {
		return s.losslessScan(sc, data)
	}
	return s.dctScan(sc, data)
}

// plane is the image once all scans are decoded.
func (s *jpegStream) plane() (*Plane, error) {
	if s.lossless {
		return Native(s.native)
	}
	s.native.Data = s.crop(s.components[0])
	if len(s.components) == 1 {
		return Native(s.native)
	}
	if s.components[1].plane != nil {
		s.rgbToLuma(s.native.Data, s.crop(s.components[1]), s.crop(s.components[2]))
	}
	s.native.Photometric, s.native.SamplesPerPixel = "MONOCHROME2", 1
	plane, err := Native(s.native)
	if err == nil {
		plane.Colour = true
	}
	return plane, err
}

// rgbToLuma writes the luma over the red: a picture of the largest size has no room for more.
func (s *jpegStream) rgbToLuma(r, g, b []byte) {
	if s.native.BitsAllocated == 8 {
		for i := range r {
			r[i] = byte(Luma(uint32(r[i]), uint32(g[i]), uint32(b[i])))
		}
		return
	}
	at := func(p []byte, i int) uint32 { return uint32(binary.LittleEndian.Uint16(p[i:])) }
	for i := 0; i < len(r); i += 2 {
		binary.LittleEndian.PutUint16(r[i:], uint16(Luma(at(r, i), at(g, i), at(b, i))))
	}
}
