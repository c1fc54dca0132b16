package cxr

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"math/rand/v2"
	"slices"
	"testing"
)

// rawPNG is a gray PNG of filtered rows as they are given, the image data in pieces of so many bytes at most.
func rawPNG(width, height, depth int, filtered []byte, piece int, extra ...[]byte) []byte {
	file := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, body []byte) {
		file = binary.BigEndian.AppendUint32(file, uint32(len(body)))
		at := len(file)
		file = append(append(file, kind...), body...)
		file = binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(file[at:]))
	}
	header := binary.BigEndian.AppendUint32(nil, uint32(width))
	header = binary.BigEndian.AppendUint32(header, uint32(height))
	chunk("IHDR", append(header, byte(depth), 0, 0, 0, 0))
	for _, body := range extra {
		chunk(string(body[:4]), body[4:])
	}
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write(filtered)
	w.Close()
	for part := range slices.Chunk(b.Bytes(), piece) {
		chunk("IDAT", part)
	}
	chunk("IEND", nil)
	return file
}

// randomRows are rows of any bytes, filtered in every way in turn.
func randomRows(seed uint64, width, height int) []byte {
	rng := rand.New(rand.NewPCG(seed, 8))
	var rows []byte
	for y := range height {
		rows = append(rows, byte((y+int(seed))%5))
		for range width {
			rows = append(rows, byte(rng.Uint32()))
		}
	}
	return rows
}

func TestPlainPNG_SameAsTheStandardLibrary(t *testing.T) {
	for _, depth := range []int{8, 16} {
		for _, size := range [][2]int{{1, 1}, {1, 11}, {7, 12}, {8, 5}, {61, 45}} {
			for seed := range uint64(5) { // each filter comes first once
				width, height := size[0], size[1]
				file := rawPNG(width, height, depth, randomRows(seed, width*depth/8, height), 100, []byte("tEXtnote\x00text"))
				want, err := png.Decode(bytes.NewReader(file))
				if err != nil {
					t.Fatal(err)
				}
				cfg, err := png.DecodeConfig(bytes.NewReader(file))
				if err != nil {
					t.Fatal(err)
				}
				got, err := plainPNG(file, cfg)
				if err != nil {
					t.Fatalf("%d bits, %d x %d: %v", depth, width, height, err)
				}
				if !slices.Equal(got.Values(), grayPlane(want).Values()) || got.BitsStored() != depth || got.Colour {
					t.Errorf("%d bits, %d x %d, first filter %d: other pixels", depth, width, height, seed)
				}
			}
		}
	}
}

// What is not plain is left to the standard library, as is what is broken: no bit of a file may change unnoticed.
func TestPlainPNG_LeavesTheRest(t *testing.T) {
	rows := randomRows(0, 24, 10)
	good := rawPNG(12, 10, 16, rows, 1<<20)
	cfg := image.Config{Width: 12, Height: 10}
	if _, err := plainPNG(good, cfg); err != nil {
		t.Fatal(err)
	}
	badFilter := slices.Clone(rows)
	badFilter[0] = 5
	for name, file := range map[string][]byte{
		"transparent":     rawPNG(12, 10, 16, rows, 1<<20, []byte("tRNS\x00\x01")),
		"unknown chunk":   rawPNG(12, 10, 16, rows, 1<<20, []byte("ABCD")),
		"four bits":       rawPNG(12, 10, 4, rows, 1<<20),
		"too few rows":    rawPNG(12, 10, 16, rows[:25*9], 1<<20),
		"too many":        rawPNG(12, 10, 16, append(rows, 0), 1<<20),
		"unknown filter":  rawPNG(12, 10, 16, badFilter, 1<<20),
		"interlaced":      append(append(slices.Clone(good[:28]), 1), good[29:]...),
		"colour":          append(append(slices.Clone(good[:25]), 2), good[26:]...),
		"without its end": good[:len(good)-12],
	} {
		if _, err := plainPNG(file, cfg); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	const header = 33
	for at := header; at < len(good); at++ {
		if _, err := plainPNG(good[:at], cfg); err == nil {
			t.Errorf("the first %d of %d bytes: decoded", at, len(good))
		}
		bad := slices.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if _, err := plainPNG(bad, cfg); err == nil {
			t.Errorf("byte %d changed: decoded", at)
		}
	}
}

// FuzzPicture: a picture that is accepted is whole, and a PNG's pixels are the standard library's.
func FuzzPicture(f *testing.F) {
	for _, depth := range []int{8, 16} {
		f.Add(rawPNG(6, 7, depth, randomRows(1, 6*depth/8, 7), 20, []byte("tEXtnote\x00text")))
	}
	f.Add(encodeJPEG(f, 20))
	f.Fuzz(func(t *testing.T, file []byte) {
		cfg, _, err := image.DecodeConfig(bytes.NewReader(file))
		if err != nil || cfg.Width > 1<<8 || cfg.Height > 1<<8 {
			return
		}
		plane, kind, err := DecodePicture(file)
		if err != nil {
			return
		}
		values := plane.Values()
		if plane.Columns != cfg.Width || len(values) != cfg.Width*cfg.Height {
			t.Fatalf("%d pixels of %d x %d", len(values), cfg.Height, cfg.Width)
		}
		if kind == "PNG" {
			want, err := png.Decode(bytes.NewReader(file))
			if err != nil || !slices.Equal(values, grayPlane(want).Values()) {
				t.Fatalf("accepted, but the standard library says %v, or has other pixels", err)
			}
		}
	})
}
