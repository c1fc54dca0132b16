package dicom

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// Item is one item of a sequence (VR SQ).
type Item = []Element

// Element is one data element to write. VR may be empty for a tag of the standard's dictionary, whose first VR is then
// taken. Value is one of
//
//	string, []string           text VRs; several values are joined with a backslash
//	int, uint16, []int,        US, SS, UL, SL, AT (as group, element pairs)
//	[]uint16, []uint32
//	float64, []float64         FL, FD
//	[]byte                     OB, OW, UN and the other bulk VRs: written as they are
//	[]uint16                   OW: in the byte order of the transfer syntax
//	[]Item                     SQ
//	nil                        an empty value of any VR
type Element struct {
	Tag   tag.Tag
	VR    string
	Value any
}

const undefinedLength = math.MaxUint32

// Write writes a Part 10 file: preamble, file meta information made from SOPClassUID and SOPInstanceUID of elems, and
// elems sorted by tag. Text is padded to even length with a space (UI with a zero byte), bytes with a zero byte; it is
// written as it is, so non-ASCII text needs a SpecificCharacterSet of ISO_IR 192.
//
// The four native transfer syntaxes are encoded as they ask. Any other UID means explicit VR little endian with the
// []byte of PixelData as the single fragment of an encapsulated frame (PS3.5 A.4).
func Write(w io.Writer, transferSyntaxUID string, elems []Element) error {
	meta, err := identify(elems)
	if err != nil {
		return fmt.Errorf("write dicom: %w", err)
	}
	meta.TransferSyntaxUID = transferSyntaxUID
	head, err := meta.Encode()
	if err != nil {
		return fmt.Errorf("write dicom: %w", err)
	}
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("write dicom: %w", err)
	}
	return WriteDataSet(w, transferSyntaxUID, elems)
}

// WriteDataSet writes what follows the file meta information: a data set as it travels in a DIMSE message.
func WriteDataSet(w io.Writer, transferSyntaxUID string, elems []Element) error {
	sorted, err := sortElements(elems)
	if err != nil {
		return fmt.Errorf("write dicom: %w", err)
	}
	bw := bufio.NewWriter(w)
	enc := encoder{w: bw, order: binary.LittleEndian}
	var deflated bytes.Buffer
	var deflater *flate.Writer
	switch transferSyntaxUID {
	case ExplicitVRLittleEndian:
	case ImplicitVRLittleEndian:
		enc.implicit = true
	case ExplicitVRBigEndian:
		enc.order = binary.BigEndian
	case DeflatedExplicitVRLittleEndian:
		// The level is one of the constants that NewWriter accepts, so its error cannot be.
		deflater, _ = flate.NewWriter(&deflated, flate.DefaultCompression)
		enc.w = deflater
	default:
		enc.encapsulated = true
	}
	for _, e := range sorted {
		if err := enc.element(e); err != nil {
			return fmt.Errorf("write dicom: %w", err)
		}
	}
	if deflater != nil {
		deflater.Close() // a bytes.Buffer takes all
		bw.Write(deflated.Bytes())
		bw.Write(make([]byte, deflated.Len()%2)) // PS3.5 A.5
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write dicom: %w", err)
	}
	return nil
}

func sortElements(elems []Element) ([]Element, error) {
	sorted := slices.Clone(elems)
	slices.SortFunc(sorted, func(a, b Element) int { return cmp.Compare(a.Tag.Uint32(), b.Tag.Uint32()) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Tag == sorted[i-1].Tag {
			return nil, fmt.Errorf("element %s: given twice", sorted[i].Tag)
		}
	}
	return sorted, nil
}

// byteOrder both appends and puts; encoding/binary's two orders are such.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

type encoder struct {
	w            io.Writer
	order        byteOrder
	implicit     bool
	encapsulated bool // PixelData goes out as a fragment
}

func (enc *encoder) element(e Element) error {
	vr, err := elementVR(e)
	if err != nil {
		return err
	}
	if enc.encapsulated && e.Tag == tag.PixelData {
		return enc.fragment(e)
	}
	value, err := enc.value(vr, e.Value)
	if err != nil {
		return fmt.Errorf("element %s, VR %s: %w", e.Tag, vr, err)
	}
	odd := len(value) % 2
	if uint64(len(value)+odd) >= undefinedLength {
		return fmt.Errorf("element %s: %d bytes do not fit a 32-bit length", e.Tag, len(value))
	}
	if err := enc.header(e.Tag, vr, uint32(len(value)+odd)); err != nil {
		return err
	}
	if _, err := enc.w.Write(value); err != nil {
		return err
	}
	if odd == 0 {
		return nil
	}
	pad := []byte{' '}
	if vr == "UI" || isBulkVR(vr) {
		pad[0] = 0
	}
	_, err = enc.w.Write(pad)
	return err
}

// header writes tag, VR and length (PS3.5 7.1.2, 7.1.3).
func (enc *encoder) header(t tag.Tag, vr string, length uint32) error {
	b := make([]byte, 0, 12)
	b = enc.order.AppendUint16(b, t.Group)
	b = enc.order.AppendUint16(b, t.Element)
	switch {
	case enc.implicit || t.Group == itemGroup:
		b = enc.order.AppendUint32(b, length)
	case isLongVR(vr):
		b = append(b, vr[0], vr[1], 0, 0)
		b = enc.order.AppendUint32(b, length)
	case length > math.MaxUint16-1:
		return fmt.Errorf("element %s: %d bytes do not fit the 16-bit length of VR %s", t, length, vr)
	default:
		b = append(b, vr[0], vr[1])
		b = enc.order.AppendUint16(b, uint16(length))
	}
	_, err := enc.w.Write(b)
	return err
}

// fragment writes the pixels as a sequence of an empty offset table and one item (PS3.5 A.4).
func (enc *encoder) fragment(e Element) error {
	pixels, ok := e.Value.([]byte)
	if !ok {
		return fmt.Errorf("element %s: encapsulated pixels must be []byte, not %T", e.Tag, e.Value)
	}
	odd := len(pixels) % 2
	tail := slices.Concat(make([]byte, odd), []byte{0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0})
	if err := enc.header(e.Tag, "OB", undefinedLength); err != nil {
		return err
	}
	if err := enc.header(tag.Item, "", 0); err != nil {
		return err
	}
	if err := enc.header(tag.Item, "", uint32(len(pixels)+odd)); err != nil {
		return err
	}
	if _, err := enc.w.Write(pixels); err != nil {
		return err
	}
	_, err := enc.w.Write(tail)
	return err
}

// value encodes v without its padding; []byte is returned as it is, so pixels are not copied.
func (enc *encoder) value(vr string, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []Item:
		if vr != "SQ" {
			break
		}
		return enc.sequence(v)
	case []byte:
		if !isBulkVR(vr) {
			break
		}
		return v, nil
	case string:
		if isTextVR(vr) {
			return []byte(v), nil
		}
	case []string:
		if isTextVR(vr) {
			return []byte(strings.Join(v, `\`)), nil
		}
	case int:
		return appendInts(enc.order, vr, []int{v})
	case uint16:
		return appendInts(enc.order, vr, []uint16{v})
	case []int:
		return appendInts(enc.order, vr, v)
	case []uint16:
		return appendInts(enc.order, vr, v)
	case []uint32:
		return appendInts(enc.order, vr, v)
	case float64:
		return appendFloats(enc.order, vr, []float64{v})
	case []float64:
		return appendFloats(enc.order, vr, v)
	}
	return nil, fmt.Errorf("cannot hold a value of type %T", v)
}

// sequence encodes items with defined lengths (PS3.5 7.5.1).
func (enc *encoder) sequence(items []Item) ([]byte, error) {
	var all bytes.Buffer
	outer := *enc
	outer.w = &all
	outer.encapsulated = false // an icon inside a compressed object may be native
	for i, item := range items {
		sorted, err := sortElements(item)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		var body bytes.Buffer
		inner := outer
		inner.w = &body
		for _, e := range sorted {
			if err := inner.element(e); err != nil {
				return nil, fmt.Errorf("item %d: %w", i, err)
			}
		}
		if err := outer.header(tag.Item, "", uint32(body.Len())); err != nil {
			return nil, err
		}
		all.Write(body.Bytes())
	}
	return all.Bytes(), nil
}

func appendInts[T int | uint16 | uint32](order byteOrder, vr string, values []T) ([]byte, error) {
	lo, hi, size := int64(0), int64(0), 0
	switch vr {
	case "US", "AT", "OW":
		hi, size = math.MaxUint16, 2
	case "SS":
		lo, hi, size = math.MinInt16, math.MaxInt16, 2
	case "UL", "OL":
		hi, size = math.MaxUint32, 4
	case "SL":
		lo, hi, size = math.MinInt32, math.MaxInt32, 4
	default:
		return nil, fmt.Errorf("cannot hold integers")
	}
	out := make([]byte, 0, len(values)*size)
	for _, v := range values {
		if int64(v) < lo || int64(v) > hi {
			return nil, fmt.Errorf("cannot hold a value outside [%d, %d]", lo, hi)
		}
		if size == 2 {
			out = order.AppendUint16(out, uint16(v))
		} else {
			out = order.AppendUint32(out, uint32(v))
		}
	}
	return out, nil
}

func appendFloats(order byteOrder, vr string, values []float64) ([]byte, error) {
	if vr != "FL" && vr != "FD" {
		return nil, fmt.Errorf("cannot hold floating-point values")
	}
	var out []byte
	for _, v := range values {
		if vr == "FL" {
			out = order.AppendUint32(out, math.Float32bits(float32(v)))
		} else {
			out = order.AppendUint64(out, math.Float64bits(v))
		}
	}
	return out, nil
}

// elementVR is the VR given, else the dictionary's; pixels default to OW (PS3.5 8.1.2).
func elementVR(e Element) (string, error) {
	vr := e.VR
	if vr == "" {
		if e.Tag == tag.PixelData {
			return "OW", nil
		}
		info, err := tag.Find(e.Tag)
		if err != nil {
			return "", fmt.Errorf("element %s: no VR given and none known", e.Tag)
		}
		vr = info.VRs[0]
	}
	if !isKnownVR(vr) {
		return "", fmt.Errorf("element %s: unknown VR %q", e.Tag, vr)
	}
	return vr, nil
}
