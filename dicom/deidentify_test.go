package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"
)

var deidentifier = Deidentifier{Key: []byte("0123456789abcdef")}

func deidentify(t testing.TB, d Deidentifier, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := d.Write(&b, data); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// secrets are values that must not be found in what Write writes, in the bytes that make them up.
var secrets = []string{"DOE^JANE", "MRN-4711", "19610203", "1.2.826.99.1", "1.2.826.99.2", "1.2.826.99.3", "1.2.826.99.4", "ACC0815",
	"St Elsewhere", "HOUSE", "20240102", "101112", "SN-007", "Jane's", "secret", "JANE", "0000777", "STATION9", "1.2.826.99.5"}

// identified is a radiograph with an identifier in each place that has one: a listed element, a description, an item of a
// sequence that stays, one of a sequence that goes, a private element, an overlay, behind the pixels.
func identified(syntax string) []Element {
	word := func(t tag.Tag, v string) Element { return Element{t, "", v} }
	return with(sample(),
		word(tag.PatientName, "DOE^JANE"), word(tag.PatientID, "MRN-4711"), word(tag.PatientBirthDate, "19610203"),
		word(tag.PatientSex, "F"), word(tag.PatientAge, "063Y"), word(tag.AccessionNumber, "ACC0815"),
		word(tag.SOPInstanceUID, "1.2.826.99.1"), word(tag.StudyInstanceUID, "1.2.826.99.2"),
		word(tag.SeriesInstanceUID, "1.2.826.99.3"), word(tag.FrameOfReferenceUID, "1.2.826.99.4"),
		word(tag.InstitutionName, "St Elsewhere"), word(tag.ReferringPhysicianName, "HOUSE^GREG"), word(tag.StationName, "STATION9"),
		word(tag.StudyDate, "20240102"), word(tag.StudyTime, "101112"), word(tag.DeviceSerialNumber, "SN-007"),
		word(tag.StudyID, "0000777"), word(tag.SeriesDescription, "Jane's CHEST, PA"), word(tag.StudyDescription, "JANE secret"),
		word(tag.BodyPartExamined, "CHEST"), word(tag.KVP, "secret 120"), word(tag.ImageComments, "secret"),
		Element{tag.Tag{Group: 0x0009, Element: 0x0010}, "LO", "secret"},
		Element{tag.Tag{Group: 0x6000, Element: 0x3000}, "OW", []byte("secret")},
		Element{tag.DataSetTrailingPadding, "OB", []byte("secret")},
		Element{tag.IconImageSequence, "SQ", []Item{{{tag.PixelData, "OB", []byte("secret")}}}},
		Element{tag.ReferencedImageSequence, "SQ", []Item{{{tag.ReferencedSOPInstanceUID, "UI", "1.2.826.99.5"}}}},
		Element{tag.ViewCodeSequence, "SQ", []Item{{
			{tag.CodeValue, "SH", "272479007"}, {tag.CodingSchemeDesignator, "SH", "SCT"}, {tag.CodeMeaning, "LO", "postero-anterior"},
			{tag.PatientComments, "LT", "secret"}, {tag.Tag{Group: 0x0009, Element: 0x1001}, "LO", "secret"},
			{tag.ViewModifierCodeSequence, "SQ", []Item{{{tag.CodeValue, "SH", "erect"}, {tag.PersonName, "PN", "DOE^JANE"}}, {}}},
		}}})
}

func TestDeidentify_NoIdentifierIsLeft(t *testing.T) {
	for _, syntax := range nativeSyntaxes {
		in := encode(t, syntax, identified(syntax))
		copy(in, "secret in the preamble")
		out := deidentify(t, deidentifier, in)
		searched := out
		if syntax == DeflatedExplicitVRLittleEndian {
			g := &guard{data: out, lim: DefaultLimits()}
			_, pos, err := g.meta()
			if err != nil {
				t.Fatal(err)
			}
			set, err := inflate(out[pos:], 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			searched = append(out[:pos:pos], set...)
		}
		for _, s := range secrets {
			if bytes.Contains(bytes.ToUpper(searched), []byte(strings.ToUpper(s))) {
				t.Errorf("%s: %q is still there", syntax, s)
			}
		}
		a, err := Parse(in, DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(out, DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", syntax, err)
		}
		before, err := a.Pixels()
		if err != nil {
			t.Fatal(err)
		}
		after, err := b.Pixels()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s: pixels (-before +after)\n%s", syntax, diff)
		}
		type said struct{ Syntax, Class, Name, Sex, Date, Removed, Part, Study, Series, Code, Modifier, KVP string }
		code := b.Items(tag.ViewCodeSequence)[0]
		got := said{b.TransferSyntaxUID, b.String(tag.SOPClassUID), b.String(tag.PatientName), b.String(tag.PatientSex),
			b.String(tag.StudyDate), b.String(tag.PatientIdentityRemoved), b.String(tag.BodyPartExamined), b.String(tag.StudyDescription),
			b.String(tag.SeriesDescription), code.String(tag.CodeMeaning), code.Items(tag.ViewModifierCodeSequence)[0].String(tag.CodeValue),
			b.String(tag.KVP)}
		want := said{Syntax: syntax, Class: "1.2.840.10008.5.1.4.1.1.1.1", Removed: "YES", Part: "CHEST", Series: "_'_ CHEST, PA",
			Code: "postero-anterior", Modifier: "erect"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", syntax, diff)
		}
		if methods := b.Items(tag.DeidentificationMethodCodeSequence); len(methods) != 2 || methods[0].String(tag.CodeValue) != "113100" {
			t.Errorf("%s: %d methods", syntax, len(methods))
		}
		for _, empty := range emptyTags {
			if _, there := b.Header[empty]; !there {
				t.Errorf("%s: no %s, which must be there", syntax, empty)
			}
		}
	}
}

// What belonged together still does under one key, and nobody else can tell.
func TestDeidentify_KeysAndNames(t *testing.T) {
	uid := func(d Deidentifier, uid string) string {
		out := deidentify(t, d, encode(t, ExplicitVRLittleEndian, with(identified(ExplicitVRLittleEndian),
			Element{tag.StudyInstanceUID, "UI", uid})))
		f, err := Parse(out, DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if g, want := f.String(tag.PatientID), d.Name("patient", "MRN-4711"); g != want {
			t.Errorf("patient %q, want %q", g, want)
		}
		return f.String(tag.StudyInstanceUID)
	}
	other := Deidentifier{Key: []byte("another key of 16")}
	a, same, b, c := uid(deidentifier, "1.2.3"), uid(deidentifier, "1.2.3"), uid(deidentifier, "1.2.4"), uid(other, "1.2.3")
	if a != same || a == b || a == c || b == c {
		t.Errorf("%s, again %s; another study %s, another key %s", a, same, b, c)
	}
	// By Python's hmac, hashlib and uuid.UUID, whose version is 8.
	if want := "2.25.338326801801225506579552357228112123619"; a != want {
		t.Errorf("%s, want %s", a, want)
	}
}

func TestDeidentify_CleanKeepsDescriptors(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"Smith":                    "",
		"Chest PA":                 "CHEST PA",
		"w034 Chest pa/lat":        "_ CHEST PA/LAT",
		"CHEST X-TABLE":            "CHEST X-TABLE",
		"X Doe TABLE":              "X _ TABLE", // the words on both sides do not meet
		"Müller·PA":                "__PA",
		"Thorax\xff p.a.\\LATERAL": "THORAX_ _._._LATERAL",
		"PA2 AP":                   "_ AP",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDeidentify_Refuses(t *testing.T) {
	burned := encode(t, ExplicitVRLittleEndian, with(sample(), Element{tag.BurnedInAnnotation, "CS", "YES"}))
	for name, c := range map[string]struct {
		data []byte
		code Code
	}{
		"text in the pixels": {burned, CodeBurnedIn},
		"no pixels":          {encode(t, ExplicitVRLittleEndian, without(sample(), tag.PixelData)), CodeNoPixelData},
		"no DICOM":           {[]byte("patient"), CodeNotDICOM},
		"a part of a file":   {burned[:len(burned)-1], CodeTruncated},
	} {
		var out bytes.Buffer
		err := deidentifier.Write(&out, c.data)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code || out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written, want code %s and none", name, err, out.Len(), c.code)
		}
	}
	// Unless they are wanted so, or the header says NO.
	deidentify(t, Deidentifier{Key: deidentifier.Key, BurnedIn: true}, burned)
	deidentify(t, deidentifier, encode(t, ExplicitVRLittleEndian, with(sample(), Element{tag.BurnedInAnnotation, "CS", "NO"})))
}

func TestDeidentify_ReportsTheWritersError(t *testing.T) {
	err := deidentifier.Write(failingWriter{}, encode(t, ExplicitVRLittleEndian, sample()))
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

// A value must not stay under a tag of another kind: text under one that holds numbers, a sequence under one that does not.
func TestDeidentify_ValuesOfAnotherKindGo(t *testing.T) {
	for _, e := range []string{
		"\x18\x00\x60\x00LO\x06\x00secret", // KVP
		"\x28\x00\x06\x01LO\x06\x00secret", // SmallestImagePixelValue
		"\x28\x00\x06\x01SQ\x00\x00" + le32(22) + item + le32(14) + "\x10\x00\x10\x00PN\x06\x00secret",                                // the same
		"\x54\x00\x20\x02UN\x00\x00" + le32(6) + "secret",                                                                             // ViewCodeSequence
		"\x54\x00\x20\x02UN\x00\x00\xff\xff\xff\xff" + item + le32(14) + "\x10\x00\x10\x00\x06\x00\x00\x00secret" + seqEnd,            // the same
		"\x54\x00\x20\x02SQ\x00\x00\xff\xff\xff\xff" + openItem + "\x10\x00\x10\x00PN\x06\x00secret" + itemEnd + seqEnd,               // with a name
		"\x54\x00\x20\x02SQ\x00\x00\xff\xff\xff\xff" + item + le32(14) + "\x10\x00\x10\x00PN\x06\x00secret" + item + le32(0) + seqEnd, // in an item with a length
	} {
		in := raw(t, ExplicitVRLittleEndian, e, "\xe0\x7f\x10\x00OW\x00\x00", le32(12), "abcdefghijkl")
		elems := without(without(sample(), tag.PixelData), tag.ViewCodeSequence)
		in = append(encode(t, ExplicitVRLittleEndian, elems), in[len(header(t, ExplicitVRLittleEndian)):]...)
		if _, err := Parse(in, DefaultLimits()); err != nil { // a view that cannot be read: such a file is refused whole
			var out bytes.Buffer
			if err := deidentifier.Write(&out, in); err == nil || out.Len() > 0 {
				t.Errorf("%q: error %v, %d bytes written", e, err, out.Len())
			}
			continue
		}
		out := deidentify(t, deidentifier, in)
		if bytes.Contains(out, []byte("secret")) {
			t.Errorf("%q stays", e)
		}
		if f, err := Parse(out, DefaultLimits()); err != nil || f.String(tag.Modality) != "DX" {
			t.Errorf("%q: %v", e, err)
		}
	}
}

// FuzzDeidentify: what comes out parses, holds the same pixels, and comes out of a second time as it is but for its names.
func FuzzDeidentify(f *testing.F) {
	for _, syntax := range nativeSyntaxes {
		f.Add(encode(f, syntax, identified(syntax)))
		f.Add(encode(f, syntax, sample()))
	}
	lim := Limits{MaxBytes: 1 << 20, MaxHeaderBytes: 1 << 16, MaxElements: 5000, MaxPixels: 1 << 16}
	d := Deidentifier{Key: deidentifier.Key, Limits: lim, BurnedIn: true}
	f.Add(raw(f, ExplicitVRLittleEndian, "\x10\x00\x01\x00UN\x00\x00\x04\x00\x00\x00ROE^", "\x08\x00\x18\x22UN\x00\x00\xff\xff\xff\xff"+
		item+le32(12)+"\x08\x00\x00\x01\x04\x00\x00\x00here"+seqEnd))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		var e *Error
		if err := d.Write(&out, data); err != nil {
			if !errors.As(err, &e) {
				t.Fatalf("an error without code: %v", err)
			}
			return
		}
		before, err := pixelsOf(data, lim)
		if err != nil {
			t.Fatalf("written, though %v", err)
		}
		lim := lim
		lim.MaxBytes, lim.MaxHeaderBytes = 2*lim.MaxBytes, 2*lim.MaxHeaderBytes // some elements are new
		after, err := pixelsOf(out.Bytes(), lim)
		if err != nil {
			t.Fatalf("does not parse: %v", err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("pixels (-before +after)\n%s", diff)
		}
	})
}

func pixelsOf(data []byte, lim Limits) (*Pixels, error) {
	f, err := Parse(data, lim)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	return f.Pixels()
}
