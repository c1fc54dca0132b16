package dicom

import (
	"bytes"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// span is a part of the data set.
type span struct{ from, to int }

// decides says whether a sequence decides what an image is or how it looks. Leaving one out would change the answer in
// silence.
func decides(t tag.Tag) bool {
	switch t {
	case tag.AnatomicRegionSequence, tag.ViewCodeSequence, tag.ModalityLUTSequence, tag.VOILUTSequence:
		return true
	}
	return false
}

// keep appends the top-level element at pos to header, without what was cut out of it.
func (g *guard) keep(header []byte, pos, end int, enc encoding) []byte {
	element := g.data[pos:end]
	if len(g.cuts) > 0 {
		element = bytes.Clone(element) // the file is the caller's
	}
	for at, n := range g.shrunk {
		length := element[at-pos:]
		enc.order.PutUint32(length, enc.order.Uint32(length)-uint32(n))
	}
	from := pos
	for _, c := range g.cuts { // in the order of the file
		header = append(header, element[from-pos:c.from-pos]...)
		from = c.to
	}
	return append(header, element[from-pos:]...)
}

// cut takes the element from..to out of the sequences and items around it.
func (g *guard) cut(from, to int) {
	g.cuts = append(g.cuts, span{from, to})
	if g.shrunk == nil {
		g.shrunk = map[int]int{}
	}
	for _, at := range g.around {
		g.shrunk[at] += to - from
	}
}
