package dicom

import (
	"bytes"
	"cmp"
	"compress/flate"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// CodeBurnedIn refuses de-identification: the header says that text is part of the pixels (BurnedInAnnotation YES).
const CodeBurnedIn Code = "burned_in"

// Deidentifier takes identities out of images by the Basic Application Level Confidentiality Profile of PS3.15 annex E with
// its Clean Descriptors Option, as an allow-list: what [keptTags] does not name is gone, private elements, overlays, curves and
// what follows the pixels included. Its methods may be called from many goroutines.
//
//   - UIDs of study, series, object and frame of reference become 2.25 UIDs, PatientID a name, both by HMAC-SHA256: so what
//     belonged together still does, and only who has the key can tell what came from where.
//   - The other identifiers that an image must have by its definition are empty; dates and times among them.
//   - Of descriptions only words for views and body parts stay, each other word becomes "_": the view is still known, by the
//     same evidence.
//
// Pixels and transfer syntax stay as they are, byte for byte.
type Deidentifier struct {
	Key    []byte // of the hashes
	Limits Limits
	// BurnedIn lets objects pass whose header says that their pixels hold text.
	BurnedIn bool
}

// UID is the replacement of a UID: a UUID of version 8 (RFC 9562) in decimal, PS3.5 B.2.
func (d Deidentifier) UID(uid string) string {
	id := d.hash("uid", uid)
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return "2.25." + new(big.Int).SetBytes(id).String()
}

// Name is the replacement of an identifier of the given kind, 32 hexadecimal digits.
func (d Deidentifier) Name(kind, id string) string { return hex.EncodeToString(d.hash(kind, id)) }

func (d Deidentifier) hash(kind, id string) []byte {
	mac := hmac.New(sha256.New, d.Key)
	fmt.Fprintf(mac, "%s\x00%s", kind, id)
	return mac.Sum(nil)[:16]
}

// Write writes the image that data holds without identities. The error is an [*Error] where the image is at fault: one that
// cannot be parsed, has no pixels or has text in them.
func (d Deidentifier) Write(w io.Writer, data []byte) error {
	f, err := Parse(data, d.Limits)
	if err != nil {
		return err
	}
	if _, err := f.Pixels(); err != nil {
		return err
	}
	if !d.BurnedIn && strings.EqualFold(f.String(tag.BurnedInAnnotation), "YES") {
		return refuse(CodeBurnedIn, "BurnedInAnnotation is YES: text is part of the pixels")
	}
	class, instance := f.String(tag.SOPClassUID), f.String(tag.SOPInstanceUID)
	if class == "" || instance == "" {
		return refuse(CodeMalformed, "no SOPClassUID or no SOPInstanceUID")
	}
	set, err := d.dataSet(f, data)
	if err != nil {
		return err
	}
	meta, err := Meta{class, d.UID(instance), f.TransferSyntaxUID}.Encode()
	if err != nil {
		return err
	}
	body := slices.Concat(set...)
	if f.TransferSyntaxUID == DeflatedExplicitVRLittleEndian {
		body = deflate(body)
	}
	if _, err := w.Write(meta); err != nil {
		return fmt.Errorf("write dicom: %w", err)
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("write dicom: %w", err)
	}
	return nil
}

func deflate(set []byte) []byte {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.DefaultCompression) // its error is that of a level that is none
	w.Write(set)
	w.Close()
	out.Write(make([]byte, out.Len()%2)) // PS3.5 A.5
	return out.Bytes()
}

// dataSet is the elements of the image without identities, encoded, in the order of their tags.
func (d Deidentifier) dataSet(f *File, data []byte) ([][]byte, error) {
	g := &guard{data: data, lim: f.lim}
	meta, pos, err := g.meta()
	if err != nil {
		return nil, err
	}
	if meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian {
		if g.data, err = inflate(data[pos:], f.lim.MaxBytes); err != nil {
			return nil, err
		}
		pos = 0
	}
	// Parse has counted the elements; here sequences are walked twice.
	g.lim.MaxElements = math.MaxInt
	elems := map[tag.Tag][]byte{}
	c := cleaner{g: g, enc: f.lay.enc}
	if err := c.top(pos, elems); err != nil {
		return nil, err
	}
	for _, e := range d.replacements(f) {
		var b bytes.Buffer
		enc := encoder{w: &b, order: c.enc.order, implicit: c.enc.implicit}
		if err := enc.element(e); err != nil {
			return nil, err
		}
		elems[e.Tag] = b.Bytes()
	}
	var tags []tag.Tag
	for t := range elems {
		tags = append(tags, t)
	}
	slices.SortFunc(tags, func(a, b tag.Tag) int { return cmp.Compare(a.Uint32(), b.Uint32()) })
	var set [][]byte
	for _, t := range tags {
		set = append(set, elems[t])
	}
	return set, nil
}

// replacements are the elements that take the place of others (PS3.15 table E.1-1: U, Z, D and, for descriptions, C), and
// those that say what was done (E.1.1).
func (d Deidentifier) replacements(f *File) []Element {
	var elems []Element
	for _, t := range emptyTags {
		elems = append(elems, Element{t, "", nil})
	}
	patient := ""
	if id := f.String(tag.PatientID); id != "" {
		patient = d.Name("patient", id)
	}
	elems = append(elems, Element{tag.PatientID, "LO", patient})
	for _, t := range uidTags {
		if uid := f.String(t); uid != "" {
			elems = append(elems, Element{t, "UI", d.UID(uid)})
		}
	}
	for _, t := range describingTags {
		if text := clean(strings.Join(f.Strings(t), " ")); text != "" {
			elems = append(elems, Element{t, "LO", text})
		}
	}
	code := func(value, meaning string) Item {
		return Item{{tag.CodeValue, "SH", value}, {tag.CodingSchemeDesignator, "SH", "DCM"}, {tag.CodeMeaning, "LO", meaning}}
	}
	return append(elems,
		Element{tag.PatientIdentityRemoved, "CS", "YES"},
		Element{tag.DeidentificationMethod, "LO", "PS3.15 basic profile by allow-list, keyed UIDs"},
		Element{tag.DeidentificationMethodCodeSequence, "SQ", []Item{
			code("113100", "Basic Application Confidentiality Profile"), code("113105", "Clean Descriptors Option")}},
		Element{tag.LongitudinalTemporalInformationModified, "CS", "REMOVED"})
}

// clean replaces each word that is no descriptor by "_". Words are parted as package cxr does, and what parts them stays
// where it is ASCII, so that the text is read as before.
func clean(text string) string {
	var out strings.Builder
	found := false
	for text = strings.ToUpper(text); text != ""; {
		n := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			n = len(text)
		}
		switch word := text[:n]; {
		case n == 0: // what parts two words
			var r rune
			r, n = utf8.DecodeRuneInString(text)
			if r < ' ' || r > '~' || r == '\\' {
				r = '_'
			}
			out.WriteRune(r)
		case slices.Contains(descriptors, word):
			out.WriteString(word)
			found = true
		default:
			out.WriteByte('_')
		}
		text = text[n:]
	}
	if !found {
		return ""
	}
	return out.String()
}

// cleaner copies the elements that may stay.
type cleaner struct {
	g   *guard
	enc encoding
}

// top copies those of the data set from pos on, up to the pixels.
func (c cleaner) top(pos int, elems map[tag.Tag][]byte) error {
	for pos < len(c.g.data) {
		h, err := c.g.head(pos, len(c.g.data), c.enc)
		if err != nil {
			return err
		}
		c.g.opaque = false
		end, err := c.g.value(h, len(c.g.data), c.enc, 0)
		if err != nil {
			return err
		}
		// What the parser was not shown nobody has read: cleaned, or beside another of its tag, it might be.
		unread := h.tag.Group < 0x5000 && (c.g.opaque || end-h.value > maxValueBytes)
		switch {
		case h.tag == tag.PixelData:
			elems[h.tag] = c.g.data[pos:end]
			return nil
		case unread || !c.stays(h):
		case h.vr != "SQ":
			elems[h.tag] = c.g.data[pos:end]
		default:
			if elems[h.tag], err = c.sequence(h, end); err != nil {
				return err
			}
		}
		pos = end
	}
	return nil
}

// sequence copies a sequence that ends at end, with what may stay of its items, and defined lengths.
func (c cleaner) sequence(h head, end int) ([]byte, error) {
	var body []byte
	for pos := h.value; pos < end; {
		item, err := c.g.head(pos, end, c.enc)
		if err != nil {
			return nil, err
		}
		if item.delimits(tag.SequenceDelimitationItem) {
			break
		}
		var kept []byte
		if kept, pos, err = c.item(item, end); err != nil {
			return nil, err
		}
		body = append(c.header(body, tag.Item, "", len(kept)), kept...)
	}
	return append(c.header(nil, h.tag, "SQ", len(body)), body...), nil
}

func (c cleaner) item(item head, end int) (kept []byte, pos int, err error) {
	pos = item.value
	if !item.undefined {
		end = pos + item.length
	}
	for pos < end {
		h, err := c.g.head(pos, end, c.enc)
		if err != nil {
			return nil, 0, err
		}
		if item.undefined && h.delimits(tag.ItemDelimitationItem) {
			return kept, h.value, nil
		}
		next, err := c.g.value(h, end, c.enc, 0)
		if err != nil {
			return nil, 0, err
		}
		switch {
		case !c.stays(h):
		case h.vr == "SQ":
			inner, err := c.sequence(h, next)
			if err != nil {
				return nil, 0, err
			}
			kept = append(kept, inner...)
		default:
			kept = append(kept, c.g.data[pos:next]...)
		}
		pos = next
	}
	return kept, pos, nil
}

func (c cleaner) header(dst []byte, t tag.Tag, vr string, length int) []byte {
	var b bytes.Buffer
	enc := encoder{w: &b, order: c.enc.order, implicit: c.enc.implicit}
	enc.header(t, vr, uint32(length)) // SQ and items have 32-bit lengths, and a buffer takes all
	return append(dst, b.Bytes()...)
}

// stays says whether an element may: its tag must be on the list and its value of the kind that the list was made for.
func (c cleaner) stays(h head) bool {
	if !slices.Contains(keptTags, h.tag) {
		return false
	}
	info, err := tag.Find(h.tag)
	if err != nil { // the tables of PS3.3 C.7.6.3.1.8, newer than the dictionary
		return isBulkVR(h.vr) && !h.undefined
	}
	known := info.VRs[0]
	sequence, text := known == "SQ", isTextVR(known)
	switch {
	case sequence || h.vr == "SQ" || h.undefined:
		return sequence && h.vr == "SQ"
	case h.vr != "UN" && text != isTextVR(h.vr):
		return false
	case known == "DS" || known == "IS":
		return len(bytes.Trim(c.g.data[h.value:h.value+h.length], "0123456789+-.eE\\ \x00")) == 0
	}
	return true
}
