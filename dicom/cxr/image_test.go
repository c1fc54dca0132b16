package cxr

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

func TestMimic_MatchesThePlainReferenceByteForByte(t *testing.T) {
	for i, c := range []struct {
		rows, columns, lo, hi, bits int
		photometric, syntax         string
		fit                         bool
	}{
		{301, 263, 0, 4095, 12, "MONOCHROME2", dicom.ExplicitVRLittleEndian, false},
		{263, 301, 100, 900, 10, "MONOCHROME1", dicom.ImplicitVRLittleEndian, false},
		{512, 256, 0, 255, 8, "MONOCHROME2", dicom.ExplicitVRLittleEndian, false}, // an axis as it is, one halved: many ties
		{257, 511, -2048, 2047, 12, "MONOCHROME2", dicom.ExplicitVRBigEndian, false},
		{300, 411, 0, 65535, 16, "MONOCHROME1", dicom.DeflatedExplicitVRLittleEndian, true},
		{411, 300, -32768, 32767, 16, "MONOCHROME2", dicom.ExplicitVRBigEndian, true},
		{37, 91, 0, 4095, 12, "MONOCHROME1", dicom.ExplicitVRLittleEndian, false}, // enlarged
		{91, 37, 0, 255, 8, "MONOCHROME2", dicom.ExplicitVRLittleEndian, true},    // enlarged and cut
		{300, 100, 0, 255, 8, "MONOCHROME2", dicom.ImplicitVRLittleEndian, false}, // one axis shrinks, one grows
		{1, 1, 7, 7, 8, "MONOCHROME1", dicom.ExplicitVRLittleEndian, true},
	} {
		p := randomPicture(uint64(i), c.rows, c.columns, c.lo, c.hi)
		file := encode(t, c.syntax, chest(p, c.bits, c.lo < 0, c.photometric))
		img, err := FromDICOM(file, Recipe{"mimic", c.fit}, dicom.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		want := plainStored(plainMimic(p, c.photometric == "MONOCHROME1"), c.fit)
		if !bytes.Equal(want, img.Stored) {
			t.Errorf("%+v: the stored pictures differ: %s", c, difference(want, img.Stored))
		}
	}
}

func difference(want, got []byte) string {
	n, largest := 0, 0
	for i := range want {
		if d := int(got[i]) - int(want[i]); d != 0 {
			n++
			largest = max(largest, d, -d)
		}
	}
	return fmt.Sprintf("%d of %d bytes, by up to %d", n, len(want), largest)
}

// Apart from its place after the stretch, where the darkest level is always 0.
func TestEqualise_IsOpenCVsRule(t *testing.T) {
	for name, p := range map[string]picture{
		"starts at 40":  randomPicture(4, 50, 70, 40, 230),
		"one level":     randomPicture(4, 5, 7, 77, 77),
		"two levels":    {1, 5, []int{3, 3, 250, 3, 250}},
		"one dark spot": {1, 4, []int{9, 10, 10, 10}},
	} {
		var levels [256]uint32
		for _, v := range p.values {
			levels[v]++
		}
		table := equalise(levels)
		got := picture{p.rows, p.columns, nil}
		for _, v := range p.values {
			got.values = append(got.values, int(table[v]))
		}
		if diff := cmp.Diff(plainEqualise(p).values, got.values); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// A constant image has nothing to stretch and nothing to equalise: black, and white when low values are bright.
func TestMimic_ConstantImage(t *testing.T) {
	for photometric, want := range map[string]byte{"MONOCHROME2": 0, "MONOCHROME1": 255} {
		img := mustRead(t, Mimic, chest(randomPicture(1, 20, 30, 900, 900), 12, false, photometric))
		if !bytes.Equal(img.Stored, bytes.Repeat([]byte{want}, StoredSize*StoredSize)) {
			t.Errorf("%s: not all %d", photometric, want)
		}
		if diff := cmp.Diff([]string{FlagConstant, FlagTiny}, img.Flags); diff != "" {
			t.Errorf("%s: flags (-want +got)\n%s", photometric, diff)
		}
	}
}

func TestMimic_RescaleWindowAndPaddingAreIgnored(t *testing.T) {
	plain := chest(randomPicture(3, 60, 50, 0, 4095), 12, false, "MONOCHROME2")
	dressed := with(plain,
		dicom.Element{Tag: tag.RescaleSlope, Value: "2"}, dicom.Element{Tag: tag.RescaleIntercept, Value: "-1000"},
		dicom.Element{Tag: tag.WindowCenter, Value: "100"}, dicom.Element{Tag: tag.WindowWidth, Value: "10"},
		dicom.Element{Tag: tag.PixelPaddingValue, VR: "US", Value: 0},
		dicom.Element{Tag: tag.PresentationLUTShape, Value: "INVERSE"})
	if !bytes.Equal(mustRead(t, Mimic, plain).Stored, mustRead(t, Mimic, dressed).Stored) {
		t.Error("the stored pictures differ")
	}
}

func TestFromDICOM_WhatIsInTheImage(t *testing.T) {
	img := mustRead(t, Display, chest(randomPicture(1, 20, 30, 0, 900), 10, false, "MONOCHROME1"))
	img.Stored = nil
	want := &Image{View: Frontal, Evidence: EvidenceViewPosition, Flags: []string{FlagTiny}, StudyInstanceUID: "1.2.3", SeriesInstanceUID: "1.2.3.1",
		SOPInstanceUID: "1.2.3.4", PatientID: "P1", Rows: 20, Columns: 30, BitsStored: 10, Photometric: "MONOCHROME1",
		TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
	if diff := cmp.Diff(want, img); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFromDICOM_ColourAndFlagsInOrder(t *testing.T) {
	elems := with(chest(randomPicture(1, 10, 30, 0, 255), 8, false, "RGB"),
		dicom.Element{Tag: tag.SamplesPerPixel, VR: "US", Value: 3}, dicom.Element{Tag: tag.Columns, VR: "US", Value: 10},
		dicom.Element{Tag: tag.PlanarConfiguration, VR: "US", Value: 0}, dicom.Element{Tag: tag.BodyPartExamined, VR: "CS", Value: ""},
		dicom.Element{Tag: tag.SeriesDescription, VR: "LO", Value: "lat"})
	img := mustRead(t, Display, elems)
	if diff := cmp.Diff([]string{FlagNoBodyPart, FlagViewConflict, FlagColour, FlagTiny}, img.Flags); diff != "" {
		t.Errorf("flags (-want +got)\n%s", diff)
	}
}

// Train/serve equality: a data set's picture and the DICOM object of the same pixels are the same to the model.
func TestFromPicture_SameAsDICOM(t *testing.T) {
	for _, c := range []struct{ bits, rows, columns int }{{8, 301, 257}, {16, 301, 257}, {8, 100, 300}, {16, 99, 77}} {
		p := randomPicture(uint64(c.bits), c.rows, c.columns, 3, 1<<c.bits-30)
		var img image.Image
		gray8, gray16 := image.NewGray(image.Rect(0, 0, c.columns, c.rows)), image.NewGray16(image.Rect(0, 0, c.columns, c.rows))
		for i, v := range p.values {
			if img = gray8; c.bits == 8 {
				gray8.Pix[i] = byte(v)
			} else {
				img = gray16
				binary.BigEndian.PutUint16(gray16.Pix[2*i:], uint16(v))
			}
		}
		for _, recipe := range []Recipe{Mimic, Display, {"mimic", true}, {"display", true}} {
			fromPNG, err := FromPicture(encodePNG(t, img), recipe)
			if err != nil {
				t.Fatal(err)
			}
			fromDICOM := mustRead(t, recipe, chest(p, c.bits, false, "MONOCHROME2"))
			if !bytes.Equal(fromPNG.Stored, fromDICOM.Stored) {
				t.Errorf("%d bits, %s: the stored pictures differ: %s", c.bits, recipe, difference(fromPNG.Stored, fromDICOM.Stored))
			}
			a, b := make([]float32, CropSize*CropSize), make([]float32, CropSize*CropSize)
			Input(fromPNG.Stored, CropSize, a)
			Input(fromDICOM.Stored, CropSize, b)
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("%d bits, %s: the inputs differ", c.bits, recipe)
			}
			if fromPNG.View != Unknown || fromPNG.Evidence != EvidenceNone || fromPNG.Rows != c.rows || fromPNG.Columns != c.columns {
				t.Errorf("%+v", fromPNG)
			}
		}
	}
}

func encodePNG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Gray values written as colour, with a palette or under transparency are the same gray values.
func TestFromPicture_GrayInAnyFormat(t *testing.T) {
	p := randomPicture(5, 40, 50, 0, 255)
	bounds := image.Rect(0, 0, 50, 40)
	gray, rgba, nrgba, deep := image.NewGray(bounds), image.NewRGBA(bounds), image.NewNRGBA(bounds), image.NewNRGBA64(bounds)
	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.Gray{uint8(255 - i)}
	}
	paletted := image.NewPaletted(bounds, palette)
	for i, v := range p.values {
		x, y, u := i%50, i/50, uint8(v)
		gray.SetGray(x, y, color.Gray{u})
		rgba.SetRGBA(x, y, color.RGBA{u, u, u, 255})
		nrgba.SetNRGBA(x, y, color.NRGBA{u, u, u, uint8(i)}) // transparent in all degrees
		w := uint16(u) * 0x101
		deep.SetNRGBA64(x, y, color.NRGBA64{w, w, w, uint16(i)})
		paletted.SetColorIndex(x, y, 255-u)
	}
	want, err := FromPicture(encodePNG(t, gray), Mimic)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{FlagTiny}, want.Flags); diff != "" {
		t.Errorf("gray: flags (-want +got)\n%s", diff)
	}
	for name, img := range map[string]image.Image{"RGB": rgba, "RGBA": nrgba, "RGBA of 16 bits": deep, "palette": paletted} {
		got, err := FromPicture(encodePNG(t, img), Mimic)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(want.Stored, got.Stored) {
			t.Errorf("%s: the stored pictures differ: %s", name, difference(want.Stored, got.Stored))
		}
		if diff := cmp.Diff([]string{FlagColour, FlagTiny}, got.Flags); diff != "" {
			t.Errorf("%s: flags (-want +got)\n%s", name, diff)
		}
	}
}

// The pixels of a JPEG file are libjpeg's: the sums are those of package codec's tests. What it refuses (here a stray byte between
// two segments) the standard library may know, whose pixels are up to 1 away.
func TestDecodePicture_JPEGIsLibjpegs(t *testing.T) {
	for name, want := range map[string]string{
		"gray8":    "20067a6ffc61aa9e7d7b98d777a248ab23ef1e75b2e07d8713ddd97d421c1ed9",
		"ycc8-420": "df56992c916917b51800680c2ad638f06a110b0268f5b2c600cc570b65940564",
		"rgb8":     "477b9a17bc26bb8b6ece8fef67bf93474a218c6e853731ce474c45e2cfa13eb7",
	} {
		file, err := os.ReadFile(filepath.Join("../codec/testdata", name+".jpg"))
		if err != nil {
			t.Fatal(err)
		}
		plane, kind, err := DecodePicture(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var b bytes.Buffer
		binary.Write(&b, binary.LittleEndian, plane.Values())
		sum := sha256.Sum256(b.Bytes())
		if got := hex.EncodeToString(sum[:]); got != want || kind != "JPEG" || plane.Colour != (name != "gray8") {
			t.Errorf("%s: sum %s, %s, colour %t", name, got, kind, plane.Colour)
		}
		scan := bytes.Index(file, []byte{0xff, 0xda})
		second, _, err := DecodePicture(slices.Insert(slices.Clone(file), scan, 0))
		if err != nil {
			t.Fatalf("%s with a stray byte: %v", name, err)
		}
		first := plane.Values()
		for i, v := range second.Values() {
			if d := v - first[i]; d < -1 || d > 1 {
				t.Fatalf("%s with a stray byte: pixel %d is %d away", name, i, d)
			}
		}
	}
}

func encodeJPEG(t testing.TB, side int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, side, side))
	for i := range img.Pix {
		img.Pix[i] = byte(i * i)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFromPicture_Refuses(t *testing.T) {
	good := encodePNG(t, image.NewGray(image.Rect(0, 0, 9, 9)))
	huge := bytes.Clone(good)
	copy(huge[16:], "\x00\x00\xff\xff\x00\x00\xff\xff") // IHDR's width and height
	huge = append(huge[:29:29], binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(huge[12:29]))...)
	huge = append(huge, good[33:]...)
	for _, c := range []struct {
		name string
		data []byte
		code string
	}{
		{"empty", nil, CodePicture},
		{"text", []byte("hello"), CodePicture},
		{"cut", good[:len(good)-20], CodePicture},
		{"cut JPEG", []byte("\xff\xd8\xff\xe0"), CodePicture},
		{"JPEG cut in its scan", encodeJPEG(t, 64)[:700], CodePicture},
		{"huge", huge, string(dicom.CodeTooLarge)},
	} {
		_, err := FromPicture(c.data, Mimic)
		var r *Refusal
		if !errors.As(err, &r) || r.Code != c.code {
			t.Errorf("%s: %v, want code %s", c.name, err, c.code)
		}
	}
}

func TestRecipe_NamesRoundTrip(t *testing.T) {
	for _, name := range []string{"mimic", "display", "mimic+fit", "display+fit"} {
		r, err := ParseRecipe(name)
		if err != nil || r.String() != name {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	for _, name := range []string{"", "fit", "Mimic", "mimic+", "mimic+fit+fit"} {
		if r, err := ParseRecipe(name); err == nil {
			t.Errorf("%q is read as %v", name, r)
		}
	}
	if _, err := FromPicture(encodePNG(t, image.NewGray(image.Rect(0, 0, 9, 9))), Recipe{}); err == nil {
		t.Error("the zero recipe is not refused")
	}
}

func TestInput_FullSizeIsTheMiddleDividedBy255(t *testing.T) {
	stored := make([]byte, StoredSize*StoredSize)
	for i := range stored {
		stored[i] = byte(i*7 + i/StoredSize)
	}
	got := make([]float32, CropSize*CropSize)
	Input(stored, CropSize, got)
	for i, v := range got {
		y, x := i/CropSize, i%CropSize
		if want := float32(stored[(y+16)*StoredSize+x+16]) / 255; v != want {
			t.Fatalf("(%d,%d): %v, want %v", y, x, v, want)
		}
	}
}

func TestInput_OtherSizesAreExact(t *testing.T) {
	p := randomPicture(9, StoredSize, StoredSize, 0, 255)
	stored, middle := make([]byte, len(p.values)), picture{CropSize, CropSize, nil}
	for i, v := range p.values {
		stored[i] = byte(v)
		if y, x := i/StoredSize-16, i%StoredSize-16; min(x, y) >= 0 && max(x, y) < CropSize {
			middle.values = append(middle.values, v)
		}
	}
	for _, size := range []int{1, 32, 96, 223, 230} {
		got := make([]float32, size*size)
		Input(stored, size, got)
		numerators, denominator := plainResize(middle, size, size, 0, 0, size)
		for i, n := range numerators {
			want, _ := big.NewRat(n, 255*denominator).Float32()
			if got[i] != want {
				t.Fatalf("size %d, output %d: %v, want %v", size, i, got[i], want)
			}
		}
	}
}

// From pixels to input nothing is allocated but the answer: the Image, its picture, its flags.
func TestPixelsToInput_AllocateOnlyTheAnswer(t *testing.T) {
	p := randomPicture(1, 600, 500, 0, 4095)
	words := make([]byte, 0, 2*len(p.values))
	for _, v := range p.values {
		words = binary.LittleEndian.AppendUint16(words, uint16(v))
	}
	plane := codec.Gray16(p.rows, p.columns, words, binary.LittleEndian)
	input := make([]float32, CropSize*CropSize)
	n := testing.AllocsPerRun(20, func() {
		img, err := Mimic.image(plane, nil)
		if err != nil {
			t.Fatal(err)
		}
		Input(img.Stored, CropSize, input)
	})
	if n > 3 {
		t.Errorf("%v allocations", n)
	}
}
