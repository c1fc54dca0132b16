package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// The file meta information names the software that wrote a file (PS3.10 7.1), and an association that at either end (PS3.7
// D.3.3.2).
const (
	ImplementationClassUID    = "2.25.267311986320411520842951230415087125917"
	ImplementationVersionName = "MVMAE_1"
)

// Meta is what the file meta information says of the object that follows it (PS3.10 7.1).
type Meta struct {
	SOPClassUID       string
	SOPInstanceUID    string
	TransferSyntaxUID string
}

// ReadMeta reads the head of a Part 10 file: preamble and file meta information, which must be whole in it. It returns the
// place of the data set too. A field that is not there is empty, but for the transfer syntax.
func ReadMeta(head []byte) (Meta, int, error) {
	g := &guard{data: head, lim: DefaultLimits()}
	return g.meta()
}

// Encode is what makes a Part 10 file of a data set that follows it: preamble and group 2, always explicit VR little endian.
// Equal fields give equal bytes.
func (m Meta) Encode() ([]byte, error) {
	var body bytes.Buffer
	enc := encoder{w: &body, order: binary.LittleEndian}
	for _, e := range []Element{
		{tag.FileMetaInformationVersion, "OB", []byte{0, 1}},
		{tag.MediaStorageSOPClassUID, "UI", m.SOPClassUID},
		{tag.MediaStorageSOPInstanceUID, "UI", m.SOPInstanceUID},
		{tag.TransferSyntaxUID, "UI", m.TransferSyntaxUID},
		{tag.ImplementationClassUID, "UI", ImplementationClassUID},
		{tag.ImplementationVersionName, "SH", ImplementationVersionName},
	} {
		if err := enc.element(e); err != nil {
			return nil, err
		}
	}
	var head bytes.Buffer
	head.Write(make([]byte, preambleBytes))
	head.WriteString(magic)
	enc.w = &head
	length := Element{tag.FileMetaInformationGroupLength, "UL", []uint32{uint32(body.Len())}}
	if err := enc.element(length); err != nil {
		return nil, err
	}
	return append(head.Bytes(), body.Bytes()...), nil
}

// identify finds what the file meta information repeats of a data set.
func identify(elems []Element) (m Meta, err error) {
	class, instance := false, false
	for _, e := range elems {
		switch {
		case e.Tag.Group <= 2:
			return m, fmt.Errorf("element %s: groups 0 and 2 are not the caller's", e.Tag)
		case e.Tag == tag.SOPClassUID:
			m.SOPClassUID, class = oneText(e.Value)
		case e.Tag == tag.SOPInstanceUID:
			m.SOPInstanceUID, instance = oneText(e.Value)
		}
	}
	if !class || !instance {
		return m, fmt.Errorf("no SOPClassUID or no SOPInstanceUID")
	}
	return m, nil
}

func oneText(value any) (text string, ok bool) {
	if list, several := value.([]string); several {
		return strings.Join(list, `\`), true
	}
	text, ok = value.(string)
	return text, ok
}
