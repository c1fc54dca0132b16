package synth

import (
	"compress/gzip"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// phantom makes one and returns its files by path, tables unzipped.
func phantom(t *testing.T, cfg Config) map[string]string {
	t.Helper()
	cfg.Out = filepath.Join(t.TempDir(), "phantom")
	generate(t, cfg)
	files := tree(t, cfg.Out)
	for at, body := range files {
		if strings.HasSuffix(at, ".gz") {
			z, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			files[at] = string(text)
		}
	}
	return files
}

func TestLayouts_ColumnsAndPathsAreTheRealOnes(t *testing.T) {
	for name, c := range map[string]struct {
		tables map[string]string // by the header's file
		image  string            // pattern of its path
		others []string
	}{
		"mimic": {map[string]string{"mimic-metadata.csv": "mimic-cxr-2.0.0-metadata.csv.gz", "mimic-split.csv": "mimic-cxr-2.0.0-split.csv.gz", "mimic-chexpert.csv": "mimic-cxr-2.0.0-chexpert.csv.gz"},
			`^files/p1\d/p1\d{7}/s5\d{7}/[0-9a-f]{8}(-[0-9a-f]{8}){4}\.jpg$`, nil},
		"chexpert": {map[string]string{"chexpert.csv": "CheXpert-v1.0-small/train.csv", "chexpert-plus.csv": "df_chexpert_plus_240401.csv"},
			`^CheXpert-v1.0-small/(train|valid|test)/patient\d{5}/study\d+/view\d_(frontal|lateral)\.jpg$`,
			[]string{"chexbert_labels/impression_fixed.json", "chexbert_labels/findings_fixed.json", "chexbert_labels/report_fixed.json"}},
		"padchest": {map[string]string{"padchest.csv": "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"}, `^\d{1,2}/\d{30,40}_[0-9a-z]{6}\.png$`, nil},
		"nih":      {map[string]string{"nih.csv": "Data_Entry_2017_v2020.csv"}, `^images_001/images/\d{8}_\d{3}\.png$`, []string{"train_val_list.txt", "test_list.txt"}},
	} {
		t.Run(name, func(t *testing.T) {
			at := institution(t, name)
			files := phantom(t, Config{At: at, Studies: 12, Seed: 3, Size: 64})
			again := phantom(t, Config{At: at, Studies: 12, Seed: 3, Size: 64, Workers: 1})
			if diff := cmp.Diff(files, again); diff != "" {
				t.Errorf("made again with one worker:\n%.2000s", diff)
			}
			for header, table := range c.tables {
				want, err := os.ReadFile(filepath.Join("testdata/headers", header))
				if err != nil {
					t.Fatal(err)
				}
				first, _, _ := strings.Cut(files[table], "\n")
				// The real header of ChestX-ray14 does not quote its commas.
				if diff := cmp.Diff(strings.TrimSpace(string(want)), first); diff != "" {
					t.Errorf("%s (-real +written):\n%s", table, diff)
				}
			}
			studies, _ := census(at, 3, 12)
			views, pictures := 0, 0
			for _, s := range studies {
				views += len(s.Views)
			}
			pattern := regexp.MustCompile(c.image)
			for at, body := range files {
				switch path.Ext(at) {
				case ".jpg":
					if _, err := jpeg.DecodeConfig(strings.NewReader(body)); err != nil {
						t.Errorf("%s: %v", at, err)
					}
				case ".png":
					if _, err := png.DecodeConfig(strings.NewReader(body)); err != nil {
						t.Errorf("%s: %v", at, err)
					}
				default:
					continue
				}
				pictures++
				if !pattern.MatchString(at) {
					t.Errorf("an image at %s", at)
				}
			}
			if pictures != views || views < 12 {
				t.Errorf("%d pictures of %d views", pictures, views)
			}
			for _, other := range append(c.others, "truth.csv", "truth_labels.csv") {
				if _, there := files[other]; !there {
					t.Errorf("no %s", other)
				}
			}
		})
	}
}

func TestLayouts_IdentifiersAreUnique(t *testing.T) {
	for _, name := range []string{"mimic", "chexpert", "padchest", "nih", "dicom"} {
		at, err := InstitutionOf(name)
		if err != nil {
			t.Fatal(err)
		}
		how := layouts(Config{})[name]
		studies, _ := census(at, 8, 3000)
		patients, seen := map[string]uint64{}, map[string]bool{}
		for _, s := range studies {
			patient, study := how.names(s)
			if index, known := patients[patient]; known && index != s.Patient.index || seen[study] {
				t.Fatalf("%s: patient %s or study %s is there twice", name, patient, study)
			}
			patients[patient], seen[study] = s.Patient.index, true
		}
	}
}

func TestInstitutionOf_NamesTheLayouts(t *testing.T) {
	if _, err := InstitutionOf("vindr"); err == nil || !strings.Contains(err.Error(), `unknown layout "vindr"`) {
		t.Errorf("error %v", err)
	}
}
