package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom"
)

// patientFile is a radiograph with names in it.
func patientFile(t *testing.T, path string, more ...dicom.Element) {
	t.Helper()
	elems := []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: "1.2.826.99." + filepath.Base(path)[:1]},
		{Tag: tag.StudyInstanceUID, Value: "1.2.826.98"}, {Tag: tag.Modality, Value: "DX"},
		{Tag: tag.PatientName, Value: "DOE^JANE"}, {Tag: tag.PatientID, Value: "MRN-4711"},
		{Tag: tag.Rows, VR: "US", Value: 1}, {Tag: tag.Columns, VR: "US", Value: 2}, {Tag: tag.SamplesPerPixel, VR: "US", Value: 1},
		{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.BitsAllocated, VR: "US", Value: 8},
		{Tag: tag.BitsStored, VR: "US", Value: 8}, {Tag: tag.PixelRepresentation, VR: "US", Value: 0},
		{Tag: tag.PixelData, VR: "OB", Value: []byte{1, 2}},
	}
	for _, m := range more {
		elems = append(slices.DeleteFunc(elems, func(e dicom.Element) bool { return e.Tag == m.Tag }), m)
	}
	var b bytes.Buffer
	if err := dicom.Write(&b, dicom.ExplicitVRLittleEndian, elems); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// deidentified runs the command and returns its document, its error and the files it wrote, by their paths.
func deidentified(t *testing.T, c DeidentifyCmd) (doc map[string]any, files map[string][]byte, err error) {
	t.Helper()
	c.Out = filepath.Join(t.TempDir(), "out")
	var stdout bytes.Buffer
	err = c.Run(context.Background(), &cli.Output{JSON: true, Stdout: &stdout, Stderr: t.Output()})
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		delete(doc, "out")
	}
	files = map[string][]byte{}
	walk := filepath.WalkDir(c.Out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		at, err := filepath.Rel(c.Out, path)
		if err != nil {
			return err
		}
		files[at], err = os.ReadFile(path)
		return err
	})
	if walk != nil && len(doc) > 0 {
		t.Fatal(walk)
	}
	return doc, files, err
}

func TestDeidentify_TreeWithoutNames(t *testing.T) {
	in := t.TempDir()
	patientFile(t, filepath.Join(in, "DOE JANE", "chest", "1.dcm"))
	patientFile(t, filepath.Join(in, "DOE JANE", "chest", "2.dcm"))
	patientFile(t, filepath.Join(in, "ROE", "3 DOE.dcm"))
	patientFile(t, filepath.Join(in, "ROE", "4.dcm"), dicom.Element{Tag: tag.BurnedInAnnotation, Value: "YES"})
	if err := os.WriteFile(filepath.Join(in, "list of patients.txt"), []byte("DOE^JANE"), 0o666); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, bytes.Repeat([]byte("k"), 32), 0o666); err != nil {
		t.Fatal(err)
	}
	doc, files, err := deidentified(t, DeidentifyCmd{Paths: []string{in}, KeyFile: key})
	if exitOf(err) != cli.ExitRefused {
		t.Errorf("left with %d (%v), want %d", exitOf(err), err, cli.ExitRefused)
	}
	want := map[string]any{"schema_version": 1.0, "images": 3.0, "burned_in": 1.0, "text_seen": []any{}, "refused": []any{
		map[string]any{"name": filepath.Join(in, "ROE", "4.dcm"), "code": "burned_in", "detail": "BurnedInAnnotation is YES: text is part of the pixels"},
		map[string]any{"name": filepath.Join(in, "list of patients.txt"), "code": "not_dicom", "detail": `no "DICM" after a preamble of 128 bytes`},
	}}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Errorf("document (-want +got)\n%s", diff)
	}
	folders := map[string]int{}
	for at, data := range files {
		folders[filepath.Dir(at)]++
		for _, secret := range []string{"DOE", "JANE", "ROE", "chest", "4711", "1.2.826"} {
			if strings.Contains(at, secret) || bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %q", at, secret)
			}
		}
		if f, err := dicom.Parse(data, dicom.DefaultLimits()); err != nil || f.String(tag.PatientIdentityRemoved) != "YES" {
			t.Errorf("%s: %v", at, err)
		}
	}
	if len(files) != 3 || len(folders) != 2 {
		t.Errorf("%d files in %d folders, want 3 in 2", len(files), len(folders))
	}

	// The same key gives the same files; no key, others each time.
	_, again, _ := deidentified(t, DeidentifyCmd{Paths: []string{in}, KeyFile: key})
	if diff := cmp.Diff(files, again); diff != "" {
		t.Errorf("the same key again (-first +second)\n%s", diff)
	}
	_, other, _ := deidentified(t, DeidentifyCmd{Paths: []string{in}})
	for at := range other {
		if files[at] != nil {
			t.Errorf("%s has the same name under another key", at)
		}
	}

	// Text in the pixels passes when asked to.
	doc, files, err = deidentified(t, DeidentifyCmd{Paths: []string{filepath.Join(in, "ROE", "4.dcm")}, BurnedIn: true})
	if err != nil || doc["images"] != 1.0 || len(files) != 1 {
		t.Errorf("one file: %v, %v, %d files", err, doc, len(files))
	}
}

// A line of text is warned of, though the header says nothing; a marker is not.
func TestDeidentify_TextThatCanBeSeen(t *testing.T) {
	in := t.TempDir()
	for name, letters := range map[string]int{"1.dcm": 12, "2.dcm": 2} {
		const side = 300
		pixels := make([]byte, side*side)
		for i := range pixels {
			y, x := i/side, i%side
			pixels[i] = byte(40 + y/4)
			if y > 10 && y < 18 && x > 20 && x < 20+5*letters && x%5 < 2 { // as if written with the letter I
				pixels[i] = 255
			}
		}
		patientFile(t, filepath.Join(in, name), dicom.Element{Tag: tag.BodyPartExamined, Value: "CHEST"},
			dicom.Element{Tag: tag.Rows, VR: "US", Value: side}, dicom.Element{Tag: tag.Columns, VR: "US", Value: side},
			dicom.Element{Tag: tag.PixelData, VR: "OB", Value: pixels})
	}
	doc, files, err := deidentified(t, DeidentifyCmd{Paths: []string{in}})
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if diff := cmp.Diff([]any{filepath.Join(in, "1.dcm")}, doc["text_seen"]); diff != "" {
		t.Errorf("files with text (-want +got)\n%s", diff)
	}
}

func TestDeidentify_WrongUse(t *testing.T) {
	in := t.TempDir()
	patientFile(t, filepath.Join(in, "1.dcm"))
	short := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(short, []byte("short"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cmd  DeidentifyCmd
		exit int
		says string
	}{
		"short key":      {DeidentifyCmd{Paths: []string{in}, KeyFile: short}, cli.ExitUsage, "has 5 bytes; at least 16 are needed"},
		"no such path":   {DeidentifyCmd{Paths: []string{filepath.Join(in, "none")}}, cli.ExitFailure, "no such file"},
		"an empty place": {DeidentifyCmd{Paths: []string{t.TempDir()}}, cli.ExitFailure, "no file in"},
	} {
		_, files, err := deidentified(t, c.cmd)
		if err == nil || exitOf(err) != c.exit || !strings.Contains(err.Error(), c.says) || len(files) > 0 {
			t.Errorf("%s: %v, exit %d, %d files", name, err, exitOf(err), len(files))
		}
	}
	c := DeidentifyCmd{Paths: []string{in}, Out: in}
	if err := c.Run(context.Background(), &cli.Output{}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a folder in use: %v", err)
	}
}
