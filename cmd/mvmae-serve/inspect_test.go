package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/serve"
)

// inspectedElements is a small radiograph with pixels that tell rows from columns.
func inspectedElements() []dicom.Element {
	pixels := make([]uint16, 300*400)
	for i := range pixels {
		pixels[i] = uint16(i % 4000)
	}
	return []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: "1.2.3.4567.3"},
		{Tag: tag.StudyInstanceUID, Value: "1.2.3.4567.1"}, {Tag: tag.SeriesInstanceUID, Value: "1.2.3.4567.2"},
		{Tag: tag.PatientID, Value: "ID-4567"}, {Tag: tag.PatientName, Value: "Doe^Jane"},
		{Tag: tag.Modality, Value: "DX"}, {Tag: tag.ViewPosition, Value: "LL"},
		{Tag: tag.Rows, Value: 300}, {Tag: tag.Columns, Value: 400}, {Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.BitsAllocated, Value: 16},
		{Tag: tag.BitsStored, Value: 12}, {Tag: tag.HighBit, Value: 11}, {Tag: tag.PixelRepresentation, Value: 0},
		{Tag: tag.PixelData, Value: pixels},
	}
}

func writeDICOM(t *testing.T, syntax string, elems []dicom.Element) string {
	t.Helper()
	var b bytes.Buffer
	if err := dicom.Write(&b, syntax, elems); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "file.dcm")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// runInspect returns what the command writes and the error it leaves with.
func runInspect(t *testing.T, cmd InspectCmd, asJSON bool) (string, error) {
	t.Helper()
	var stdout bytes.Buffer
	if cmd.Recipe == "" {
		cmd.Recipe = "mimic"
	}
	err := cmd.Run(t.Context(), &cli.Output{JSON: asJSON, Stdout: &stdout, Stderr: &stdout})
	return stdout.String(), err
}

func TestInspect_SaysWhatTheModelSees(t *testing.T) {
	file := writeDICOM(t, dicom.ExplicitVRBigEndian, inspectedElements())
	text, err := runInspect(t, InspectCmd{File: file}, false)
	if err != nil {
		t.Fatal(err)
	}
	document, err := runInspect(t, InspectCmd{File: file, Recipe: "display+fit"}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"lateral, from view_position", "no_body_part", "300 x 400, 12 bits stored, MONOCHROME2",
		"Explicit VR Big Endian", "recipe     mimic"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, secret := range []string{"4567", "Doe", "Jane"} {
		if strings.Contains(text+document, secret) {
			t.Errorf("%q is printed:\n%s%s", secret, text, document)
		}
	}
	var got inspection
	if err := json.Unmarshal([]byte(document), &got); err != nil {
		t.Fatal(err)
	}
	// The picture is a ramp from left to right; a chest darkens downwards.
	want := inspection{Recipe: "display+fit", View: "lateral", Evidence: "view_position", Flags: []string{"no_body_part", "rotated"},
		Rows: 300, Columns: 400, BitsStored: 12, Photometric: "MONOCHROME2", TransferSyntax: dicom.ExplicitVRBigEndian,
		Study: serve.HashUID("1.2.3.4567.1"), Series: serve.HashUID("1.2.3.4567.2"), Instance: serve.HashUID("1.2.3.4567.3")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// readNPY returns the header of a version 1.0 file and reads the data, which must be all that follows, into values.
func readNPY(t *testing.T, name string, values any) (header string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte("\x93NUMPY\x01\x00")) {
		t.Fatalf("%s starts with % x", name, b[:8])
	}
	end := 10 + int(binary.LittleEndian.Uint16(b[8:]))
	if end%64 != 0 || b[end-1] != '\n' || len(b)-end != binary.Size(values) {
		t.Fatalf("%s: the data starts at %d, after %q, and has %d bytes", name, end, b[end-1], len(b)-end)
	}
	if err := binary.Read(bytes.NewReader(b[end:]), binary.LittleEndian, values); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b[10:end]))
}

func TestInspect_WritesTheSamePixelsThatPackAndServerSee(t *testing.T) {
	file := writeDICOM(t, dicom.ImplicitVRLittleEndian, inspectedElements())
	dir := t.TempDir()
	cmd := InspectCmd{File: file, NPY: filepath.Join(dir, "a.npy"), PNG: filepath.Join(dir, "a.png"), StoredNPY: filepath.Join(dir, "s.npy")}
	if _, err := runInspect(t, cmd, false); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	img, err := cxr.FromDICOM(data, cxr.Mimic, dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want, got := make([]float32, 224*224), make([]float32, 224*224)
	cxr.Input(img.Stored, 224, want)
	header := readNPY(t, cmd.NPY, got)
	if header != "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 224, 224), }" || !cmp.Equal(want, got) {
		t.Errorf("%s; the input is another: %t", header, !cmp.Equal(want, got))
	}
	stored := make([]int32, 300*400)
	header = readNPY(t, cmd.StoredNPY, stored)
	if header != "{'descr': '<i4', 'fortran_order': False, 'shape': (300, 400), }" || stored[0] != 0 || stored[401] != 401 || stored[4001] != 1 {
		t.Errorf("%s %v", header, stored[:8])
	}
	b, err := os.ReadFile(cmd.PNG)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	gray, ok := picture.(*image.Gray)
	if !ok || gray.Rect != image.Rect(0, 0, 224, 224) {
		t.Fatalf("%T of %v", picture, picture.Bounds())
	}
	for i, v := range want {
		if float32(gray.Pix[i])/255 != v {
			t.Fatalf("pixel %d: %d, the input is %v", i, gray.Pix[i], v)
		}
	}
}

func TestInspect_BadInput(t *testing.T) {
	change := func(at tag.Tag, value any) []dicom.Element {
		elems := inspectedElements()
		for i := range elems {
			if elems[i].Tag == at {
				elems[i].Value = value
			}
		}
		return elems
	}
	dir := t.TempDir()
	put := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := writeDICOM(t, dicom.ExplicitVRLittleEndian, inspectedElements())
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	huge := put("huge", nil)
	if err := os.Truncate(huge, 1<<30); err != nil { // takes no room on disk
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cmd  InspectCmd
		exit int
		code string // of a refusal
		text string
	}{
		{"no file", InspectCmd{File: filepath.Join(dir, "none")}, 1, "", "none"},
		{"a folder", InspectCmd{File: dir}, 1, "", "not a regular file"},
		{"endless", InspectCmd{File: "/dev/zero"}, 1, "", "not a regular file"},
		{"recipe", InspectCmd{File: good, Recipe: "mimik"}, 2, "", "mimik"},
		{"unwritable", InspectCmd{File: good, NPY: filepath.Join(dir, "none", "a.npy")}, 1, "", "none"},
		{"1 GB", InspectCmd{File: huge}, 3, "too_large", "1073741824 bytes"},
		{"not DICOM", InspectCmd{File: put("text", []byte("hello"))}, 3, "not_dicom", "DICM"},
		{"truncated", InspectCmd{File: put("cut", whole[:len(whole)-1000])}, 3, "truncated", "(7fe0,0010)"},
		{"cut PNG", InspectCmd{File: put("png", []byte("\x89PNG\r\n\x1a\nxx"))}, 3, "malformed_picture", "png"},
		{"compressed", InspectCmd{File: writeDICOM(t, "1.2.840.10008.1.2.4.90", change(tag.PixelData, []byte{1, 2}))}, 3,
			"unsupported_transfer_syntax", "JPEG 2000 Image Compression (Lossless Only) (1.2.840.10008.1.2.4.90)"},
		{"CT", InspectCmd{File: writeDICOM(t, dicom.ExplicitVRLittleEndian, change(tag.Modality, "CT"))}, 3, "wrong_modality", `"CT"`},
		{"knee", InspectCmd{File: writeDICOM(t, dicom.ExplicitVRLittleEndian,
			append(inspectedElements(), dicom.Element{Tag: tag.BodyPartExamined, Value: "KNEE"}))}, 3, "not_chest", `"KNEE"`},
	} {
		out, err := runInspect(t, c.cmd, true)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", c.name, err, c.text)
			continue
		}
		exit := 1
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) {
			exit = coded.ExitCode()
		}
		var got inspection
		if out != "" {
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		code := ""
		if got.Refused != nil {
			code = got.Refused.Code
		}
		if exit != c.exit || code != c.code {
			t.Errorf("%s: exit code %d, refusal %q; want %d, %q", c.name, exit, code, c.exit, c.code)
		}
	}
}
