package pacs

import (
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs/upper"
)

// The SOP classes of the services (PS3.4 A.4, C.6.2, J.3.2, PS3.6 table A-1).
const (
	Verification      = "1.2.840.10008.1.1"
	StorageCommitment = "1.2.840.10008.1.20.1"
	StudyRootFind     = "1.2.840.10008.5.1.4.1.2.2.1"
	StudyRootMove     = "1.2.840.10008.5.1.4.1.2.2.2"

	commitmentInstance = "1.2.840.10008.1.20.1.1" // the well-known one (PS3.4 J.3.5)
)

// stored are the SOP classes that are received: computed and digital radiographs, and the secondary captures in which real
// collections carry them (PS3.4 B.5).
var stored = map[string]bool{
	"1.2.840.10008.5.1.4.1.1.1":     true, // Computed Radiography Image
	"1.2.840.10008.5.1.4.1.1.1.1":   true, // Digital X-Ray Image, for presentation
	"1.2.840.10008.5.1.4.1.1.1.1.1": true, // Digital X-Ray Image, for processing: refused as such later, by name
	"1.2.840.10008.5.1.4.1.1.7":     true, // Secondary Capture Image
	"1.2.840.10008.5.1.4.1.1.7.1":   true, // Multi-frame Single Bit Secondary Capture Image
	"1.2.840.10008.5.1.4.1.1.7.2":   true, // Multi-frame Grayscale Byte Secondary Capture Image
	"1.2.840.10008.5.1.4.1.1.7.3":   true, // Multi-frame Grayscale Word Secondary Capture Image
	"1.2.840.10008.5.1.4.1.1.7.4":   true, // Multi-frame True Color Secondary Capture Image
}

// uncompressed are the syntaxes for data sets without pixels, the better one first.
var uncompressed = []string{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian}

// negotiate answers a proposed presentation context. Objects are taken in the first syntax of the sender's that this project
// decodes, so that nobody has to convert; failing that in the first that the standard knows.
func (s *Server) negotiate(c upper.Context, r *upper.Role) (answer upper.Context, role *upper.Role) {
	answer = upper.Context{ID: c.ID, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}, Result: upper.AbstractSyntaxNotSupported}
	usable := func(syntax string) bool { return syntax == uncompressed[0] || syntax == uncompressed[1] }
	switch {
	case c.AbstractSyntax == Verification:
	case c.AbstractSyntax == StorageCommitment:
		// A peer that is the SCP brings the result of a commitment that we asked for.
		if r != nil && r.SCP && !r.SCU && s.opt.Committed == nil {
			return answer, nil
		}
		if r != nil {
			role = &upper.Role{SOPClass: r.SOPClass, SCU: r.SCU, SCP: r.SCP && s.opt.Committed != nil}
		}
	case stored[c.AbstractSyntax]:
		usable = dicom.Readable
	default:
		return answer, nil
	}
	answer.Result = upper.TransferSyntaxesNotSupported
	known := func(syntax string) bool { return stored[c.AbstractSyntax] && dicom.SyntaxName(syntax) != "" }
	for _, fits := range []func(string) bool{usable, known} {
		for _, syntax := range c.TransferSyntaxes {
			if fits(syntax) {
				answer.TransferSyntaxes[0], answer.Result = syntax, upper.Accepted
				return answer, role
			}
		}
	}
	return answer, nil
}
