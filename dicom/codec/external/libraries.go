package external

// Library is a C library that mvmae-codec links, where it is built with it.
type Library string

const (
	CharLS   Library = "CharLS"   // JPEG-LS
	OpenJPEG Library = "OpenJPEG" // JPEG 2000 and HTJ2K, since 2.5
)

// Versions is what "mvmae-codec versions" prints: empty for a library that it was built without.
type Versions struct {
	CharLS   string `json:"charls"`
	OpenJPEG string `json:"openjpeg"`
}

// The transfer syntaxes decoded here.
var syntaxes = map[string]Library{
	"1.2.840.10008.1.2.4.80":  CharLS,
	"1.2.840.10008.1.2.4.81":  CharLS,
	"1.2.840.10008.1.2.4.90":  OpenJPEG,
	"1.2.840.10008.1.2.4.91":  OpenJPEG,
	"1.2.840.10008.1.2.4.201": OpenJPEG,
	"1.2.840.10008.1.2.4.202": OpenJPEG,
	"1.2.840.10008.1.2.4.203": OpenJPEG,
}

// LibraryFor is the library that decodes a transfer syntax, "" for one that is not decoded here.
func LibraryFor(transferSyntaxUID string) Library { return syntaxes[transferSyntaxUID] }
