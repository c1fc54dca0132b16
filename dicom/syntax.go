package dicom

import "github.com/suyashkumar/dicom/pkg/uid"

// The native transfer syntaxes (PS3.5 A.1, A.2, A.3, A.5): all that [Parse] accepts.
const (
	ImplicitVRLittleEndian         = "1.2.840.10008.1.2"
	ExplicitVRLittleEndian         = "1.2.840.10008.1.2.1"
	DeflatedExplicitVRLittleEndian = "1.2.840.10008.1.2.1.99"
	ExplicitVRBigEndian            = "1.2.840.10008.1.2.2"
)

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
	case "1.2.840.10008.1.2.4.201":
		return "High-Throughput JPEG 2000 Lossless"
	case "1.2.840.10008.1.2.4.202":
		return "High-Throughput JPEG 2000 with RPCL Lossless"
	case "1.2.840.10008.1.2.4.203":
		return "High-Throughput JPEG 2000"
	}
	info, err := uid.Lookup(transferSyntaxUID)
	if err != nil || info.Type != uid.TypeTransferSyntax {
		return ""
	}
	return info.Name
}
