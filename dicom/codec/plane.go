package codec

import (
	"encoding/binary"
	"math/bits"
)

// Plane is one gray image of Rows x Columns raw words, row-major. A raw word is the bytes that the file holds for a pixel,
// read as little endian: the stored value with whatever lies in the bits around it.
type Plane struct {
	Rows, Columns int
	// Inverted: low values are bright (MONOCHROME1).
	Inverted bool
	// Colour: the values are the luma of a colour image.
	Colour bool
	// Reduced is how many levels of resolution were left out of an image of FullRows x FullColumns by a decoder of JPEG 2000:
	// pixel i of a row stands for what is around pixel i<<Reduced of the full one, by the filter of the 9/7 transform if
	// Irreversible, else of the 5/3 (T.800 annex F). 0 as a rule, and the other three are not set then.
	Reduced, FullRows, FullColumns int
	Irreversible                   bool

	data []byte
	wide bool // two bytes per word
	big  bool // whose order is big endian
	low  int  // the lowest bit of the stored value
	bits int  // its width
	sign bool
}

// Gray8 is the plane of 8-bit words, row-major.
func Gray8(rows, columns int, data []byte) *Plane {
	return &Plane{Rows: rows, Columns: columns, data: data[:rows*columns], bits: 8}
}

// Gray16 is the plane of 16-bit words, row-major, in the given byte order.
func Gray16(rows, columns int, data []byte, order binary.ByteOrder) *Plane {
	return &Plane{Rows: rows, Columns: columns, data: data[:2*rows*columns], wide: true, big: order == binary.BigEndian, bits: 16}
}

// Full is the size of the image, of which levels of resolution may have been left out.
func (p *Plane) Full() (rows, columns int) {
	if p.Reduced > 0 {
		return p.FullRows, p.FullColumns
	}
	return p.Rows, p.Columns
}

// BitsStored is the width of the stored values.
func (p *Plane) BitsStored() int { return p.bits }

// Signed says whether stored values may be negative.
func (p *Plane) Signed() bool { return p.sign }

// Words is the number of different raw words: 256 or 65,536.
func (p *Plane) Words() int {
	if p.wide {
		return 1 << 16
	}
	return 1 << 8
}

// Value is the stored value of a raw word: shifted down to bit 0, without the bits above (which may hold an overlay),
// sign-extended (PS3.5 8.1.1).
func (p *Plane) Value(word int) int32 {
	if p.big {
		word = int(bits.ReverseBytes16(uint16(word)))
	}
	v := int32(word>>p.low) & (1<<p.bits - 1)
	if p.sign && v>>(p.bits-1) != 0 {
		v -= 1 << p.bits
	}
	return v
}

// Counts is the memory that Histogram works in. Its zero value is ready; reusing one saves half a megabyte an image.
type Counts struct {
	lanes [2][1 << 16]uint32
	used  int // how much of lane 0 may not be zero; lane 1 is zero between calls
}

// Histogram counts the pixels of each raw word: [n], where n is a power of two past the largest word, at most [Words]. It
// lies in c and is good until c's next use.
func (p *Plane) Histogram(c *Counts) []uint32 {
	clear(c.lanes[0][:c.used])
	// Several tables taken in turn, because neighbouring pixels are often equal and an increment must wait for the one before
	// it at the same address.
	l0, l1 := &c.lanes[0], &c.lanes[1]
	d := p.data
	if !p.wide {
		const more = 1 << 8 // a second table in each lane
		for ; len(d) >= 8; d = d[8:] {
			v := binary.LittleEndian.Uint64(d)
			l0[v&0xff]++
			l1[v>>8&0xff]++
			l0[more+v>>16&0xff]++
			l1[more+v>>24&0xff]++
			l0[v>>32&0xff]++
			l1[v>>40&0xff]++
			l0[more+v>>48&0xff]++
			l1[more+v>>56]++
		}
		for _, v := range d {
			l0[v]++
		}
		for i := range more {
			l0[i] += l0[more+i]
			l1[i] += l1[more+i]
		}
		clear(l0[more : 2*more])
		clear(l1[more : 2*more])
		c.used = 1 << 8
	} else {
		var seen uint64 // all words, or-ed
		for ; len(d) >= 8; d = d[8:] {
			v := binary.LittleEndian.Uint64(d)
			seen |= v
			l0[v&0xffff]++
			l1[v>>16&0xffff]++
			l0[v>>32&0xffff]++
			l1[v>>48]++
		}
		for ; len(d) >= 2; d = d[2:] {
			v := binary.LittleEndian.Uint16(d)
			seen |= uint64(v)
			l0[v]++
		}
		seen |= seen >> 32
		c.used = 1 << bits.Len16(uint16(seen|seen>>16))
	}
	a, b := l0[:c.used], l1[:c.used]
	for i, n := range b {
		a[i] += n
	}
	clear(b)
	return a
}

// word is a raw word of two bytes.
func word(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }

// MapRow writes table[word] of each pixel of a row to dst, [Columns].
func (p *Plane) MapRow(row int, table *Table, dst []uint8) {
	mapRow(p, row, (*[1 << 16]uint8)(table), dst)
}

// MapRowFine is MapRow to 16 bits.
func (p *Plane) MapRowFine(row int, table *FineTable, dst []uint16) {
	mapRow(p, row, (*[1 << 16]uint16)(table), dst)
}

func mapRow[T uint8 | uint16](p *Plane, row int, table *[1 << 16]T, dst []T) {
	if !p.wide {
		src := p.data[row*p.Columns : (row+1)*p.Columns]
		dst = dst[:len(src)]
		for i, v := range src {
			dst[i] = table[v]
		}
		return
	}
	src := p.data[2*row*p.Columns : 2*(row+1)*p.Columns]
	dst = dst[:len(src)/2]
	for i := range dst {
		dst[i] = table[word(src[2*i:])]
	}
}

// Table maps raw words to 8 bits. Only its first [Plane.Words] entries are used.
type Table [1 << 16]uint8

// FineTable is a Table of 16 bits.
type FineTable [1 << 16]uint16

// Cuts part a row into blocks: block i is [At[i], At[i+1]), of Short pixels or of one more. [Blocks+1]
type Cuts struct {
	At    []int
	Short int
}

// SumRow adds table[word] of each pixel of a row to the sum of its block, and that of each block's first pixel to first: so
// a row is read once for an area average with fractional borders. sum is [blocks], first [blocks+1]: its last is the pixel
// after the last block, if the row has one.
func (p *Plane) SumRow(row int, table *Table, cuts Cuts, sum, first []uint32) {
	at := cuts.At[:len(sum)+1]
	first = first[:len(sum)+1]
	if !p.wide {
		src := p.data[row*p.Columns : (row+1)*p.Columns]
		for i := range sum {
			b := src[at[i]:at[i+1]]
			first[i] += uint32(table[b[0]])
			var s uint32
			for ; len(b) >= 8; b = b[8:] {
				s += uint32(table[b[0]]) + uint32(table[b[1]]) + uint32(table[b[2]]) + uint32(table[b[3]]) +
					uint32(table[b[4]]) + uint32(table[b[5]]) + uint32(table[b[6]]) + uint32(table[b[7]])
			}
			for _, v := range b {
				s += uint32(table[v])
			}
			sum[i] += s
		}
		if n := at[len(sum)]; n < len(src) {
			first[len(sum)] += uint32(table[src[n]])
		}
		return
	}
	src := p.data[2*row*p.Columns : 2*(row+1)*p.Columns]
	short := 2 * cuts.Short
	for i := range sum {
		b := src[2*at[i]:][:short]
		first[i] += uint32(table[word(b)])
		var s uint32
		for ; len(b) >= 16; b = b[16:] {
			s += uint32(table[word(b)]) + uint32(table[word(b[2:])]) + uint32(table[word(b[4:])]) + uint32(table[word(b[6:])]) +
				uint32(table[word(b[8:])]) + uint32(table[word(b[10:])]) + uint32(table[word(b[12:])]) + uint32(table[word(b[14:])])
		}
		for ; len(b) >= 2; b = b[2:] {
			s += uint32(table[word(b)])
		}
		// One pixel more or not: the blocks' lengths alternate, which no branch predictor likes.
		last := at[i+1] - 1
		more := uint32(at[i] + cuts.Short - at[i+1]) // all ones, or zero
		s += uint32(table[word(src[2*last:])]) & more
		sum[i] += s
	}
	if n := at[len(sum)]; 2*n < len(src) {
		first[len(sum)] += uint32(table[word(src[2*n:])])
	}
}

// Values returns the stored values, [Rows*Columns], row-major. It is for inspection; the model's input never needs them.
func (p *Plane) Values() []int32 {
	values := make([]int32, p.Rows*p.Columns)
	for i := range values {
		values[i] = p.at(i)
	}
	return values
}

// at is the stored value of pixel i.
func (p *Plane) at(i int) int32 { return p.Value(p.word(i)) }

// word is the raw word of pixel i.
func (p *Plane) word(i int) int {
	if p.wide {
		return int(word(p.data[2*i:]))
	}
	return int(p.data[i])
}
