package dicom

import (
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// GDCM writes so what it converts from implicit VR: every value, and sequences with items of implicit VR (PS3.5 6.2.2).
func TestParse_UnknownVRIsWhatTheDictionarySays(t *testing.T) {
	un := func(group, element, value string) string {
		return group + element + "UN\x00\x00" + le32(uint32(len(value))) + value
	}
	code := "\x08\x00\x00\x01\x04\x00\x00\x00here"
	private := "\x55\x00\x01\x10\x04\x00\x00\x00mine"
	open := "\xff\xff\xff\xff"
	for name, regions := range map[string]string{
		"sized":      un("\x08\x00", "\x18\x22", item+le32(uint32(len(code+private)))+code+private),
		"open":       "\x08\x00\x18\x22UN\x00\x00" + open + item + open + code + private + itemEnd + seqEnd,
		"open items": un("\x08\x00", "\x18\x22", item+open+code+itemEnd),
	} {
		f, err := Parse(raw(t, ExplicitVRLittleEndian, un("\x08\x00", "\x3e\x10", "DX")+un("\x28\x00", "\x07\x01", "\x02\x01")+
			un("\x28\x00", "\x06\x01", "odd")+un("\x18\x00", "\x60\x00", "40")+regions+un("\x09\x00", "\x01\x10", "mine")), DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		largest, _ := f.Int(tag.LargestImagePixelValue)
		_, smallest := f.Int(tag.SmallestImagePixelValue)
		kvp, _ := f.Float(tag.KVP)
		if f.String(tag.SeriesDescription) != "DX" || largest != 0x102 || smallest || kvp != 40 {
			t.Errorf("%s: description %q, largest value %d, one of three bytes %t, KVP %v", name, f.String(tag.SeriesDescription), largest, smallest, kvp)
		}
		if items := f.Items(tag.AnatomicRegionSequence); len(items) != 1 || items[0].String(tag.CodeValue) != "here" {
			t.Errorf("%s: items %v", name, items)
		}
	}
}
