package data

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// nihLabelSet is a row's labels: the given ones positive, the three that ChestX-ray14 does not have absent, the rest negative.
func nihLabelSet(positive ...string) (l model.LabelSet) {
	for _, absent := range []string{"Fracture", "Support Devices", "Enlarged Cardiomediastinum"} {
		l[model.LabelIndex(absent)] = model.Absent
	}
	for _, p := range positive {
		l[model.LabelIndex(p)] = model.Positive
	}
	return l
}

func TestIndexNIH_GoldenTable(t *testing.T) {
	root := writeNIH(t, []string{
		nihRow(1, 0, "No Finding", "PA"),
		nihRow(1, 1, "Nodule|Mass|Infiltration", "AP"),
		nihRow(2, 0, "Effusion|Pleural_Thickening", "PA"),
		nihRow(3, 0, "Emphysema|Fibrosis|Hernia", "PA"),
		nihRow(4, 0, "Atelectasis|Cardiomegaly|Consolidation|Edema|Pneumonia|Pneumothorax", "AP"),
	}, []string{"00000001_000.png", "00000001_001.png", "00000002_000.png"}, []string{"00000003_000.png", "00000004_000.png"})
	x, remarks, err := IndexNIH(context.Background(), IndexOptions{Root: root, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if x.Root != root || x.Dataset != "nih" || x.Created.IsZero() {
		t.Errorf("index of %q at %q, made %v", x.Dataset, x.Root, x.Created)
	}
	row := func(id, patient string, split Split, positive ...string) Image {
		info, err := os.Stat(filepath.Join(root, "images", id+".png"))
		if err != nil {
			t.Fatal(err)
		}
		return Image{Dataset: "nih", PatientID: patient, StudyID: id, ImageID: id + ".png", Path: "images/" + id + ".png",
			Bytes: info.Size(), View: cxr.Frontal, Evidence: cxr.EvidenceTable, Split: split, Labels: nihLabelSet(positive...), Patient: Patient{"M", 58}}
	}
	want := []Image{
		row("00000001_000", "1", Train, "No Finding"),
		row("00000001_001", "1", Train, "Lung Lesion", "Lung Opacity"),
		row("00000002_000", "2", Train, "Pleural Effusion", "Pleural Other"),
		row("00000003_000", "3", Test),
		row("00000004_000", "4", Test, "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pneumonia", "Pneumothorax"),
	}
	if diff := cmp.Diff(want, x.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	wantRemarks := Remarks{{Code: "empty_split", Text: "splits without an image", Count: 1, Items: []string{"validate"}}}
	if diff := cmp.Diff(wantRemarks, remarks); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
}

func TestIndexNIH_RemarksWhatIsOdd(t *testing.T) {
	rows := []string{
		nihRow(1, 0, "No Finding", "PA"),
		nihRow(2, 0, "Scoliosis|Edema", "XX"),
		nihRow(3, 0, "Edema", "PA"),
		nihRow(4, 0, "Edema", "PA"),
		nihRow(1, 0, "Edema", "PA"),
	}
	root := writeNIH(t, rows, []string{"00000001_000.png", "00000002_000.png", "00000003_000.png", "00000009_000.png"}, nil)
	if err := os.Remove(filepath.Join(root, "images/00000003_000.png")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root, "images_002/images/00000001_000.png", []byte("another"))
	writeFile(t, root, "images_002/images/00000007_000.png", []byte("untold"))
	table := strings.ReplaceAll(nihHeader+",Shoe Size\n"+strings.Join(rows, ",44\n")+",44\n", "\n", "\r\n")
	writeFile(t, root, nihTable, []byte("\ufeff"+table))

	x, remarks, err := IndexNIH(context.Background(), IndexOptions{Root: root, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, r := range remarks {
		name := r.Code
		if r.Refused {
			name = "refused " + name
		}
		got[name] = r.Items
	}
	want := map[string][]string{
		"refused duplicate_row": {"00000001_000.png"},
		"refused missing_image": {"00000003_000.png"},
		"refused not_in_a_list": {"00000004_000.png"},
		"unknown_column":        {"Shoe Size"},
		"unknown_label":         {`00000002_000.png: "Scoliosis"`},
		"unknown_view":          {`00000002_000.png: "XX"`},
		"duplicate_file":        {"images_002/images/00000001_000.png, used: images/00000001_000.png"},
		"not_in_table":          {"images_002/images/00000007_000.png"},
		"listed_only":           {"00000009_000.png"},
		"empty_split":           {"validate", "test"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
	if remarks.Refused() != 3 || len(x.Images) != 2 {
		t.Errorf("%d refused and %d kept, want 3 and 2", remarks.Refused(), len(x.Images))
	}
	if odd := x.Images[1]; odd.View != cxr.Unknown || odd.Evidence != cxr.EvidenceNone || odd.Labels != nihLabelSet("Edema") {
		t.Errorf("the image of unknown view and label became %+v", odd)
	}
}

func TestIndexNIH_RefusesAPatientInTwoSplits(t *testing.T) {
	root := writeNIH(t, []string{nihRow(77001, 0, "Edema", "PA"), nihRow(77001, 1, "Edema", "PA")},
		[]string{"00077001_000.png"}, []string{"00077001_001.png"})
	_, _, err := IndexNIH(context.Background(), IndexOptions{Root: root})
	var leak *AuditError
	if !errors.As(err, &leak) || len(leak.PatientsInTwoSplits) != 1 {
		t.Fatalf("error %v, want an audit error with one patient", err)
	}
	if text := err.Error(); !strings.Contains(text, Hashed("nih", "77001")) || strings.Contains(text, "77001") {
		t.Errorf("error %q should name the patient by hash alone", text)
	}
}

func TestIndexNIH_SharesOverrideTheLists(t *testing.T) {
	var rows []string
	for p := range 60 {
		rows = append(rows, nihRow(p, 0, "Edema", "PA"), nihRow(p, 1, "Edema", "PA"))
	}
	root := writeNIH(t, rows, nil, nil)
	for _, list := range []string{nihTrainValList, nihTestList} {
		if err := os.Remove(filepath.Join(root, list)); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := IndexNIH(context.Background(), IndexOptions{Root: root})
	if err == nil || !strings.Contains(hint.Of(err), "--split-shares") {
		t.Errorf("without lists: error %v with hint %q, want one that names --split-shares", err, hint.Of(err))
	}
	x, _, err := IndexNIH(context.Background(), IndexOptions{Root: root, Shares: &Shares{0.4, 0.3, 0.3}, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	for s, c := range Count(x.Images) {
		if c.Patients < 5 || c.Images != 2*c.Patients {
			t.Errorf("%v: %d patients with %d images", s, c.Patients, c.Images)
		}
	}
}

func TestIndexNIH_FoldsAndLabels(t *testing.T) {
	var rows []string
	for p := range 60 {
		rows = append(rows, nihRow(p, 0, "Edema|Pneumonia", "PA"))
	}
	root := writeNIH(t, rows, nil, nil)
	opt := IndexOptions{Root: root, Shares: &Shares{0.4, 0.1, 0.5}, Labels: []string{"Pneumonia"}}
	tested := map[string]int{}
	for i := 1; i <= 2; i++ {
		opt.Fold = Fold{i, 2}
		x, _, err := IndexNIH(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		want := model.AbsentLabels()
		want[model.LabelIndex("Pneumonia")] = model.Positive
		for _, img := range x.Images {
			if img.Labels != want {
				t.Fatalf("labels are %v, want %v", img.Labels, want)
			}
			if img.Split == Test {
				tested[img.PatientID]++
			}
		}
	}
	for patient, n := range tested {
		if n != 1 {
			t.Errorf("patient %s is tested in %d folds", patient, n)
		}
	}
	if len(tested) != 60 {
		t.Errorf("%d of 60 patients were tested", len(tested))
	}

	for _, c := range []struct {
		name       string
		change     func(*IndexOptions)
		want, cure string
	}{
		{"unknown label", func(o *IndexOptions) { o.Labels = []string{"Pneumona"} }, `unknown label "Pneumona"`, "Pneumonia"},
		{"overlapping folds", func(o *IndexOptions) { o.Fold = Fold{2, 3} }, "the test share is not 1/3", "--split-shares"},
		{"folds of the official split", func(o *IndexOptions) { o.Shares = nil }, "the test share is not 1/2", "--split-shares"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := opt
			c.change(&opt)
			if _, _, err := IndexNIH(context.Background(), opt); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.cure) {
				t.Errorf("error %v with hint %q, want %q and %q", err, hint.Of(err), c.want, c.cure)
			}
		})
	}
}

func TestIndexNIH_NamesWhatIsWrong(t *testing.T) {
	one := []string{nihRow(1, 0, "Edema", "PA")}
	both := []string{"00000001_000.png"}
	for _, c := range []struct {
		name       string
		spoil      func(root string)
		want, cure string
	}{
		{"no table", func(root string) { os.Remove(filepath.Join(root, nihTable)) }, nihTable, "--root"},
		{"empty table", func(root string) { writeFile(t, root, nihTable, nil) }, "the file is empty", ""},
		{"no column", func(root string) { writeFile(t, root, nihTable, []byte("Image Index,Patient ID\n")) }, `no column "Finding Labels"`, "Image Index, Patient ID"},
		{"ragged row", func(root string) { writeFile(t, root, nihTable, []byte(nihHeader+"\na,b\n")) }, "no image to index", "line 2"},
		{"no images", func(root string) { os.RemoveAll(filepath.Join(root, "images")) }, "no image files", "unpack"},
		{"no row with an image", func(root string) {
			writeFile(t, root, nihTable, []byte(nihHeader+"\n"+nihRow(8, 0, "Edema", "PA")+"\n"))
		},
			"no image to index", "missing_image"},
		{"in both lists", func(root string) { writeFile(t, root, nihTestList, []byte(both[0])) }, "is in " + nihTrainValList + " too", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := writeNIH(t, one, both, nil)
			c.spoil(root)
			_, _, err := IndexNIH(context.Background(), IndexOptions{Root: root})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.cure) {
				t.Errorf("error %v with hint %q, want %q and %q", err, hint.Of(err), c.want, c.cure)
			}
		})
	}
}

func TestRemarks_TextNamesTheFirstAndCountsTheRest(t *testing.T) {
	var r Remarks
	for _, name := range []string{"a", "b", "c"} {
		r.note("odd", "odd files", name)
	}
	r.refuse("bad", "bad files", "d")
	r.sort()
	want := "left out: 1 bad files (bad)\n    d\nnote: 3 odd files (odd)\n    a\n    b\n    and 1 more\n"
	if diff := cmp.Diff(want, r.Text(2)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}
