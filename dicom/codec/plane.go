package codec

import (
	"encoding/binary"
	"math/bits"
)

// Plane is one gray image of Rows x Columns raw words, row-major. A raw word is what the file holds for a pixel: the stored
// value with whatever lies in the bits around it.
type Plane struct {
	Rows, Columns int
	// Inverted: low values are bright (MONOCHROME1).
	Inverted bool
	// Colour: the values are the luma of a colour image.
	Colour bool
	// Reduced is how many levels of resolution were left out of an image of FullRows x FullColumns: pixel i of a row
	// stands for what is around pixel i<<Reduced of the full one. 0 as a rule, and the other two are not set then.
	Reduced, FullRows, FullColumns int

	data  []byte
	wide  bool // two bytes per word
	order binary.ByteOrder
	low   int // the lowest bit of the stored value
	bits  int // its width
	sign  bool
}

// Gray8 is the plane of 8-bit words, row-major.
func Gray8(rows, columns int, data []byte) *Plane {
	return &Plane{Rows: rows, Columns: columns, data: data[:rows*columns], bits: 8}
}

// Gray16 is the plane of 16-bit words, row-major, in the given byte order.
func Gray16(rows, columns int, data []byte, order binary.ByteOrder) *Plane {
	return &Plane{Rows: rows, Columns: columns, data: data[:2*rows*columns], wide: true, order: order, bits: 16}
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
	v := int32(word>>p.low) & (1<<p.bits - 1)
	if p.sign && v>>(p.bits-1) != 0 {
		v -= 1 << p.bits
	}
	return v
}

// Histogram counts the pixels of each raw word: [Words].
func (p *Plane) Histogram() []uint32 {
	// Two tables, taken in turn, because neighbouring pixels are often equal and an increment must wait for the one
	// before it at the same address.
	n := p.Words()
	a, b := make([]uint32, n), make([]uint32, n)
	d := p.data
	if !p.wide {
		for ; len(d) >= 2; d = d[2:] {
			a[d[0]]++
			b[d[1]]++
		}
		for _, v := range d {
			a[v]++
		}
	} else {
		for ; len(d) >= 4; d = d[4:] {
			v := binary.LittleEndian.Uint32(d)
			a[v&0xffff]++
			b[v>>16]++
		}
		if len(d) >= 2 {
			a[binary.LittleEndian.Uint16(d)]++
		}
	}
	for i, v := range b {
		a[i] += v
	}
	if p.wide && p.order == binary.BigEndian {
		for i := range a {
			if j := int(bits.ReverseBytes16(uint16(i))); i < j {
				a[i], a[j] = a[j], a[i]
			}
		}
	}
	return a
}

// MapRow writes table[word] of each pixel of a row to dst. table is [Words], dst [Columns].
func (p *Plane) MapRow(row int, table, dst []uint8) {
	if !p.wide {
		table := (*[1 << 8]uint8)(table)
		src := p.data[row*p.Columns : (row+1)*p.Columns]
		dst = dst[:len(src)]
		for i, v := range src {
			dst[i] = table[v]
		}
		return
	}
	wide := (*[1 << 16]uint8)(table)
	src := p.data[2*row*p.Columns : 2*(row+1)*p.Columns]
	dst = dst[:len(src)/2]
	if p.order == binary.BigEndian {
		for i := range dst {
			dst[i] = wide[binary.BigEndian.Uint16(src[2*i:])]
		}
		return
	}
	for i := range dst {
		dst[i] = wide[binary.LittleEndian.Uint16(src[2*i:])]
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
		return int(p.order.Uint16(p.data[2*i:]))
	}
	return int(p.data[i])
}
