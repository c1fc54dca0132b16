package dicom

import (
	"encoding/binary"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// Palette is the lookup tables of PALETTE COLOR pixels (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6).
type Palette struct {
	First            int // the stored value that the first entry is for; others are cut to the table
	Bits             int // of an entry: 8 or 16
	Red, Green, Blue []uint16
}

// The segmented form (PS3.3 C.7.9.2) of the red table.
var segmentedRed = tag.Tag{Group: 0x0028, Element: 0x1221}

// palette reads the tables.
func (f *File) palette(signed bool) (*Palette, error) {
	if _, ok := f.Header[segmentedRed]; ok && len(f.Bytes(tag.RedPaletteColorLookupTableData)) == 0 {
		return nil, refuse(CodeUnsupportedPixels, "PALETTE COLOR with segmented lookup tables")
	}
	p := &Palette{}
	for i, c := range []struct {
		descriptor, data tag.Tag
		table            *[]uint16
	}{
		{tag.RedPaletteColorLookupTableDescriptor, tag.RedPaletteColorLookupTableData, &p.Red},
		{tag.GreenPaletteColorLookupTableDescriptor, tag.GreenPaletteColorLookupTableData, &p.Green},
		{tag.BluePaletteColorLookupTableDescriptor, tag.BluePaletteColorLookupTableData, &p.Blue},
	} {
		d := f.Ints(c.descriptor)
		if len(d) != 3 {
			return nil, refuse(CodeMalformed, "palette descriptor %s is absent or not of three numbers", c.descriptor)
		}
		// US or SS: which of them the parser took does not matter. No entries stand for 65,536.
		entries, first, bits := int(uint16(d[0]-1))+1, int(uint16(d[1])), d[2]
		if signed {
			first = int(int16(d[1]))
		}
		if i > 0 && (entries != len(p.Red) || first != p.First || bits != p.Bits) {
			return nil, refuse(CodeMalformed, "palette descriptor %s is not that of red", c.descriptor)
		}
		p.First, p.Bits = first, bits
		if bits != 8 && bits != 16 {
			return nil, refuse(CodeMalformed, "palette entries of %d bits", bits)
		}
		data := f.Bytes(c.data)
		switch {
		case len(data) >= 2*entries:
			for i := range entries {
				*c.table = append(*c.table, binary.LittleEndian.Uint16(data[2*i:])&(1<<bits-1))
			}
		case bits == 8 && len(data) >= entries: // two entries in a word
			for _, v := range data[:entries] {
				*c.table = append(*c.table, uint16(v))
			}
		default:
			return nil, refuse(CodeMalformed, "palette %s has %d bytes for %d entries", c.data, len(data), entries)
		}
	}
	return p, nil
}
