package dicom

import (
	"fmt"

	"github.com/suyashkumar/dicom/pkg/uid"
)

// The transfer syntaxes that [Parse] accepts: the native ones (PS3.5 A.1, A.2, A.3, A.5) and those whose pixels are a code
// stream per frame in fragments (PS3.5 A.4).
const (
	ImplicitVRLittleEndian         = "1.2.840.10008.1.2"
	ExplicitVRLittleEndian         = "1.2.840.10008.1.2.1"
	DeflatedExplicitVRLittleEndian = "1.2.840.10008.1.2.1.99"
	ExplicitVRBigEndian            = "1.2.840.10008.1.2.2"

	RLELossless        = "1.2.840.10008.1.2.5"
	JPEGBaseline       = "1.2.840.10008.1.2.4.50"
	JPEGExtended       = "1.2.840.10008.1.2.4.51"
	JPEGLossless       = "1.2.840.10008.1.2.4.57"
	JPEGLosslessSV1    = "1.2.840.10008.1.2.4.70"
	JPEGLSLossless     = "1.2.840.10008.1.2.4.80"
	JPEGLSNearLossless = "1.2.840.10008.1.2.4.81"
	JPEG2000Lossless   = "1.2.840.10008.1.2.4.90"
	JPEG2000           = "1.2.840.10008.1.2.4.91"
	HTJ2KLossless      = "1.2.840.10008.1.2.4.201"
	HTJ2KLosslessRPCL  = "1.2.840.10008.1.2.4.202"
	HTJ2K              = "1.2.840.10008.1.2.4.203"
)

// encapsulates says whether the pixels of a transfer syntax are fragments of a code stream. Their data set is explicit VR
// little endian.
func encapsulates(transferSyntaxUID string) bool {
	switch transferSyntaxUID {
	case RLELossless, JPEGBaseline, JPEGExtended, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless,
		JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K:
		return true
	}
	return false
}

// Readable says whether [Parse] reads files of a transfer syntax.
func Readable(transferSyntaxUID string) bool {
	switch transferSyntaxUID {
	case ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian:
		return true
	}
	return encapsulates(transferSyntaxUID)
}

// UnsupportedSyntax is the refusal of a transfer syntax, by its name.
func UnsupportedSyntax(transferSyntaxUID string) *Error {
	if name := SyntaxName(transferSyntaxUID); name != "" {
		return &Error{Code: CodeUnsupportedSyntax, Detail: fmt.Sprintf("%s (%s)", name, transferSyntaxUID)}
	}
	return &Error{Code: CodeUnsupportedSyntax, Detail: "unknown transfer syntax"} // not quoted: it may be anything
}

// SyntaxName is the name of a transfer syntax UID in PS3.6 table A-1, or "" for one that is not there.
func SyntaxName(transferSyntaxUID string) string {
	// The parser's dictionary is older than these.
	switch transferSyntaxUID {
	case "1.2.840.10008.1.2.8.1":
		return "Deflated Image Frame Compression"
	case "1.2.840.10008.1.2.4.110":
		return "JPEG XL Lossless"
	case "1.2.840.10008.1.2.4.111":
		return "JPEG XL JPEG Recompression"
	case "1.2.840.10008.1.2.4.112":
		return "JPEG XL"
	case HTJ2KLossless:
		return "High-Throughput JPEG 2000 Lossless"
	case HTJ2KLosslessRPCL:
		return "High-Throughput JPEG 2000 with RPCL Lossless"
	case HTJ2K:
		return "High-Throughput JPEG 2000"
	}
	info, err := uid.Lookup(transferSyntaxUID)
	if err != nil || info.Type != uid.TypeTransferSyntax {
		return ""
	}
	return info.Name
}
