package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"
)

const (
	preambleBytes = 128
	magic         = "DICM"
	itemGroup     = 0xfffe
	// maxValueBytes is the longest value that the parser is given. The largest lookup table (64 Ki entries of 16 bits)
	// is an eighth of it.
	maxValueBytes = 1 << 20
)

// The tables of PS3.3 C.7.6.3.1.8, which the parser's dictionary does not have.
var (
	extendedOffsetTable        = tag.Tag{Group: 0x7fe0, Element: 0x0001}
	extendedOffsetTableLengths = tag.Tag{Group: 0x7fe0, Element: 0x0002}
)

// encoding is how the elements of a data set are laid out (PS3.5 annex A).
type encoding struct {
	order    byteOrder
	implicit bool
}

// layout is what the guard found in a file.
type layout struct {
	syntax  string
	dataset int // where the data set begins in the file
	enc     encoding
	header  []byte // the top-level elements to parse, joined: a part of the data set, encoded as enc says
	pixels  []byte // the value of the top-level PixelData, the first item of it if it is encapsulated
	vr      string // and its VR
	found   bool   // whether there is a PixelData

	encapsulated bool
	fragments    [][]byte // the other items
	offsets      []byte   // ExtendedOffsetTable
	lengths      []byte   // ExtendedOffsetTableLengths
}

// inspect walks data before anything else reads it. With an error of the data set comes what was found before it.
func inspect(data []byte, lim Limits, inflate func(deflated []byte, limit int) ([]byte, error)) (*layout, error) {
	if len(data) > lim.MaxBytes {
		return nil, refuse(CodeTooLarge, "the file has %d bytes, the limit is %d", len(data), lim.MaxBytes)
	}
	g := &guard{data: data, lim: lim}
	meta, pos, err := g.meta()
	if err != nil {
		return nil, err
	}
	syntax := meta.TransferSyntaxUID
	lay := &layout{syntax: syntax, enc: encoding{order: binary.LittleEndian}, dataset: pos}
	switch syntax {
	case ExplicitVRLittleEndian:
	case ImplicitVRLittleEndian:
		lay.enc.implicit = true
	case ExplicitVRBigEndian:
		lay.enc.order = binary.BigEndian
	case DeflatedExplicitVRLittleEndian:
		if g.data, err = inflate(data[pos:], lim.MaxBytes); err != nil {
			return nil, err
		}
		pos = 0
	default:
		if lay.encapsulated = encapsulates(syntax); !lay.encapsulated {
			return nil, UnsupportedSyntax(syntax)
		}
	}
	return lay, g.dataset(lay, pos)
}

// inflate counts before it keeps: a bomb costs time, but no memory, and an honest data set no more than its size.
func inflate(deflated []byte, limit int) ([]byte, error) {
	size, err := io.Copy(io.Discard, io.LimitReader(flate.NewReader(bytes.NewReader(deflated)), int64(limit)+1))
	switch {
	case size > int64(limit):
		return nil, refuse(CodeTooLarge, "the data set inflates to more than %d bytes", limit)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, refuse(CodeTruncated, "the deflated data set is cut off")
	case err != nil:
		return nil, &Error{CodeMalformed, "the data set is not a deflate stream", err}
	}
	data := make([]byte, size)
	_, err = io.ReadFull(flate.NewReader(bytes.NewReader(deflated)), data)
	return data, err
}

type guard struct {
	data  []byte
	lim   Limits
	count int // elements and items so far
	// opaque is set when the parser would misread the element at hand though it is sound: such an element is left out. One
	// in a sequence is cut out of it.
	opaque  bool
	foreign int   // how many sequences around it are opaque themselves, so that cutting in them is of no use
	around  []int // where the lengths of the sequences and items around it are, where they are defined
	cuts    []span
	shrunk  map[int]int // bytes cut from what has its length there
}

// meta walks preamble and group 2, which is always explicit VR little endian, and returns the place of the data set too. The
// group's own length is not relied on: it is often wrong.
func (g *guard) meta() (m Meta, pos int, err error) {
	pos = preambleBytes + len(magic)
	if len(g.data) < pos || string(g.data[preambleBytes:pos]) != magic {
		return m, 0, refuse(CodeNotDICOM, "no %q after a preamble of %d bytes", magic, preambleBytes)
	}
	enc := encoding{order: binary.LittleEndian}
	for len(g.data)-pos >= 2 && binary.LittleEndian.Uint16(g.data[pos:]) == tag.MetadataGroup {
		h, err := g.head(pos, len(g.data), enc)
		if err != nil {
			return m, 0, err
		}
		if pos, err = g.value(h, len(g.data), enc, 0); err != nil {
			return m, 0, err
		}
		value := strings.Trim(string(g.data[h.value:pos]), " \x00")
		switch h.tag {
		case tag.MediaStorageSOPClassUID:
			m.SOPClassUID = value
		case tag.MediaStorageSOPInstanceUID:
			m.SOPInstanceUID = value
		case tag.TransferSyntaxUID:
			m.TransferSyntaxUID = value
		}
	}
	if m.TransferSyntaxUID == "" {
		return m, 0, refuse(CodeMalformed, "the file meta information names no transfer syntax")
	}
	return m, pos, nil
}

// dataset walks the top level up to the pixels. What follows them (padding, signatures) is not read.
func (g *guard) dataset(lay *layout, pos int) error {
	for pos < len(g.data) {
		h, err := g.head(pos, len(g.data), lay.enc)
		if err != nil {
			lay.found = h.tag == tag.PixelData
			return err
		}
		if h.tag == tag.PixelData {
			return g.pixelData(lay, h)
		}
		g.opaque, g.cuts, g.shrunk = false, nil, nil
		end, err := g.value(h, len(g.data), lay.enc, 0)
		if err != nil {
			return err
		}
		switch h.tag {
		case extendedOffsetTable:
			lay.offsets = g.data[h.value:end]
		case extendedOffsetTableLengths:
			lay.lengths = g.data[h.value:end]
		}
		// Private elements, overlays and curves are nothing to this project; group 6 and below are not of a data set.
		standard := h.tag.Group%2 == 0 && h.tag.Group >= 0x0008 && h.tag.Group < 0x5000
		switch {
		case !standard:
		case g.opaque || end-h.value > maxValueBytes:
			if decides(h.tag) {
				return refuse(CodeMalformed, "element %s has VR %s and %d bytes: it cannot be read", h.tag, h.vr, end-h.value)
			}
		case len(lay.header)+end-pos > g.lim.MaxHeaderBytes:
			return refuse(CodeTooLarge, "the header has more than %d bytes", g.lim.MaxHeaderBytes)
		default:
			lay.header = g.keep(lay.header, pos, end, lay.enc)
		}
		pos = end
	}
	return nil
}

// pixelData finds the pixels: one value, or a table of offsets and the fragments of code streams, as the transfer syntax
// says.
func (g *guard) pixelData(lay *layout, h head) error {
	lay.vr, lay.found = h.vr, true
	switch {
	case !h.undefined && !lay.encapsulated:
		end := h.value + h.length
		lay.pixels = g.data[h.value:end:end]
		return nil
	case !h.undefined:
		return refuse(CodeMalformed, "native pixels under an encapsulated transfer syntax")
	case !lay.encapsulated:
		return refuse(CodeMalformed, "encapsulated pixels under a native transfer syntax")
	case h.vr != "OB" && h.vr != "OW":
		return refuse(CodeMalformed, "encapsulated pixels of VR %s", h.vr)
	}
	var items [][]byte
	_, err := g.fragments(h, len(g.data), lay.enc, func(item []byte) { items = append(items, item) })
	if err != nil {
		return err
	}
	if len(items) > 0 {
		lay.pixels, lay.fragments = items[0], items[1:]
	}
	return nil
}

// head is the tag, VR and length of an element.
type head struct {
	tag       tag.Tag
	vr        string
	value     int // where the value starts
	length    int
	undefined bool
}

func (h head) delimits(t tag.Tag) bool { return h.tag == t && h.length == 0 && !h.undefined }

// head reads tag, VR and length of an element. It returns them too with the error that says that the value is cut off.
func (g *guard) head(pos, end int, enc encoding) (head, error) {
	if g.count++; g.count > g.lim.MaxElements {
		return head{}, refuse(CodeTooLarge, "more than %d elements", g.lim.MaxElements)
	}
	if end-pos < 8 {
		return head{}, g.short(end, "an element")
	}
	b := g.data[pos:end]
	h := head{tag: tag.Tag{Group: enc.order.Uint16(b), Element: enc.order.Uint16(b[2:])}, value: pos + 8}
	length := enc.order.Uint32(b[4:])
	switch {
	case h.tag.Group == itemGroup: // items and delimiters have no VR in any transfer syntax (PS3.5 7.5)
	case enc.implicit:
		h.vr = implicitVR(h.tag)
	default:
		if h.vr = string(b[4:6]); !isKnownVR(h.vr) {
			return head{}, refuse(CodeMalformed, "element %s: no such VR", h.tag)
		}
		if !isLongVR(h.vr) {
			length = uint32(enc.order.Uint16(b[6:]))
			break
		}
		if len(b) < 12 {
			return head{}, g.short(end, "element "+h.tag.String())
		}
		length, h.value = enc.order.Uint32(b[8:]), pos+12
	}
	h.undefined = length == undefinedLength
	if !h.undefined {
		if int64(length) > int64(end-h.value) {
			return h, g.short(end, "element "+h.tag.String())
		}
		h.length = int(length)
	}
	return h, nil
}

// short is the refusal of an object that runs past end: the file's own, or that of the item around it.
func (g *guard) short(end int, object string) error {
	if end == len(g.data) {
		return refuse(CodeTruncated, "%s runs past the end of the file", object)
	}
	return refuse(CodeMalformed, "%s runs past the end of its item", object)
}

// implicitVR is the VR that the parser takes, so that both see the same sequences.
func implicitVR(t tag.Tag) string {
	info, err := tag.Find(t)
	switch {
	case err != nil:
		return "UN"
	case t == tag.PixelData || t == tag.OverlayData:
		return "OW"
	}
	return info.VRs[0]
}

// value checks what is in an element, to the given depth of nesting, and returns the place after it.
func (g *guard) value(h head, end int, enc encoding, depth int) (int, error) {
	switch {
	case h.tag.Group == itemGroup:
		return 0, refuse(CodeMalformed, "%s outside a sequence", h.tag)
	case h.vr == "SQ":
		return g.sequence(h, end, enc, depth+1)
	case !h.undefined:
		g.opaque = misread(h)
		return h.value + h.length, nil
	case h.vr == "UN" && enc.implicit:
		return g.sequence(h, end, enc, depth+1)
	case h.vr == "UN": // PS3.5 6.2.2: a sequence of unknown VR, implicit VR little endian inside
		g.foreign++
		next, err := g.sequence(h, end, encoding{binary.LittleEndian, true}, depth+1)
		g.foreign--
		g.opaque = true
		return next, err
	case h.vr == "OB" || h.vr == "OW":
		g.opaque = true
		return g.fragments(h, end, enc, func([]byte) {})
	}
	return 0, refuse(CodeMalformed, "element %s: VR %s of undefined length", h.tag, h.vr)
}

// misread says whether the parser stumbles over an element: a value that is no whole number of its units, a 16-bit length
// of FFFFH, which it takes for undefined, or a VR newer than it.
func misread(h head) bool {
	unit := 1
	switch h.vr {
	case "SV", "UV", "OV":
		return true
	case "US", "SS", "AT", "OW":
		unit = 2
	case "UL", "SL", "FL":
		unit = 4
	case "FD":
		unit = 8
	}
	return h.length%unit != 0 || h.length == 0xffff
}

func (g *guard) sequence(h head, end int, enc encoding, depth int) (int, error) {
	if depth > g.lim.MaxDepth {
		return 0, refuse(CodeTooLarge, "element %s: sequences nested deeper than %d", h.tag, g.lim.MaxDepth)
	}
	pos := h.value
	if !h.undefined {
		end = pos + h.length
		g.around = append(g.around, pos-4)
		defer func() { g.around = g.around[:len(g.around)-1] }()
	}
	for h.undefined || pos < end {
		it, err := g.head(pos, end, enc)
		switch {
		case err != nil:
			return 0, err
		case h.undefined && it.delimits(tag.SequenceDelimitationItem):
			return it.value, nil
		case it.tag != tag.Item:
			return 0, refuse(CodeMalformed, "element %s: %s in place of an item", h.tag, it.tag)
		}
		if pos, err = g.elements(it, end, enc, depth); err != nil {
			return 0, err
		}
	}
	return pos, nil
}

// elements walks the elements of an item.
func (g *guard) elements(it head, end int, enc encoding, depth int) (int, error) {
	pos := it.value
	if !it.undefined {
		end = pos + it.length
		g.around = append(g.around, pos-4)
		defer func() { g.around = g.around[:len(g.around)-1] }()
	}
	for it.undefined || pos < end {
		h, err := g.head(pos, end, enc)
		if err != nil {
			return 0, err
		}
		if it.undefined && h.delimits(tag.ItemDelimitationItem) {
			return h.value, nil
		}
		start := pos
		if pos, err = g.value(h, end, enc, depth); err != nil {
			return 0, err
		}
		if g.opaque && g.foreign == 0 {
			g.cut(start, pos)
		}
		g.opaque = false
	}
	return pos, nil
}

// fragments walks an encapsulated value: items of defined length up to a delimiter (PS3.5 A.4).
func (g *guard) fragments(h head, end int, enc encoding, yield func(item []byte)) (int, error) {
	for pos := h.value; ; {
		it, err := g.head(pos, end, enc)
		switch {
		case err != nil:
			return 0, err
		case it.delimits(tag.SequenceDelimitationItem):
			return it.value, nil
		case it.tag != tag.Item || it.undefined:
			return 0, refuse(CodeMalformed, "element %s: no fragment where one should be", h.tag)
		}
		pos = it.value + it.length
		yield(g.data[it.value:pos:pos])
	}
}
