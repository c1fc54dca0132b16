package peers

import "strings"

// knownEncoderFailure lists what the encoders cannot encode: GDCM's RLE stops at an assertion where a row or a plane has an
// odd number of bytes.
func knownEncoderFailure(f File) bool { return f.Encoder == "gdcm" && f.Arc() == ".5" }

// knownPeerFault lists where a peer is wrong: JPEG-LS has no signs, so 12 bits of a signed image must be sign-extended, which
// DCMTK and we do (the result is the source), and pydicom's two plug-ins do not.
func knownPeerFault(f File, peer string) bool {
	return f.Arc() == ".80" && strings.HasSuffix(f.Base, "-12s") && peer != "dcmtk"
}
