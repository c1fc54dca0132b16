package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// File is a parsed file. Its header holds the elements of the standard below group 5000; what nothing here needs is left
// out: private elements, overlays and curves, values of more than 1 MiB, and what the parser would misread (compressed
// icons, sequences of unknown VR that the dictionary does not know either, VRs newer than it), there alone where it is in a
// sequence. An element of VR UN is what the dictionary says it is (PS3.5 6.2.2).
type File struct {
	Header
	TransferSyntaxUID string

	lay *layout
	lim Limits
}

// Parse reads a Part 10 file. It keeps a reference to data, whose pixels are neither copied nor changed. Its errors are
// of type [*Error].
func Parse(data []byte, lim Limits) (*File, error) {
	lim = lim.withDefaults()
	lay, err := inspect(data, lim, inflate)
	if err != nil {
		return nil, err
	}
	h, err := lay.parse()
	if err != nil {
		return nil, err
	}
	return &File{Header: h, TransferSyntaxUID: lay.syntax, lay: lay, lim: lim}, nil
}

// parse reads the elements that the guard let through.
func (lay *layout) parse() (Header, error) {
	syntax := lay.syntax
	if syntax == DeflatedExplicitVRLittleEndian || lay.encapsulated {
		syntax = ExplicitVRLittleEndian
	}
	elems, err := parseHeader(syntax, lay.header)
	if err == nil && len(lay.hidden) > 0 {
		var more []*dicom.Element
		more, err = parseHeader(ImplicitVRLittleEndian, lay.hidden)
		elems = append(elems, more...)
	}
	if err != nil {
		return nil, &Error{CodeMalformed, "the header cannot be parsed", err}
	}
	h, duplicate := newHeader(elems)
	if duplicate != nil {
		return nil, refuse(CodeMalformed, "element %s is there twice", duplicate)
	}
	return h, nil
}

// parseHeader hands the elements that the guard let through to the parser, as a file of its own: so the parser sees
// neither pixels nor file meta information nor a deflate stream.
func parseHeader(syntax string, header []byte) (elems []*dicom.Element, err error) {
	defer func() {
		// The parser panics on values of an unexpected kind, for one.
		if r := recover(); r != nil {
			elems, err = nil, fmt.Errorf("parser: %v", r)
		}
	}()
	var meta bytes.Buffer
	enc := encoder{w: &meta, order: binary.LittleEndian}
	if err := enc.element(Element{tag.TransferSyntaxUID, "UI", syntax}); err != nil {
		return nil, err
	}
	var file bytes.Buffer
	file.Grow(preambleBytes + 64 + len(header))
	file.Write(make([]byte, preambleBytes))
	file.WriteString(magic)
	enc.w = &file
	if err := enc.element(Element{tag.FileMetaInformationGroupLength, "UL", meta.Len()}); err != nil {
		return nil, err
	}
	file.Write(meta.Bytes())
	file.Write(header)
	set, err := dicom.Parse(&file, int64(file.Len()), nil,
		dicom.SkipPixelData(), dicom.SkipProcessingPixelDataValue(), dicom.AllowUnknownSpecificCharacterSet())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(set.Elements, func(e *dicom.Element) bool { return e.Tag.Group == tag.MetadataGroup }), nil
}
