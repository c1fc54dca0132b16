package dicomjson_test

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/dicomjson"
)

// converted is the JSON of one element among those that every file needs.
func converted(t *testing.T, syntax string, of tag.Tag, elems ...dicom.Element) string {
	t.Helper()
	var file bytes.Buffer
	elems = append(elems, dicom.Element{Tag: tag.SOPClassUID, Value: "1.2"}, dicom.Element{Tag: tag.SOPInstanceUID, Value: "1.2.3"})
	if err := dicom.Write(&file, syntax, elems); err != nil {
		t.Fatal(err)
	}
	f, err := dicom.Parse(file.Bytes(), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	doc := dicomjson.FromHeader(f.Header)
	element, ok := doc[dicomjson.Name(of)]
	if !ok {
		return ""
	}
	text, err := json.Marshal(element)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFromHeader_ValueRepresentations(t *testing.T) {
	anything := tag.Tag{Group: 0x0040, Element: 0xa123} // any VR can be given
	for _, c := range []struct {
		name  string
		tag   tag.Tag
		vr    string
		value any
		want  string
	}{
		{"text", tag.StudyDescription, "", "CHEST 2V ", `{"vr":"LO","Value":["CHEST 2V"]}`},
		{"code", tag.Modality, "", " DX", `{"vr":"CS","Value":["DX"]}`},
		{"empty", tag.StudyDescription, "", nil, `{"vr":"LO"}`},
		{"UID padded with zero", tag.StudyInstanceUID, "", "1.2.3", `{"vr":"UI","Value":["1.2.3"]}`},
		{"several, one empty", tag.ImageType, "", []string{"ORIGINAL", "", "X"}, `{"vr":"CS","Value":["ORIGINAL",null,"X"]}`},
		{"long text is one value", tag.ImageComments, "LT", ` a\b `, `{"vr":"LT","Value":["a\\b"]}`},
		{"name", tag.PatientName, "", "DOE^JANE^^", `{"vr":"PN","Value":[{"Alphabetic":"DOE^JANE"}]}`},
		{"name in no alphabet", tag.PatientName, "", "=X^Y", `{"vr":"PN","Value":[{"Ideographic":"X^Y"}]}`},
		{"two names", tag.OtherPatientNames, "", `A^B\C`, `{"vr":"PN","Value":[{"Alphabetic":"A^B"},{"Alphabetic":"C"}]}`},
		{"name of delimiters", tag.PatientName, "", "^^=", `{"vr":"PN"}`},
		{"decimals keep their digits", tag.PixelSpacing, "", []string{"0.1390", "1e-3", "+1.5", ".5"}, `{"vr":"DS","Value":[0.1390,1e-3,"+1.5",".5"]}`},
		{"integer string", tag.InstanceNumber, "", "7", `{"vr":"IS","Value":[7]}`},
		{"integer with zeros before", tag.InstanceNumber, "", "007", `{"vr":"IS","Value":["007"]}`},
		{"US", tag.Rows, "", 64, `{"vr":"US","Value":[64]}`},
		{"SS", anything, "SS", []int{-1, 2}, `{"vr":"SS","Value":[-1,2]}`},
		{"UL", anything, "UL", []int{math.MaxUint32}, `{"vr":"UL","Value":[4294967295]}`},
		{"SL", anything, "SL", -70000, `{"vr":"SL","Value":[-70000]}`},
		{"FD", anything, "FD", []float64{0.5, math.NaN(), math.Inf(1)}, `{"vr":"FD","Value":[0.5,null,null]}`},
		{"FL", anything, "FL", 0.1, `{"vr":"FL","Value":[0.1]}`},
		{"AT", anything, "AT", []int{0x0010, 0x0020, 0x7fe0, 0x0010}, `{"vr":"AT","Value":["00100020","7FE00010"]}`},
		{"OB", anything, "OB", []byte{1, 2, 255, 0}, `{"vr":"OB","InlineBinary":"AQL/AA=="}`},
		{"OW is little endian", anything, "OW", []uint16{0x0102, 3}, `{"vr":"OW","InlineBinary":"AgEDAA=="}`},
		{"OF is left out", anything, "OF", []byte{200, 2, 255, 0}, ``},
		{"items", tag.ViewCodeSequence, "", []dicom.Item{{{Tag: tag.CodeValue, Value: "399348003"}}, {}},
			`{"vr":"SQ","Value":[{"00080100":{"vr":"SH","Value":["399348003"]}},{}]}`},
		{"no items", tag.ViewCodeSequence, "", nil, `{"vr":"SQ"}`},
		{"pixels are left out", tag.PixelData, "OW", []byte{1, 2}, ``},
		{"private elements are left out", tag.Tag{Group: 0x0009, Element: 0x1001}, "LO", "x", ``},
	} {
		for _, syntax := range []string{dicom.ExplicitVRLittleEndian, dicom.ExplicitVRBigEndian} {
			if got := converted(t, syntax, c.tag, dicom.Element{Tag: c.tag, VR: c.vr, Value: c.value}); got != c.want {
				t.Errorf("%s in %s: %s, want %s", c.name, syntax, got, c.want)
			}
		}
	}
}

// The names are those of PS3.5 annexes H, I and J, in the bytes that stand there.
func TestFromHeader_CharacterSets(t *testing.T) {
	esc := func(s string) string { return strings.ReplaceAll(s, "ESC", "\x1b") }
	for charset, c := range map[string]struct{ name, want string }{
		"":                   {"Doe^Jane", `{"Alphabetic":"Doe^Jane"}`},
		"ISO_IR 100":         {"Buc^J\xe9r\xf4me", `{"Alphabetic":"Buc^Jérôme"}`},
		"ISO_IR 144":         {"\xbb\xee\xda\x63\x65\xdc\xd1\x79\x70\xd3", `{"Alphabetic":"Люкceмбypг"}`},
		"ISO_IR 192":         {"Wang^XiaoDong=王^小東", `{"Alphabetic":"Wang^XiaoDong","Ideographic":"王^小東"}`},
		"GB18030":            {"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", `{"Alphabetic":"Wang^XiaoDong","Ideographic":"王^小东"}`},
		"ISO_IR 13":          {"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", `{"Alphabetic":"ﾔﾏﾀﾞ^ﾀﾛｳ"}`},
		`\ISO 2022 IR 87`:    {esc("Yamada^Tarou=ESC$B;3EDESC(B^ESC$BB@O:ESC(B=ESC$B$d$^$@ESC(B^ESC$B$?$m$&ESC(B"), `{"Alphabetic":"Yamada^Tarou","Ideographic":"山田^太郎","Phonetic":"やまだ^たろう"}`},
		`\ISO 2022 IR 149`:   {esc("Hong^Gildong=ESC$)C\xfb\xf3^ESC$)C\xd1\xce\xd4\xd7=ESC$)C\xc8\xab^ESC$)C\xb1\xe6\xb5\xbf"), `{"Alphabetic":"Hong^Gildong","Ideographic":"洪^吉洞","Phonetic":"홍^길동"}`},
		"of nobody's making": {"J\xe9r", `{"Alphabetic":"J\ufffdr"}`},
	} {
		elems := []dicom.Element{{Tag: tag.PatientName, Value: c.name}}
		want := ""
		if charset != "" {
			elems = append(elems, dicom.Element{Tag: tag.SpecificCharacterSet, Value: charset})
			want = `{"vr":"CS","Value":["ISO_IR 192"]}`
		}
		if got := converted(t, dicom.ExplicitVRLittleEndian, tag.PatientName, elems...); got != `{"vr":"PN","Value":[`+c.want+`]}` {
			t.Errorf("%s: %s, want %s", charset, got, c.want)
		}
		if got := converted(t, dicom.ExplicitVRLittleEndian, tag.SpecificCharacterSet, elems...); got != want {
			t.Errorf("character set in place of %q: %s", charset, got)
		}
	}
}

func TestDataset_NamesInOrder(t *testing.T) {
	d := dicomjson.Dataset{}
	d.Set(tag.PixelSpacing, "DS", "1")
	d.Set(tag.SOPClassUID, "UI", "1.2")
	d.Set(tag.Tag{Group: 0x00ab, Element: 0xcdef}, "SH")
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var at []int
	for _, name := range []string{"00080016", "00280030", "00ABCDEF"} {
		at = append(at, bytes.Index(text, []byte(name)))
	}
	if !slices.IsSorted(at) || at[0] < 0 {
		t.Errorf("%s", text)
	}
}

func TestWithoutEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "\x1b$)Cab\x1b(Bc": "abc", "a\x1b": "a", "a\x1b$": "a", "\x1b\x1b$)C": "$)C", "": "",
	} {
		if diff := cmp.Diff(want, dicomjson.WithoutEscapes(in)); diff != "" {
			t.Errorf("%q (-want +got)\n%s", in, diff)
		}
	}
}

// Whatever is parsed is written as valid JSON.
func FuzzFromHeader(f *testing.F) {
	for _, syntax := range []string{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian, dicom.ExplicitVRBigEndian, dicom.DeflatedExplicitVRLittleEndian, dicom.RLELossless} {
		var file bytes.Buffer
		err := dicom.Write(&file, syntax, []dicom.Element{
			{Tag: tag.SOPClassUID, Value: "1.2"}, {Tag: tag.SOPInstanceUID, Value: "1.2.3"}, {Tag: tag.SpecificCharacterSet, Value: `\ISO 2022 IR 87`},
			{Tag: tag.PatientName, Value: "A^B=C\x1b$B;3"}, {Tag: tag.PixelSpacing, Value: "1.5"}, {Tag: tag.Rows, Value: 1},
			{Tag: tag.ViewCodeSequence, Value: []dicom.Item{{{Tag: tag.CodeValue, Value: "1"}}}}, {Tag: tag.PixelData, VR: "OB", Value: []byte{1, 2}},
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := dicom.ParsePrefix(data, dicom.Limits{})
		if err != nil {
			return
		}
		text, err := json.Marshal(dicomjson.FromHeader(p.Header))
		if err != nil || !json.Valid(text) {
			t.Errorf("%v: %s", err, text)
		}
	})
}
