package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/mvmae/mvmae/dicom"
)

// bitStream is an entropy-coded segment without its stuffed bytes.
type bitStream struct {
	out  []byte
	n    int // bits in last
	last byte
}

func (w *bitStream) write(v uint32, size int) {
	for size--; size >= 0; size-- {
		w.last = w.last<<1 | byte(v>>size&1)
		if w.n++; w.n == 8 {
			w.out, w.n, w.last = append(w.out, w.last), 0, 0
		}
	}
}

// stuffed ends the segment with ones (T.81 F.1.2.3) and puts a zero after each 0xff.
func (w *bitStream) stuffed() []byte {
	for w.n != 0 {
		w.write(1, 1)
	}
	return bytes.ReplaceAll(w.out, []byte{0xff}, []byte{0xff, 0})
}

// value writes the bits of a coefficient or difference.
func (w *bitStream) value(v int32) {
	size := bits.Len32(uint32(max(v, -v)))
	if v < 0 {
		v += 1<<size - 1
	}
	w.write(uint32(v), size)
}

// testTable is a Huffman table with three codes of each length from 3 to 15, and the others of 16.
type testTable struct {
	segment []byte // counts and symbols, as in a DHT
	codes   map[byte]testCode
}

type testCode struct {
	code   uint32
	length int
}

func newTestTable(symbols []byte) testTable {
	t := testTable{segment: make([]byte, 16), codes: map[byte]testCode{}}
	code, length := uint32(0), 3
	for _, s := range symbols {
		if t.segment[length-1] == 3 && length < 16 {
			code, length = code<<1, length+1
		}
		t.segment[length-1]++
		t.codes[s] = testCode{code, length}
		code++
	}
	t.segment = append(t.segment, symbols...)
	return t
}

func (t testTable) write(w *bitStream, symbol byte, value int32) {
	c := t.codes[symbol]
	w.write(c.code, c.length)
	w.value(value)
}

// dctPicture is a gray picture of one row of blocks, by its coefficients: before quantisation, in the order of the stream.
type dctPicture struct {
	name     string
	blocks   [][64]int32
	quantum  byte
	restarts int
}

// encode writes it with symbols in an order drawn by rng, so that short codes have long values and the other way round.
func (p dctPicture) encode(rng *rand.Rand) (frame []byte, segments [][]byte) {
	var sizes, symbols []byte
	for size := range byte(12) {
		sizes = append(sizes, size)
	}
	for run := range byte(16) {
		for size := byte(1); size <= 10; size++ {
			symbols = append(symbols, run<<4|size)
		}
	}
	symbols = append(symbols, 0x00, 0xf0)
	rng.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	rng.Shuffle(len(symbols), func(i, j int) { symbols[i], symbols[j] = symbols[j], symbols[i] })
	dc, ac := newTestTable(sizes), newTestTable(symbols)

	frame = []byte{0xff, 0xd8, 0xff, 0xdb, 0, 67, 0}
	frame = append(frame, bytes.Repeat([]byte{p.quantum}, 64)...)
	frame = append(frame, 0xff, 0xc0, 0, 11, 8, 0, 8)
	frame = binary.BigEndian.AppendUint16(frame, uint16(8*len(p.blocks)))
	frame = append(frame, 1, 1, 0x11, 0, 0xff, 0xc4)
	frame = binary.BigEndian.AppendUint16(frame, uint16(4+len(dc.segment)+len(ac.segment)))
	frame = append(append(append(append(frame, 0x00), dc.segment...), 0x10), ac.segment...)
	frame = append(frame, 0xff, 0xdd, 0, 4, 0, byte(p.restarts), 0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0)

	w, predicted := &bitStream{}, int32(0)
	for i, b := range p.blocks {
		if p.restarts > 0 && i > 0 && i%p.restarts == 0 {
			frame = append(append(frame, w.stuffed()...), 0xff, 0xd0+byte(i/p.restarts-1)%8)
			segments, w, predicted = append(segments, w.out), &bitStream{}, 0
		}
		d := b[0] - predicted
		dc.write(w, byte(bits.Len32(uint32(max(d, -d)))), d)
		predicted = b[0]
		run := byte(0)
		for k, v := range b[1:] {
			if v == 0 {
				run++
				continue
			}
			for ; run > 15; run -= 16 {
				ac.write(w, 0xf0, 0)
			}
			ac.write(w, run<<4|byte(bits.Len32(uint32(max(v, -v)))), v)
			if run = 0; k == 62 {
				run = 64 // needs no end
			}
		}
		if run < 64 {
			ac.write(w, 0, 0)
		}
	}
	frame = append(frame, w.stuffed()...)
	return append(frame, 0xff, 0xd9), append(segments, w.out)
}

func (p dctPicture) pixels(frame []byte) *dicom.Pixels {
	return coded(dicom.JPEGBaseline, 8, 8*len(p.blocks), 1, 8, 8, frame)
}

// samples are what inverseDCT makes of the coefficients.
func (p dctPicture) samples() []byte {
	out := make([]byte, 64*len(p.blocks))
	for i, b := range p.blocks {
		block := dctBlock{last: 63}
		for k, v := range b {
			block.values[zigzag[k]] = v * int32(p.quantum)
		}
		var samples [64]int
		inverseDCT(&block, 8, &samples)
		for at, v := range samples {
			out[at/8*8*len(p.blocks)+8*i+at%8] = byte(min(max(v+128, 0), 255))
		}
	}
	return out
}

// dctPictures have what a fast decoder has shortcuts for.
func dctPictures() (pictures []dctPicture) {
	rng := rand.New(rand.NewPCG(3, 4))
	add := func(name string, quantum byte, restarts, blocks int, fill func(i int, b *[64]int32)) {
		p := dctPicture{name, make([][64]int32, blocks), quantum, restarts}
		for i := range p.blocks {
			fill(i, &p.blocks[i])
		}
		pictures = append(pictures, p)
	}
	any := func(size int) int32 { return int32(rng.IntN(2<<size-1) - 1<<size + 1) }
	add("flat", 1, 0, 40, func(i int, b *[64]int32) { b[0] = any(10) })
	add("one coefficient at each place", 3, 0, 64, func(i int, b *[64]int32) { b[i] = 1 + any(9)/2*2 })
	add("the same with a mean", 1, 5, 64, func(i int, b *[64]int32) { b[0], b[i] = 500, 30 })
	for _, l := range []struct {
		name string
		has  func(place uint8) bool
	}{
		{"first column", func(p uint8) bool { return p%8 == 0 }}, {"last column", func(p uint8) bool { return p%8 == 7 }},
		{"first row", func(p uint8) bool { return p/8 == 0 }}, {"last row", func(p uint8) bool { return p/8 == 7 }},
	} {
		add(l.name, 2, 0, 30, func(_ int, b *[64]int32) {
			for k, place := range zigzag {
				if l.has(place) {
					b[k] = any(6)
				}
			}
		})
	}
	for _, size := range []int{1, 3, 5, 10} {
		add(fmt.Sprintf("every coefficient, of %d bits", size), 1, 7, 50, func(i int, b *[64]int32) {
			for k := range b {
				b[k] = any(size)
			}
		})
	}
	add("too large for pairs", 255, 0, 40, func(i int, b *[64]int32) {
		for k := range b {
			b[k] = any(10)
		}
	})
	add("near what pairs hold", 1, 0, 64, func(i int, b *[64]int32) { // of one sign and at the largest cosines: the sum is 32,767
		for k := range b {
			b[k] = 511
		}
		b[i] = 574
	})
	// Values of ones at every distance from the stream's beginning: 0xff, and zeros behind it, at every place of a refill.
	add("stuffing", 1, 0, 300, func(i int, b *[64]int32) {
		for k := 1; k < 64; k++ {
			b[k] = 1<<(1+(i+k*k)%10) - 1
		}
	})
	return pictures
}

// Shortcuts change no sample: every picture is what the plain transform makes of its coefficients.
func TestJPEG_ShortcutsChangeNothing(t *testing.T) {
	for _, p := range dctPictures() {
		for seed := range uint64(4) {
			frame, segments := p.encode(rand.New(rand.NewPCG(seed, 5)))
			plane, err := Decode(p.pixels(frame))
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
				continue
			}
			if !bytes.Equal(plane.data, p.samples()) {
				t.Errorf("%s: other samples", p.name)
			}
			if p.name == "stuffing" {
				places := [8]bool{}
				for i, b := range segments[0] {
					if b == 0xff {
						places[i%8] = true
					}
				}
				if places != [8]bool{true, true, true, true, true, true, true, true} {
					t.Errorf("0xff is at places %v of eight only", places)
				}
			}
		}
	}
}

// Bits that are missing are not guessed. Long streams are cut at 500 places, short ones everywhere.
func TestJPEG_CutWithinShortcuts(t *testing.T) {
	for _, p := range dctPictures() {
		frame, _ := p.encode(rand.New(rand.NewPCG(1, 5)))
		end := len(frame) - 2
		if bytes.HasSuffix(frame[:end], []byte{0xff, 0}) {
			end-- // without the stuffed zero no bit is missing
		}
		for n := 2; n < end; n += 1 + len(frame)/500 {
			_, err := Decode(p.pixels(frame[:n:n]))
			wantCode(t, fmt.Sprintf("%s: %d of %d bytes", p.name, n, len(frame)), err, dicom.CodeTruncated)
		}
	}
}

// inverseDCT8 takes blocks up to its bound: no sum of coefficients below that makes halves run into each other.
func TestInverseDCT8_IsInverseDCT(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 7))
	for n := range 20_000 {
		var block dctBlock
		block.last = 63
		left := int32(farthest - 1)
		for range 1 + rng.IntN(64) { // a few large ones or many small ones
			at := rng.IntN(64)
			v := rng.Int32N(left + 1)
			if n%2 == 0 {
				v /= 32
			}
			left -= v
			if rng.IntN(2) == 0 {
				v = -v
			}
			left += max(block.values[at], -block.values[at])
			block.values[at] = v
		}
		var want [64]int
		inverseDCT(&block, 8, &want)
		var got [64]byte
		inverseDCT8(&block, got[:], 8)
		for i, v := range want {
			if got[i] != byte(min(max(v+128, 0), 255)) {
				t.Fatalf("block %d, sample %d: %d, want %d", n, i, got[i], v+128)
			}
		}
	}
}

// A block has 64 coefficients: the last may be the 64th, without an end of block, and none comes after it.
func TestEntropyBlock_Ends(t *testing.T) {
	type coefficient struct {
		symbol byte
		value  int32
	}
	dc, ac := newTestTable([]byte{0, 1}), newTestTable([]byte{0xf0, 0xf1, 0xe1, 0x01, 0x00})
	for _, c := range []struct {
		name  string
		block []coefficient
		ok    bool
		last  uint
	}{
		{"nothing but a mean", []coefficient{{0x00, 0}}, true, 0},
		{"the 64th", []coefficient{{0xf0, 0}, {0xf0, 0}, {0xf0, 0}, {0xe1, -1}}, true, 63},
		{"the 65th", []coefficient{{0xf0, 0}, {0xf0, 0}, {0xf0, 0}, {0xf1, 1}}, false, 0},
		{"zeros past the 64th", []coefficient{{0xf0, 0}, {0xf0, 0}, {0xf0, 0}, {0xf0, 0}}, false, 0},
	} {
		w := &bitStream{}
		dc.write(w, 1, 1)
		for _, k := range c.block {
			ac.write(w, k.symbol, k.value)
		}
		e, predicted, block := entropy{}, int32(0), dctBlock{}
		e.unstuff(w.stuffed(), blockPad)
		dcTable, _, err := newHuffman(dc.segment, false)
		if err != nil {
			t.Fatal(err)
		}
		acTable, _, err := newHuffman(ac.segment, true)
		if err != nil {
			t.Fatal(err)
		}
		var quant [64]step
		for i := range quant {
			quant[i] = newStep(1, i)
		}
		ok := e.block(&block, dcTable, acTable, &quant, &predicted)
		if ok != c.ok || e.overrun(true) || ok && (block.last != c.last || predicted != 1) {
			t.Errorf("%s: %t, last %d, mean %d, overrun %t", c.name, ok, block.last, predicted, e.overrun(true))
		}
	}
}
