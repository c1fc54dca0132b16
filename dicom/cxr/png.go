package cxr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"io"

	"github.com/klauspost/compress/zlib"

	"github.com/mvmae/mvmae/dicom/codec"
)

// errOtherPNG says that a file is no plain gray PNG, or is broken: image/png knows which.
var errOtherPNG = errors.New("not a plain gray PNG")

// plainPNG decodes a gray PNG of 8 or 16 bits, neither interlaced nor transparent, as radiographs are: the same bytes as image/png
// in half its time, which for 16 bits is the time of a data set (docs/decisions.md, "Packing is as fast as decoding").
func plainPNG(data []byte, cfg image.Config) (*codec.Plane, error) {
	const header = 8 + 8 + 13 + 4 // the signature and IHDR, which png.DecodeConfig has read
	if len(data) < header || data[24] != 8 && data[24] != 16 || data[25] != 0 || data[28] != 0 {
		return nil, errOtherPNG
	}
	compressed, err := imageData(data[header:])
	if err != nil {
		return nil, err
	}
	r, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	size := int(data[24] / 8)
	width := cfg.Width * size
	pix := make([]byte, cfg.Height*width)
	line, above := make([]byte, 1+width), make([]byte, 1+width)
	for rest := pix; len(rest) > 0; rest = rest[width:] {
		if _, err := io.ReadFull(r, line); err != nil {
			return nil, err
		}
		if err := unfilter(line[0], size, line[1:], above[1:]); err != nil {
			return nil, err
		}
		if size == 1 {
			copy(rest, line[1:])
		} else {
			swap(rest[:width], line[1:])
		}
		line, above = above, line
	}
	if n, err := r.Read(line); n > 0 || err != io.EOF { // where the checksum is compared
		return nil, errOtherPNG
	}
	if size == 1 {
		return codec.Gray8(cfg.Height, cfg.Width, pix), nil
	}
	return codec.Gray16(cfg.Height, cfg.Width, pix, binary.LittleEndian), nil
}

// imageData joins the IDAT chunks, which follow each other, and checks all chunks up to the end (PNG, "Chunk layout").
func imageData(chunks []byte) (joined []byte, err error) {
	const around = 4 + 4 + 4 // length, type, checksum
	before := ""
	for len(chunks) >= around {
		n := binary.BigEndian.Uint32(chunks)
		if uint64(n) > uint64(len(chunks)-around) {
			break
		}
		kind, body, sum := string(chunks[4:8]), chunks[8:8+n], chunks[8+n:]
		if crc32.ChecksumIEEE(chunks[4:8+n]) != binary.BigEndian.Uint32(sum) {
			break
		}
		switch {
		case kind == "IDAT" && joined == nil:
			joined = body[:n:n]
		case kind == "IDAT" && before == kind:
			if cap(joined) == len(joined) { // the second one
				joined = append(make([]byte, 0, len(joined)+len(chunks)), joined...)
			}
			joined = append(joined, body...)
		case kind == "IEND" && joined != nil:
			return joined, nil
		case kind == "tRNS" || kind[0] < 'a': // a chunk that nobody may skip
			return nil, errOtherPNG
		}
		chunks, before = chunks[around+n:], kind
	}
	return nil, errOtherPNG
}

// unfilter adds the prediction to a row of samples of size bytes, 1 or 2 (PNG, "Filtering").
func unfilter(filter byte, size int, row, above []byte) error {
	above = above[:len(row)]
	switch {
	case filter == 0:
	case filter == 1:
		for i := size; i < len(row); i++ {
			row[i] += row[i-size]
		}
	case filter == 2:
		up(row, above)
	case filter == 3:
		for i := range size {
			row[i] += above[i] / 2
		}
		for i := size; i < len(row); i++ {
			row[i] += uint8((uint(row[i-size]) + uint(above[i])) / 2)
		}
	case filter == 4 && size == 1:
		left, corner := 0, 0
		for i, b := range above {
			left = (int(row[i]) + paeth(left, int(b), corner)) & 0xff
			row[i], corner = byte(left), int(b)
		}
	case filter == 4: // high and low bytes side by side: neither waits for the other
		var left, corner [2]int
		for ; len(row) >= 2 && len(above) >= 2; row, above = row[2:], above[2:] {
			hi, lo := int(above[0]), int(above[1])
			left[0] = (int(row[0]) + paeth(left[0], hi, corner[0])) & 0xff
			left[1] = (int(row[1]) + paeth(left[1], lo, corner[1])) & 0xff
			row[0], row[1] = byte(left[0]), byte(left[1])
			corner = [2]int{hi, lo}
		}
	default:
		return errOtherPNG
	}
	return nil
}

// swap writes samples of two bytes with the lower one first: the words of a picture of 12 bits lie side by side in a table then,
// which is what counting and mapping them live on.
func swap(dst, src []byte) {
	const even = 0x00ff00ff00ff00ff
	for len(dst) >= 8 && len(src) >= 8 {
		v := binary.LittleEndian.Uint64(src)
		binary.LittleEndian.PutUint64(dst, v>>8&even|v&even<<8)
		dst, src = dst[8:], src[8:]
	}
	for i := 0; i+1 < len(src); i += 2 {
		dst[i], dst[i+1] = src[i+1], src[i]
	}
}

// up adds the row above, eight bytes at a time: their highest bits apart, so that no carry leaves a byte.
func up(row, above []byte) {
	const highest = 0x8080808080808080
	for len(row) >= 8 && len(above) >= 8 {
		a, b := binary.LittleEndian.Uint64(row), binary.LittleEndian.Uint64(above)
		binary.LittleEndian.PutUint64(row, (a&^highest+b&^highest)^(a^b)&highest)
		row, above = row[8:], above[8:]
	}
	for i, b := range above {
		row[i] += b
	}
}

// paeth is the one of left, up and corner that is nearest to left + up - corner; the first of them in that order if several are.
func paeth(left, up, corner int) int {
	toLeft, toUp := up-corner, left-corner // less the signs, how far the sum is from each
	toCorner := toLeft + toUp
	toLeft, toUp, toCorner = max(toLeft, -toLeft), max(toUp, -toUp), max(toCorner, -toCorner)
	nearest := left
	if toUp < toLeft {
		nearest, toLeft = up, toUp
	}
	if toCorner < toLeft {
		nearest = corner
	}
	return nearest
}
