package cxr

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
)

// realChest is a portable chest radiograph of The Cancer Imaging Archive that ships with the parser's module, so that
// every clone has it: implicit VR, 10-bit MONOCHROME1, an empty ViewPosition.
func realChest(t testing.TB) []byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/suyashkumar/dicom").Output()
	if err != nil {
		t.Fatalf("find the parser's module: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "4.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The digests were computed in Python and agreed: pydicom 3.0.1 for the stored values, NumPy 2.4 for (a/a.max()*255) as
// uint8, 255-u8, cv2.equalizeHist of OpenCV 5.0, the exact area average as a product of integer matrices, (s+n/2)//n. For
// display NumPy followed the window (511, 1023) of the header, as pydicom's apply_voi_lut does.
func TestRealChest_AgreesWithPydicomAndOpenCV(t *testing.T) {
	file := realChest(t)
	for recipe, want := range map[string]string{
		"mimic":     "26ebd2d5f124317c9ee30cc249c22e5bce30bf4b00bf0a2ccc213587a470b03c",
		"mimic+fit": "a7c4eacaafb4f5324f08a83f345033b4d172fbc57b3d88bf889bc0922fa80687",
		"display":   "83f3fb73fa4b0b66fe45750ec58bb1161c4ea5222864875f44cf4d836d29cc0c",
	} {
		r, err := ParseRecipe(recipe)
		if err != nil {
			t.Fatal(err)
		}
		img, err := FromDICOM(file, r, dicom.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(img.Stored)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s: stored picture %s, want %s", recipe, got, want)
		}
		img.Stored = nil
		img.StudyInstanceUID, img.SeriesInstanceUID, img.SOPInstanceUID, img.PatientID = "", "", "", ""
		// AcquisitionDeviceProcessingDescription is "CHEST AP PORT X-WISE GRID".
		head := &Image{View: Frontal, Evidence: EvidenceProcessingDescription, Rows: 2140, Columns: 1760, BitsStored: 10,
			Photometric: "MONOCHROME1", TransferSyntaxUID: dicom.ImplicitVRLittleEndian, Flags: []string{FlagBurnedIn}}
		if diff := cmp.Diff(head, img); diff != "" {
			t.Errorf("%s (-want +got)\n%s", recipe, diff)
		}
	}
}
