package synth

import (
	"context"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

func generate(t *testing.T, cfg Config) Summary {
	t.Helper()
	sum, err := Generate(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// tree returns the files below a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func table(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestGenerate_SameBytesWithAnyNumberOfWorkers(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	cfg := Config{Studies: 12, Seed: 3, Size: 64, Out: one, Workers: 1}
	first := generate(t, cfg)
	cfg.Out, cfg.Workers = two, 2
	if diff := cmp.Diff(first, generate(t, cfg)); diff != "" {
		t.Errorf("summaries differ (-1 worker +2):\n%s", diff)
	}
	a, b := tree(t, one), tree(t, two)
	if len(a) != first.Images+2 {
		t.Errorf("%d files for %d images, want two tables beside them", len(a), first.Images)
	}
	for path := range a {
		if a[path] != b[path] {
			t.Errorf("%s differs between 1 and 2 workers", path)
		}
	}
	cfg.Out, cfg.Seed = filepath.Join(t.TempDir(), "c"), 4
	generate(t, cfg)
	for path := range tree(t, cfg.Out) {
		if strings.HasPrefix(path, "dicom") && a[path] != "" {
			t.Errorf("%s is in the worlds of two seeds", path)
		}
	}
}

func TestGenerate_TablesTellTheTruth(t *testing.T) {
	out := filepath.Join(t.TempDir(), "phantom")
	sum := generate(t, Config{Studies: 15, Seed: 6, Size: 64, Out: out})
	studies, patients := census(&Plain, 6, 15)
	if sum.Patients != patients || sum.Studies != 15 {
		t.Errorf("summary says %d patients and %d studies, want %d and 15", sum.Patients, sum.Studies, patients)
	}
	labels := table(t, filepath.Join(out, "labels.csv"))
	if diff := cmp.Diff(append([]string{"study_instance_uid", "patient_id"}, model.Labels[:]...), labels[0]); diff != "" {
		t.Errorf("header of labels.csv (-want +got):\n%s", diff)
	}
	found := map[string]map[string]bool{}
	for _, row := range table(t, filepath.Join(out, "truth.csv"))[1:] {
		if found[row[0]] == nil {
			found[row[0]] = map[string]bool{}
		}
		found[row[0]][row[2]] = true
	}
	for i, row := range labels[1:] {
		if row[0] != studies[i].UID() || row[1] != studies[i].Patient.ID {
			t.Errorf("row %d is of study %s of %s, want %s of %s", i, row[0], row[1], studies[i].UID(), studies[i].Patient.ID)
		}
		for k, label := range model.Labels {
			want := "0.0"
			if found[row[0]][label] || label == "No Finding" && (len(found[row[0]]) == 0 || len(found[row[0]]) == 1 && found[row[0]]["Support Devices"]) {
				want = "1.0"
			}
			if row[2+k] != want {
				t.Errorf("row %d: %s is %s, want %s as in truth.csv", i, label, row[2+k], want)
			}
		}
	}
}

func TestGenerate_CompressedIsTheSamePicture(t *testing.T) {
	native, compressed := filepath.Join(t.TempDir(), "native"), filepath.Join(t.TempDir(), "compressed")
	generate(t, Config{Studies: 2, Seed: 6, Size: 300, Out: native})
	generate(t, Config{Studies: 2, Seed: 6, Size: 300, Out: compressed, Compress: true})
	files, err := filepath.Glob(filepath.Join(native, "dicom", "*", "*", "*.dcm"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	read := func(name string) *cxr.Image {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		img, err := cxr.FromDICOM(data, cxr.Mimic, dicom.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	for _, name := range files {
		want, got := read(name), read(filepath.Join(compressed, strings.TrimPrefix(name, native)))
		if got.TransferSyntaxUID != dicom.RLELossless {
			t.Errorf("%s: transfer syntax %s", name, got.TransferSyntaxUID)
		}
		got.TransferSyntaxUID = want.TransferSyntaxUID
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-native +compressed)\n%.500s", name, diff)
		}
	}
}

func TestGenerate_FilesAreReadAsTheyWereMeant(t *testing.T) {
	out := filepath.Join(t.TempDir(), "phantom")
	generate(t, Config{Studies: 60, Seed: 3, Size: 64, Out: out})
	studies, _ := census(&Plain, 3, 60)
	seen := map[string]int{}
	for _, s := range studies {
		for i := range s.Views {
			v := &s.Views[i]
			path := filepath.Join(out, "dicom", s.Patient.ID, "V"+strconv.Itoa(s.Visit+1), strconv.Itoa(i+1)+".dcm")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			img, err := cxr.FromDICOM(data, cxr.Recipe{Name: "mimic"}, dicom.DefaultLimits())
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			want := map[Projection]cxr.View{PA: cxr.Frontal, AP: cxr.Frontal, LL: cxr.Lateral, RAO: cxr.Unknown, LAO: cxr.Unknown}[v.Projection]
			if img.View != want || img.Evidence != cxr.EvidenceViewPosition || !slices.Equal(img.Flags, []string{cxr.FlagTiny}) {
				t.Errorf("%s: view %s by %s, flags %v; want %s by view_position and only tiny", path, img.View, img.Evidence, img.Flags, want)
			}
			if img.StudyInstanceUID != s.UID() || img.PatientID != s.Patient.ID || img.BitsStored != Plain.Display.Bits {
				t.Errorf("%s: identifiers or bits are not what was written", path)
			}
			seen[img.View.String()]++
			seen[img.Photometric]++
		}
	}
	for _, kind := range []string{"frontal", "lateral", "unknown", "MONOCHROME1", "MONOCHROME2"} {
		if seen[kind] == 0 {
			t.Errorf("no %s among %v", kind, seen)
		}
	}
}

func TestObject_TagsParseBack(t *testing.T) {
	s := with(1)
	s.Views[1].inverted, s.Views[1].coded = true, true
	pixels := RenderView(s, 1, 64)
	var file strings.Builder
	if err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, append(s.object(1, 64), dicom.Element{Tag: tag.PixelData, VR: "OW", Value: pixels})); err != nil {
		t.Fatal(err)
	}
	f, err := dicom.Parse([]byte(file.String()), dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	for tg, want := range map[tag.Tag]string{
		tag.SOPClassUID: dxForPresentation, tag.Modality: "DX", tag.ViewPosition: "LL", tag.PatientOrientation: `P\F`,
		tag.BodyPartExamined: "CHEST", tag.PresentationIntentType: "FOR PRESENTATION", tag.PhotometricInterpretation: "MONOCHROME1",
		tag.PresentationLUTShape: "INVERSE", tag.PatientName: "PHANTOM^" + s.Patient.ID, tag.ImageLaterality: "U",
		tag.WindowCenter: "2048", tag.WindowWidth: "4096", tag.PatientSex: s.Patient.Sex, tag.ImagerPixelSpacing: `6.25\6.25`,
	} {
		if got := strings.Join(f.Strings(tg), `\`); got != want {
			t.Errorf("%s is %q, want %q", tg, got, want)
		}
	}
	for tg, want := range map[tag.Tag]int{tag.Rows: 64, tag.Columns: 64, tag.BitsAllocated: 16, tag.BitsStored: 12, tag.HighBit: 11,
		tag.PixelRepresentation: 0, tag.SamplesPerPixel: 1} {
		if got, ok := f.Int(tg); !ok || got != want {
			t.Errorf("%s is %d (%v), want %d", tg, got, ok, want)
		}
	}
	codes := f.Items(tag.ViewCodeSequence)
	if len(codes) != 1 || codes[0].String(tag.CodeValue) != "399173006" {
		t.Errorf("view code sequence of %d items, want one left lateral", len(codes))
	}
	raw := make([]byte, 0, 2*len(pixels))
	for _, p := range pixels {
		raw = binary.LittleEndian.AppendUint16(raw, p)
	}
	if !strings.HasSuffix(file.String(), string(raw)) {
		t.Error("the pixels are not the last bytes of the file, in little endian")
	}
}

func TestRenderView_Monochrome1IsTheNegative(t *testing.T) {
	s := with(2)
	positive := RenderView(s, 0, 64)
	s.Views[0].inverted = true
	for i, x := range RenderView(s, 0, 64) {
		if x != 4095-positive[i] {
			t.Fatalf("pixel %d is %d, want %d", i, x, 4095-positive[i])
		}
	}
}

func TestRenderView_LooksLikeAChest(t *testing.T) {
	const size = 128
	for patient := range 5 {
		s := with(patient)
		for i, regions := range []map[string]vec{
			{"lung": {62, 0, 30}, "other lung": {-62, 0, 30}, "spine": {0, 60, -80}, "liver": {-60, 0, -150}},
			{"lung": {0, -52, 22}, "other lung": {0, 36, -66}, "heart": {20, -25, -65}, "liver": {0, 0, -150}},
		} {
			pixels, cam := RenderView(s, i, size), newCamera(&s.Views[i], size)
			at := func(p vec) float64 { // mean of 5 x 5 pixels
				col, row, _ := cam.project(p.scale(s.anatomy.scale))
				sum := 0.0
				for dy := -2; dy <= 2; dy++ {
					for dx := -2; dx <= 2; dx++ {
						sum += float64(pixels[(int(row)+dy)*size+int(col)+dx])
					}
				}
				return sum / 25
			}
			for _, dark := range []string{"lung", "other lung"} {
				for name, p := range regions {
					if !strings.HasSuffix(name, "lung") && at(p) < at(regions[dark])+0.05*4095 {
						t.Errorf("patient %d, %s: %s at %.0f, %s at %.0f: want it clearly brighter", patient, s.Views[i].Projection, name, at(p), dark, at(regions[dark]))
					}
				}
			}
			if corner := pixels[size*size-1]; corner > 4095/10 {
				t.Errorf("patient %d, %s: air beside the patient at %d, want it black", patient, s.Views[i].Projection, corner)
			}
		}
	}
}

func TestCensus_ViewsPerStudy(t *testing.T) {
	studies, patients := census(&Plain, 1, 1000)
	sum := summarise(studies, patients)
	near(t, "views per study", float64(sum.Images)/1000, 1.55, 0.08)
	near(t, "studies per patient", 1000/float64(patients), 1.65, 0.15)
	shorter, _ := census(&Plain, 1, 10)
	for i, s := range shorter {
		if s.UID() != studies[i].UID() {
			t.Errorf("study %d of a short census is not that of a long one", i)
		}
	}
}

func TestGenerate_Refuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := Config{Studies: 1, Size: 64, Out: filepath.Join(t.TempDir(), "x")}
	cases := []struct {
		name   string
		change func(*Config)
		config bool // the error is ErrConfig
		hint   string
	}{
		{"no studies", func(c *Config) { c.Studies = 0 }, true, ""},
		{"tiny images", func(c *Config) { c.Size = 8 }, true, ""},
		{"huge images", func(c *Config) { c.Size = 1 << 20 }, true, ""},
		{"no folder", func(c *Config) { c.Out = "" }, true, ""},
		{"folder not empty", func(c *Config) { c.Out = full }, false, "choose a new folder"},
		{"file in the way", func(c *Config) { c.Out = filepath.Join(full, "precious") }, false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			_, err := Generate(t.Context(), cfg, nil)
			if err == nil || errors.Is(err, ErrConfig) != c.config || !strings.Contains(hint.Of(err), c.hint) {
				t.Errorf("error %v, hint %q; want ErrConfig: %v, hint with %q", err, hint.Of(err), c.config, c.hint)
			}
		})
	}
}

func TestGenerate_CancelledLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Generate(ctx, Config{Studies: 50, Size: 64, Out: filepath.Join(dir, "x"), Workers: 1}, func(done, total int) {
		if done == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want a cancelled context", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}
