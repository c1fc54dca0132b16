package dicom

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"
)

func TestParsePrefix_SaysWhatTheWholeFileSays(t *testing.T) {
	for _, syntax := range []string{
		ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, JPEG2000,
	} {
		var file bytes.Buffer
		err := Write(&file, syntax, []Element{
			{Tag: tag.SOPClassUID, Value: "1.2"}, {Tag: tag.SOPInstanceUID, Value: "2.25.7"},
			{Tag: tag.StudyInstanceUID, Value: "2.25.8"}, {Tag: tag.Rows, Value: 64},
			{Tag: tag.PixelData, VR: "OB", Value: slices.Repeat([]byte{1, 2, 3, 4}, 4096)},
		})
		if err != nil {
			t.Fatal(err)
		}
		data := file.Bytes()
		whole, err := Parse(data, DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{len(data), len(data) - 20} {
			p, err := ParsePrefix(data[:n], DefaultLimits())
			if err != nil {
				t.Fatalf("%s: %d of %d bytes: %v", syntax, n, len(data), err)
			}
			if p.TransferSyntaxUID != syntax || !p.Whole && syntax != DeflatedExplicitVRLittleEndian || p.Header.String(tag.StudyInstanceUID) != "2.25.8" {
				t.Errorf("%s: %d of %d bytes: %+v", syntax, n, len(data), p)
			}
			if diff := cmp.Diff(whole.Ints(tag.Rows), p.Ints(tag.Rows)); diff != "" {
				t.Errorf("%s: %d of %d bytes: rows (-whole +prefix)\n%s", syntax, n, len(data), diff)
			}
			if syntax == ExplicitVRLittleEndian && !bytes.Equal(data[p.DataSet:][:4], []byte{8, 0, 0x16, 0}) {
				t.Errorf("the data set begins at %d with % x", p.DataSet, data[p.DataSet:][:4])
			}
		}
	}
}

func TestParsePrefix_TooShort(t *testing.T) {
	var file bytes.Buffer
	if err := Write(&file, ExplicitVRLittleEndian, []Element{
		{Tag: tag.SOPClassUID, Value: "1.2"}, {Tag: tag.SOPInstanceUID, Value: "2.25.7"},
		{Tag: tag.StudyInstanceUID, Value: "2.25.8"}, {Tag: tag.SeriesInstanceUID, Value: "2.25.9"},
	}); err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	p, err := ParsePrefix(data[:len(data)-4], DefaultLimits())
	if err != nil || p.Whole || p.Header.String(tag.StudyInstanceUID) != "2.25.8" || p.Header.String(tag.SeriesInstanceUID) != "" {
		t.Errorf("without the last element: %+v, %v", p, err)
	}
	for n, want := range map[int]Code{100: CodeNotDICOM, 150: CodeTruncated} {
		var refusal *Error
		if _, err := ParsePrefix(data[:n], DefaultLimits()); !errors.As(err, &refusal) || refusal.Code != want {
			t.Errorf("%d bytes: %v, want %s", n, err, want)
		}
	}
}
