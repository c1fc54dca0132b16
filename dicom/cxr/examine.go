package cxr

import "github.com/mvmae/mvmae/dicom"

// Examine says by the header alone what FromDICOM would say of a file's fitness and view: a *Refusal for what is no chest
// radiograph, else the view and how it is known. An index is made so, without decoding a pixel.
func Examine(f *dicom.File) (View, Evidence, error) {
	if _, err := fitness(f.Header, nil); err != nil {
		return Unknown, EvidenceNone, err
	}
	view, evidence, _ := viewOf(f.Header)
	return view, evidence, nil
}
