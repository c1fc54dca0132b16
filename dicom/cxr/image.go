package cxr

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// Image is one radiograph, ready to be packed or classified.
type Image struct {
	// Stored is the 8-bit picture, [StoredSize, StoredSize], row-major. Input makes the model's input of it.
	Stored   []byte
	View     View
	Evidence Evidence
	Flags    []string // Flag..., in the order of their declaration

	// The identifiers as they are in the file, for grouping only: never log them. Empty for a picture.
	StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID, PatientID string

	Rows, Columns     int    // of the file's image
	BitsStored        int    // width of its stored values
	Photometric       string // PhotometricInterpretation, or the kind of picture
	TransferSyntaxUID string // empty for a picture
}

// The flags of an image: it was accepted, and this is worth knowing. docs/dicom-flags.md says how often they are wrong.
const (
	FlagNoBodyPart   = "no_body_part"  // nothing in the header says that this is a chest
	FlagViewConflict = "view_conflict" // another part of the header names another view than the one taken
	FlagBurnedIn     = "burned_in"     // text is part of the pixels: the header says so, or a line of six letters can be seen
	FlagColour       = "colour"        // the luma of a colour image was taken
	FlagConstant     = "constant"      // all pixels have one value
	FlagLowContrast  = "low_contrast"  // nearly all pixels lie in an eighth of the values that the brightest and the darkest span
	FlagTiny         = "tiny"          // one side has fewer pixels than the model's input; no more is read from its pixels
	FlagCropped      = "cropped"       // an eighth is empty above and below, or one side is twice as long as the other
	FlagInverted     = "inverted"      // the picture looks like the negative of a chest
	FlagRotated      = "rotated"       // it looks like a chest that lies on its side or is upside down
	FlagViewMismatch = "view_mismatch" // it looks like the other view than the header's
)

// Refusal says why a file must not be classified. Code is stable; Detail holds no patient data.
type Refusal struct{ Code, Detail string }

func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

// Hint is the cure, where there is one. Package hint finds it.
func (r *Refusal) Hint() string {
	switch r.Code {
	case string(dicom.CodeNotDICOM):
		return "give a DICOM Part 10 file, a PNG or a JPEG"
	case string(dicom.CodeTruncated):
		return "copy the file again: its end is missing"
	case string(dicom.CodeUnsupportedSyntax):
		return "store it uncompressed first, for instance with gdcmconv --raw; for JPEG-LS and JPEG 2000 \"make codecs build\" builds mvmae-codec with its libraries"
	case CodeForProcessing:
		return "send the image FOR PRESENTATION of the same exposure"
	case CodeModality, CodeBodyPart, CodeNotImage:
		return "only chest radiographs are read"
	}
	return ""
}

// The codes of this package; the other ones are dicom.Code.
const (
	CodeNotImage      = "not_an_image"      // a report, a presentation state, a key object selection
	CodeModality      = "wrong_modality"    // no projection radiograph
	CodeBodyPart      = "not_chest"         // the header names another body part
	CodeForProcessing = "for_processing"    // raw detector data
	CodePicture       = "malformed_picture" // neither a PNG nor a JPEG that can be decoded
)

// refusal turns the errors of package dicom into a Refusal.
func refusal(err error) error {
	var e *dicom.Error
	if errors.As(err, &e) {
		return &Refusal{string(e.Code), e.Detail}
	}
	return err
}

// Options is how files are read. Modalities are the ones accepted; nil means CR and DX. DR and RG, which older devices
// write, can be added.
type Options struct {
	Recipe     Recipe
	Limits     dicom.Limits
	Modalities []string
	// Codecs decode the transfer syntaxes that package codec does not; nil refuses those by name.
	Codecs codec.Decoders
	// Done, where it is set, hears when a part of the reading of a file is over; the recipe is what follows Decoded.
	Done func(Part)
}

// Part is a part of the reading of a file.
type Part int

// The parts, in their order.
const (
	Parsed Part = iota
	Decoded
)

func (o Options) done(p Part) {
	if o.Done != nil {
		o.Done(p)
	}
}

// FromDICOM reads a Part 10 file. Its errors are of type [*Refusal].
func FromDICOM(data []byte, r Recipe, lim dicom.Limits) (*Image, error) {
	return Options{Recipe: r, Limits: lim}.FromDICOM(data)
}

// FromDICOM is the function of that name, with all options.
func (o Options) FromDICOM(data []byte) (*Image, error) {
	f, err := dicom.Parse(data, o.Limits)
	if err != nil {
		return nil, refusal(err)
	}
	o.done(Parsed)
	return o.FromFile(f)
}

// FromFile is FromDICOM for a file that is parsed already, by package dicom with the same limits.
func (o Options) FromFile(f *dicom.File) (*Image, error) {
	named, err := fitness(f.Header, o.Modalities)
	if err != nil {
		return nil, err
	}
	pixels, err := f.Pixels()
	if err != nil {
		return nil, refusal(err)
	}
	plane, err := o.decode(pixels, f.Header)
	if err != nil {
		return nil, refusal(err)
	}
	o.done(Decoded)
	img, err := o.Recipe.image(plane, f.Header)
	if err != nil {
		return nil, refusal(err)
	}
	if !named {
		img.Flags = append([]string{FlagNoBodyPart}, img.Flags...)
	}
	img.StudyInstanceUID = f.String(tag.StudyInstanceUID)
	img.SeriesInstanceUID = f.String(tag.SeriesInstanceUID)
	img.SOPInstanceUID = f.String(tag.SOPInstanceUID)
	img.PatientID = f.String(tag.PatientID)
	img.BitsStored = pixels.BitsStored // of which a reduced plane may need more
	img.Photometric, img.TransferSyntaxUID = pixels.Photometric, f.TransferSyntaxUID
	return img, nil
}

// image applies the recipe to a plane. h is nil for a picture.
func (r Recipe) image(p *codec.Plane, h dicom.Header) (*Image, error) {
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	contrast, err := r.table(p, h, w)
	if err != nil {
		return nil, err
	}
	rows, columns := p.Full()
	img := &Image{Stored: store(p, w, r.Fit), Rows: rows, Columns: columns, BitsStored: p.BitsStored()}
	img.View, img.Evidence = Unknown, EvidenceNone
	var conflict bool
	if h != nil {
		img.View, img.Evidence, conflict = viewOf(h)
	}
	tiny := min(rows, columns) < CropSize
	var look seen
	var cropped, text bool
	if !tiny && contrast > 0 {
		text = lettered(img.Stored)
		look = glimpse(img.Stored)
		cropped = max(rows, columns) >= 2*min(rows, columns) || contrast >= lowContrast && bordered(img.Stored)
	}
	for _, f := range [...]struct {
		flag string
		is   bool
	}{
		{FlagViewConflict, conflict},
		{FlagBurnedIn, text || strings.EqualFold(h.String(tag.BurnedInAnnotation), "YES")},
		{FlagColour, p.Colour},
		{FlagConstant, contrast == 0},
		{FlagLowContrast, 0 < contrast && contrast < lowContrast},
		{FlagTiny, tiny},
		{FlagCropped, cropped},
		{FlagInverted, look.inverted},
		{FlagRotated, look.rotated},
		{FlagViewMismatch, look.contradicts(img.View)},
	} {
		if f.is {
			img.Flags = append(img.Flags, f.flag)
		}
	}
	return img, nil
}

// Recipe is how stored values become the stored picture. See the package's documentation.
type Recipe struct {
	Name string // "mimic" or "display"
	Fit  bool   // keep the aspect ratio
}

// The recipes by name.
var (
	Mimic   = Recipe{Name: "mimic"}
	Display = Recipe{Name: "display"}
)

// ParseRecipe reads what String writes: "mimic", "display", either with "+fit".
func ParseRecipe(s string) (Recipe, error) {
	name, fit := strings.CutSuffix(s, "+fit")
	if name != Mimic.Name && name != Display.Name {
		return Recipe{}, fmt.Errorf("recipe %q is none of mimic, display, mimic+fit, display+fit", s)
	}
	return Recipe{name, fit}, nil
}

func (r Recipe) String() string {
	if r.Fit {
		return r.Name + "+fit"
	}
	return r.Name
}
