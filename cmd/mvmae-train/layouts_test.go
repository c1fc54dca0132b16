package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/synth"
)

// world draws the studies of a phantom as Generate does.
func world(at *synth.Institution, seed uint64, n int) (studies []*synth.Study) {
	for i := 0; len(studies) < n; i++ {
		p := synth.NewPatient(at, seed, i)
		for v := 0; v < p.Visits && len(studies) < n; v++ {
			studies = append(studies, synth.NewStudy(p, v))
		}
	}
	return studies
}

// A phantom in each dataset's layout is indexed and packed as the dataset would be, and what comes out is what was drawn.
func TestLayouts_IndexedAndPackedAsTheyWereDrawn(t *testing.T) {
	const n, seed = 30, 6
	for _, c := range []struct {
		name, layout string
		dicom        bool
		reports      bool
		small        string // a folder below that is a dataset too
	}{
		{"MIMIC-CXR-JPG", "mimic", false, true, ""},
		{"MIMIC-CXR", "mimic", true, true, ""},
		{"CheXpert Plus", "chexpert", false, true, "CheXpert-v1.0-small"},
		{"PadChest", "padchest", false, true, ""},
		{"ChestX-ray14", "nih", false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, err := synth.InstitutionOf(c.layout)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			phantom, index, pack := filepath.Join(dir, "phantom"), filepath.Join(dir, "x.parquet"), filepath.Join(dir, "pack")
			cfg := synth.Config{At: at, Studies: n, Seed: seed, Size: 64, Out: phantom, DICOM: c.dicom}
			if _, err := synth.Generate(context.Background(), cfg, nil); err != nil {
				t.Fatal(err)
			}
			doc, err := dataCommand(t, "index", c.layout, "--root", phantom, "--out", index)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range doc["remarks"].([]any) {
				if code := r.(map[string]any)["code"]; code != "unknown_view" && code != "empty_split" {
					t.Errorf("a remark on %v", r)
				}
			}
			if doc["paper"].(map[string]any)["same"] != false {
				t.Error("the phantom counts as the paper's dataset")
			}
			if _, err := dataCommand(t, "pack", index, "--out", pack, "--no-deidentify"); err != nil {
				t.Fatal(err)
			}
			p, err := data.Open(pack)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			x, err := data.ReadIndex(index)
			if err != nil {
				t.Fatal(err)
			}
			drawn := world(at, seed, n)
			compareWithTruth(t, drawn, x.Images, c.reports)
			if len(p.Studies) != n || len(p.Images) != len(x.Images) || (p.Studies[0].Report != "") != c.reports {
				t.Errorf("the pack has %d studies and %d images, the first report is %q", len(p.Studies), len(p.Images), p.Studies[0].Report)
			}
			if c.small != "" {
				doc, err := dataCommand(t, "index", c.layout, "--root", filepath.Join(phantom, c.small), "--tables-only")
				if err != nil {
					t.Fatal(err)
				}
				if got, want := doc["counts"], data.Count(x.Images); !sameStudies(got, want) {
					t.Errorf("%s: %v, want the studies of %+v", c.small, got, want)
				}
			}
		})
	}
}

func sameStudies(doc any, want data.Counts) bool {
	for _, s := range data.Splits {
		if doc.(map[string]any)[s.String()].(map[string]any)["studies"] != float64(want[s].Studies) {
			return false
		}
	}
	return true
}

// compareWithTruth expects the images in the order in which they were drawn.
func compareWithTruth(t *testing.T, drawn []*synth.Study, images []data.Image, reports bool) {
	t.Helper()
	next, missed, invented, there, known := 0, 0, 0, 0, 0
	for _, s := range drawn {
		truth := s.Labels()
		for i, v := range s.Views {
			if next == len(images) {
				t.Fatalf("%d images: some are missing", len(images))
			}
			img := images[next]
			next++
			want := cxr.Unknown
			switch v.Projection {
			case synth.PA, synth.AP:
				want = cxr.Frontal
			case synth.LL:
				want = cxr.Lateral
			}
			if img.View != want || img.Patient.Sex != "" && img.Patient.Sex != s.Patient.Sex {
				t.Errorf("image %d is a %v view of %+v, drawn was %s of %s", next, img.View, img.Patient, v.Projection, s.Patient.Sex)
			}
			if reports == (img.Report == "") || reports && !strings.HasSuffix(img.Report, ".") {
				t.Errorf("image %d has the report %q", next, img.Report)
			}
			if i > 0 {
				if img.StudyID != images[next-2].StudyID {
					t.Errorf("image %d begins a study", next)
				}
				continue
			}
			for l, state := range img.Labels {
				if state == model.Absent || model.Labels[l] == "No Finding" {
					continue
				}
				known++
				switch {
				case truth[l] == model.Positive && (state == model.Blank || state == model.Negative):
					missed++
				case truth[l] == model.Negative && state == model.Positive:
					invented++
				}
				if truth[l] == model.Positive {
					there++
				}
			}
		}
	}
	// The grammar leaves out 2 % of what is there, and a labeller errs in some hundredths of it.
	if next != len(images) || 5*missed > there || 5*invented > there || there < 15 {
		t.Errorf("%d of %d images; of %d findings among %d labels %d are missed, and %d invented", next, len(images), there, known, missed, invented)
	}
}

func TestIndexTables_OutOrTablesOnly(t *testing.T) {
	root := t.TempDir()
	for _, args := range [][]string{{"--tables-only", "--out", filepath.Join(root, "x.parquet")}, {}} {
		_, err := dataCommand(t, append([]string{"index", "padchest", "--root", root}, args...)...)
		if exitOf(err) != cli.ExitUsage {
			t.Errorf("%v: %v leaves with %d, want %d", args, err, exitOf(err), cli.ExitUsage)
		}
	}
}
