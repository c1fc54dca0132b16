package data

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// states are labels by name; the rest is as given.
func states(rest model.LabelState, named map[string]model.LabelState) (set model.LabelSet) {
	for l, name := range model.Labels {
		set[l] = rest
		if state, ok := named[name]; ok {
			set[l] = state
		}
	}
	return set
}

// itemsOf are the items of remarks by code; those of refusals say so.
func itemsOf(remarks Remarks) map[string][]string {
	items := map[string][]string{}
	for _, r := range remarks {
		name := r.Code
		if r.Refused {
			name = "refused " + name
		}
		items[name] = r.Items
	}
	return items
}

// picture writes a small PNG and returns its size.
func picture(t *testing.T, root, at string, seed uint64) int64 {
	t.Helper()
	body := pngOf(t, pixels(seed, 32), 32)
	writeFile(t, root, at, body)
	return int64(len(body))
}

const mimicLabelHeader = "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion," +
	"Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n"

// writeMIMIC writes two patients with three studies.
func writeMIMIC(t *testing.T) (root string, bytes map[string]int64) {
	t.Helper()
	root, bytes = t.TempDir(), map[string]int64{}
	writeFile(t, root, mimicMetadata, []byte("dicom_id,subject_id,study_id,ViewPosition,Rows\n"+
		"aa-1,10000032,50414267,PA,32\naa-2,10000032,50414267,LATERAL,32\nbb-1,10000032,53189527,AP,32\ncc-1,19000000,59999999,LAO,32\n"))
	writeFile(t, root, mimicLabels, []byte(mimicLabelHeader+"10000032,50414267,1.0,0.0,-1.0,,,,,,,,,,,\n19000000,59999999,,,,,,,,,1.0,,,,,\n"))
	writeFile(t, root, mimicSplit, []byte("dicom_id,study_id,subject_id,split\naa-1,50414267,10000032,train\naa-2,50414267,10000032,train\n"+
		"bb-1,53189527,10000032,train\ncc-1,59999999,19000000,validate\n"))
	for i, at := range []string{"files/p10/p10000032/s50414267/aa-1.png", "files/p10/p10000032/s50414267/aa-2.png",
		"files/p10/p10000032/s53189527/bb-1.png", "files/p19/p19000000/s59999999/cc-1.png"} {
		bytes[strings.TrimSuffix(filepath.Base(at), ".png")] = picture(t, root, at, uint64(i))
	}
	writeFile(t, root, "files/p10/p10000032/s50414267.txt", []byte(" FINAL REPORT\n EXAMINATION:  CHEST\n \n FINDINGS: \n \n Clear.\n \n IMPRESSION: \n \n No  acute\n process.\n"))
	writeFile(t, root, "files/p19/p19000000/s59999999.txt", []byte("FINDINGS: Gr\xf6\xdfe normal.\n"))
	return root, bytes
}

func TestIndexMIMIC_GoldenTree(t *testing.T) {
	root, bytes := writeMIMIC(t)
	x, remarks, err := IndexMIMIC(context.Background(), IndexOptions{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	first := states(model.Blank, map[string]model.LabelState{"Atelectasis": 1, "Cardiomegaly": 0, "Consolidation": -1})
	want := []Image{
		{"mimic", "10000032", "50414267", "aa-1", "files/p10/p10000032/s50414267/aa-1.png", bytes["aa-1"], cxr.Frontal, cxr.EvidenceTable, Train, first, Patient{}, "No acute process."},
		{"mimic", "10000032", "50414267", "aa-2", "files/p10/p10000032/s50414267/aa-2.png", bytes["aa-2"], cxr.Lateral, cxr.EvidenceTable, Train, first, Patient{}, "No acute process."},
		{"mimic", "10000032", "53189527", "bb-1", "files/p10/p10000032/s53189527/bb-1.png", bytes["bb-1"], cxr.Frontal, cxr.EvidenceTable, Train, model.AbsentLabels(), Patient{}, ""},
		{"mimic", "19000000", "59999999", "cc-1", "files/p19/p19000000/s59999999/cc-1.png", bytes["cc-1"], cxr.Unknown, cxr.EvidenceNone, Validate,
			states(model.Blank, map[string]model.LabelState{"No Finding": 1}), Patient{}, "Gr\ufffde normal."},
	}
	if diff := cmp.Diff(want, x.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	wantRemarks := map[string][]string{
		"empty_split": {"test"}, "no_report": {"p10/p10000032/s53189527.txt"}, "report_not_utf8": {"cc-1"},
		"study_without_labels": {"s53189527"}, "unknown_view": {`cc-1: "LAO"`},
	}
	if diff := cmp.Diff(wantRemarks, itemsOf(remarks)); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
}

func TestIndexMIMIC_LeavesOutWhatCannotBeUsed(t *testing.T) {
	root, _ := writeMIMIC(t)
	writeFile(t, root, "files/p10/p10000032/s50414267/aa-2.png", nil)
	writeFile(t, root, "files/p10/p10000032/s50414267/zz-9.jpg", []byte("untold"))
	if err := os.Remove(filepath.Join(root, "files/p10/p10000032/s53189527/bb-1.png")); err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(root, mimicMetadata))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, root, mimicMetadata, append(table, "aa-1,10000032,50414267,PA,32\nshort,row\ndd-1,10000032,50414267,PA,32\n,1,2,PA,32\nst\"ray,1,2,PA,32\n"...))
	picture(t, root, "files/p10/p10000032/s50414267/dd-1.png", 9)
	x, remarks, err := IndexMIMIC(context.Background(), IndexOptions{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	got := itemsOf(remarks)
	for code, want := range map[string][]string{
		"refused bad_row":       {mimicMetadata + ", line 7", mimicMetadata + ", line 10"},
		"refused duplicate_row": {"aa-1"},
		"refused empty_image":   {"files/p10/p10000032/s50414267/aa-2.png"},
		"refused missing_image": {"bb-1"},
		"refused no_identifier": {`""`},
		"refused not_in_a_list": {"dd-1"},
		"not_in_table":          {"files/p10/p10000032/s50414267/zz-9.jpg"},
	} {
		if diff := cmp.Diff(want, got[code]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", code, diff)
		}
	}
	if len(x.Images) != 2 || remarks.Refused() != 7 {
		t.Errorf("%d images kept and %d left out, want 2 and 7", len(x.Images), remarks.Refused())
	}
}

func TestIndexTables_UnknownColumnsAreListed(t *testing.T) {
	mimic, _ := writeMIMIC(t)
	plus := writePlus(t)
	for table, index := range map[string]func() (*Index, Remarks, error){
		filepath.Join(mimic, mimicMetadata): func() (*Index, Remarks, error) { return IndexMIMIC(context.Background(), IndexOptions{Root: mimic}) },
		filepath.Join(plus, chexpertPlusTable): func() (*Index, Remarks, error) {
			return IndexCheXpert(context.Background(), IndexOptions{Root: plus}, "")
		},
	} {
		body, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		before, _, err := index()
		if err != nil {
			t.Fatal(err)
		}
		// The last column first: the order of the columns does not matter. An empty name is a column of row numbers.
		rows := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(body), "Big\nheart", "Big heart")), "\n")
		for i, row := range rows {
			rows[i] = "44,," + row
		}
		rows[0] = strings.Replace(rows[0], "44", "Shoe Size", 1)
		if err := os.WriteFile(table, []byte(strings.Join(rows, "\r\n")+"\r\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		after, remarks, err := index()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before.Images, after.Images); diff != "" {
			t.Errorf("%s with another column (-before +after):\n%s", filepath.Base(table), diff)
		}
		if diff := cmp.Diff([]string{"Shoe Size"}, itemsOf(remarks)["unknown_column"]); diff != "" {
			t.Errorf("%s: unknown columns (-want +got):\n%s", filepath.Base(table), diff)
		}
	}
}

// A picture without pixels passes the index, which reads no pixels, and is left out of the pack.
func TestPack_PictureWithoutPixels(t *testing.T) {
	root, _ := writeMIMIC(t)
	at := "files/p10/p10000032/s50414267/aa-2.png"
	body, err := os.ReadFile(filepath.Join(root, at))
	if err != nil {
		t.Fatal(err)
	}
	clear(body[16:24]) // width and height
	binary.BigEndian.PutUint32(body[29:], crc32.ChecksumIEEE(body[12:29]))
	writeFile(t, root, at, body)
	x, _, err := IndexMIMIC(context.Background(), IndexOptions{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(t.TempDir(), "x.parquet")
	if err := WriteIndex(index, x); err != nil {
		t.Fatal(err)
	}
	result := packOf(t, PackOptions{Out: t.TempDir()}, index)
	if result.Manifest.Images != 3 || result.Remarks.Refused() != 1 || !strings.Contains(result.Remarks.Text(1), at) {
		t.Errorf("%d images packed:\n%s", result.Manifest.Images, result.Remarks.Text(3))
	}
}

func TestMIMICText_ImpressionThenFindingsThenTheLastParagraph(t *testing.T) {
	for _, c := range []struct{ report, want string }{
		{"FINDINGS: a\nIMPRESSION: b", "b"},
		{" FINDINGS: \n \n a\n \n IMPRESSION:\n \n", "a"},
		{"EXAM: x\nFINDINGS AND IMPRESSION:  both\nDr. Who", "both\nDr. Who"},
		{"WET READ: x\nIMPRESSION: old\nFINAL\nIMPRESSION: new", "new"},
		{"INDICATION no colon\n\nSome text.\n \t\nThe end.\nReally.", "The end.\nReally."},
		{"", ""},
	} {
		if got := mimicText(c.report); got != c.want {
			t.Errorf("%q: %q, want %q", c.report, got, c.want)
		}
	}
}

const plusHeader = "path_to_image,frontal_lateral,deid_patient_id,report,section_findings,section_impression,age,sex,split\n"

// writePlus writes CheXpert Plus of three patients.
func writePlus(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	writeFile(t, root, chexpertPlusTable, []byte(plusHeader+
		"train/patient00001/study1/view1_frontal.jpg,Frontal,patient00001,long,f,\"1. Big\nheart.\",68.0,Female,train\n"+
		"train/patient00001/study1/view2_lateral.jpg,Lateral,patient00001,long,f,\"1. Big\nheart.\",68.0,Female,train\n"+
		"valid/patient00002/study1/view1_frontal.jpg,Frontal,patient00002,long,,Clear.,95.0,Male,valid\n"+
		"test/patient00003/study3/view1_frontal.jpg,Oblique,patient00003,long,,,,Unknown,test\n"))
	for i, at := range []string{"train/patient00001/study1/view1_frontal", "train/patient00001/study1/view2_lateral", "valid/patient00002/study1/view1_frontal", "test/patient00003/study3/view1_frontal"} {
		picture(t, root, "PNG/"+at+".png", uint64(i)) // another format than the table names
	}
	line := func(at, more string) string { return fmt.Sprintf(`{"path_to_image": %q%s}`, at, more) + "\n" }
	writeFile(t, root, "chexbert_labels/impression_fixed.json", []byte(
		line("train/patient00001/study1/view1_frontal.jpg", `, "Cardiomegaly": 1.0, "Edema": -1.0, "Fracture": null`)+
			line("train/patient00001/study1/view2_lateral.jpg", `, "Cardiomegaly": 1.0, "Edema": -1.0`)+
			line("valid/patient00002/study1/view1_frontal.jpg", `, "No Finding": 1.0, "Pneumothorax": 0.0`)+"\n"))
	writeFile(t, root, "chexbert_labels/findings_fixed.json", []byte(line("train/patient00001/study1/view1_frontal.jpg", `, "Edema": 1.0`)))
	return root
}

func TestIndexCheXpert_Plus(t *testing.T) {
	root := writePlus(t)
	x, remarks, err := IndexCheXpert(context.Background(), IndexOptions{Root: root}, "")
	if err != nil {
		t.Fatal(err)
	}
	heart := states(model.Blank, map[string]model.LabelState{"Cardiomegaly": 1, "Edema": -1})
	want := []Image{
		{"chexpert", "patient00001", "patient00001/study1", "train/patient00001/study1/view1_frontal", "", 0, cxr.Frontal, cxr.EvidenceTable, Train, heart, Patient{"F", 68}, "1. Big heart."},
		{"chexpert", "patient00001", "patient00001/study1", "train/patient00001/study1/view2_lateral", "", 0, cxr.Lateral, cxr.EvidenceTable, Train, heart, Patient{"F", 68}, "1. Big heart."},
		{"chexpert", "patient00002", "patient00002/study1", "valid/patient00002/study1/view1_frontal", "", 0, cxr.Frontal, cxr.EvidenceTable, Validate,
			states(model.Blank, map[string]model.LabelState{"No Finding": 1, "Pneumothorax": 0}), Patient{"M", MaxAge}, "Clear."},
		{"chexpert", "patient00003", "patient00003/study3", "test/patient00003/study3/view1_frontal", "", 0, cxr.Unknown, cxr.EvidenceNone, Test, model.AbsentLabels(), Patient{}, ""},
	}
	for i := range want {
		want[i].Path = "PNG/" + want[i].ImageID + ".png"
		info, err := os.Stat(filepath.Join(root, want[i].Path))
		if err != nil {
			t.Fatal(err)
		}
		want[i].Bytes = info.Size()
	}
	if diff := cmp.Diff(want, x.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	wantRemarks := map[string][]string{"image_without_labels": {"test/patient00003/study3/view1_frontal"}, "unknown_view": {`test/patient00003/study3/view1_frontal: "Oblique"`}}
	if diff := cmp.Diff(wantRemarks, itemsOf(remarks)); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
	// Other sections have other labels; where they disagree within a study the first image's are taken.
	x, remarks, err = IndexCheXpert(context.Background(), IndexOptions{Root: root}, "findings")
	if err != nil {
		t.Fatal(err)
	}
	if got := x.Images[1].Labels; got != states(model.Blank, map[string]model.LabelState{"Edema": 1}) || itemsOf(remarks)["study_of_two_labels"] == nil {
		t.Errorf("labels of the findings: %v\n%s", got, remarks.Text(9))
	}
}

func TestIndexCheXpert_Small(t *testing.T) {
	root := t.TempDir()
	header := strings.Join(chexpertSmallColumns[:5], ",") + ",No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices\n"
	writeFile(t, root, "train.csv", []byte(header+"CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"+
		"somewhere/else.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"))
	writeFile(t, root, "test_labels.csv", []byte("Path,Cardiomegaly\nCheXpert-v1.0/test/patient64741/study1/view1_lateral.jpg,1.0\n"))
	picture(t, root, "train/patient00001/study1/view1_frontal.jpg", 1)
	picture(t, root, "test/patient64741/study1/view1_lateral.jpg", 2)
	x, remarks, err := IndexCheXpert(context.Background(), IndexOptions{Root: root}, "")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		ID     string
		View   cxr.View
		Split  Split
		Labels model.LabelSet
	}
	var got []row
	for _, img := range x.Images {
		got = append(got, row{img.ImageID, img.View, img.Split, img.Labels})
	}
	want := []row{
		{"train/patient00001/study1/view1_frontal", cxr.Frontal, Train, states(model.Blank, map[string]model.LabelState{"No Finding": 1, "Pneumothorax": 0, "Support Devices": 1})},
		{"test/patient64741/study1/view1_lateral", cxr.Lateral, Test, states(model.Absent, map[string]model.LabelState{"Cardiomegaly": 1})},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]string{"refused bad_path": {"train.csv:3"}, "empty_split": {"validate"}}, itemsOf(remarks)); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
}

func padchestRow(image, study, patient, projection, report, labels string) string {
	return fmt.Sprintf("0,%s,3,20140915,%s,%s,1930.0,F,%s,%s,%q\n", image, study, patient, projection, report, labels)
}

const padchestSome = ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Report,Labels\n"

func TestIndexPadChest_LabelsOfAStudyAreThoseOfItsImages(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, padchestTable, []byte(padchestSome+
		padchestRow("a.png", "s1", "p1", "PA", " cardiomegali .", "['cardiomegaly', ' kerley lines ', '']")+
		padchestRow("b.png", "s1", "p1", "L", " cardiomegali .", "['pleural effusion']")+
		padchestRow("c.png", "s2", "p2", "AP_horizontal", "nan", "nan")+
		padchestRow("d.png", "s3", "p2", "COSTAL", " x .", "['bird']")+
		padchestRow("e.png", "s3", "p3", "PA", " x .", "['normal']")+
		padchestRow("f.png", "s4", "p3", "PA", " x .", "[normal]")))
	for i, at := range []string{"3/a.png", "3/b.png", "images/c.png", "d.png", "e.png", "f.png"} {
		picture(t, root, at, uint64(i))
	}
	index := func(how PadChestOptions) (*Index, map[string][]string) {
		x, remarks, err := IndexPadChest(context.Background(), IndexOptions{Root: root, Seed: 1}, how)
		if err != nil {
			t.Fatal(err)
		}
		return x, itemsOf(remarks)
	}
	x, remarks := index(PadChestOptions{})
	union := states(model.Negative, map[string]model.LabelState{"Cardiomegaly": 1, "Edema": 1, "No Finding": 1, "Pleural Effusion": 1})
	if x.Images[0].Labels != union || x.Images[1].Labels != union {
		t.Errorf("labels of the first study: %v and %v, want %v", x.Images[0].Labels, x.Images[1].Labels, union)
	}
	if x.Images[2].Labels != model.AbsentLabels() || x.Images[2].Report != "" || x.Images[2].Patient != (Patient{"F", 84}) {
		t.Errorf("the study without labels is %+v", x.Images[2])
	}
	if x.Images[0].Report != "cardiomegali ." || x.Images[2].View != cxr.Frontal || x.Images[1].View != cxr.Lateral || x.Images[3].View != cxr.Unknown {
		t.Errorf("report or views: %+v", x.Images)
	}
	// p2 and p3 share study s3: one patient, whatever other studies they have.
	for _, img := range x.Images[2:] {
		if img.PatientID != "p2" || img.Split != x.Images[2].Split {
			t.Errorf("%s is of %s in %v", img.ImageID, img.PatientID, img.Split)
		}
	}
	for code, want := range map[string][]string{
		"no_labels": {`c.png: "nan"`, `f.png: "[normal]"`}, "unknown_label": {`d.png: "bird"`}, "unknown_view": {`d.png: "COSTAL"`},
		"study_of_two_patients": {"e.png"},
	} {
		if diff := cmp.Diff(want, remarks[code]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", code, diff)
		}
	}
	if x, _ := index(PadChestOptions{First: true}); x.Images[0].Labels[model.LabelIndex("Edema")] != model.Negative {
		t.Error("the first target of Kerley lines is No Finding, not Edema")
	}
	if x, _ := index(PadChestOptions{ClearNoFinding: true}); x.Images[0].Labels[model.LabelIndex("No Finding")] != model.Negative {
		t.Error("No Finding beside a large heart was not cleared")
	}
}

func TestParseList_PythonLists(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
		ok   bool
	}{
		{"['a', ' b', '']", []string{"a", " b", ""}, true},
		{`["it's", 'x']`, []string{"it's", "x"}, true},
		{"[]", nil, true},
		{"nan", nil, false},
		{"", nil, false},
		{"['a' 'b']", nil, false},
		{"['a", nil, false},
		{"['a, b]", nil, false},
		{"[a]", nil, false},
	} {
		got, ok := parseList(c.text)
		if diff := cmp.Diff(c.want, got); ok != c.ok || ok && diff != "" {
			t.Errorf("%s: %q, %t", c.text, got, ok)
		}
	}
}

// What is wrong is named, with the cure.
func TestIndexTables_NameWhatIsWrong(t *testing.T) {
	mimic := func(opt IndexOptions) error {
		_, _, err := IndexMIMIC(context.Background(), opt)
		return err
	}
	chexpert := func(opt IndexOptions) error {
		_, _, err := IndexCheXpert(context.Background(), opt, "")
		return err
	}
	padchest := func(opt IndexOptions) error {
		_, _, err := IndexPadChest(context.Background(), opt, PadChestOptions{})
		return err
	}
	for _, c := range []struct {
		name       string
		index      func(IndexOptions) error
		spoil      func(root string)
		want, cure string
	}{
		{"mimic: no table", mimic, func(root string) { os.Remove(filepath.Join(root, mimicMetadata)) }, mimicMetadata, "--root"},
		{"mimic: no split", mimic, func(root string) { os.Remove(filepath.Join(root, mimicSplit)) }, mimicSplit, "--split-shares"},
		{"mimic: a split of its own", mimic, func(root string) { writeFile(t, root, mimicSplit, []byte("dicom_id,split\naa-1,holdout\n")) }, `unknown split "holdout"`, ""},
		{"mimic: a state of its own", mimic, func(root string) {
			writeFile(t, root, mimicLabels, []byte(mimicLabelHeader+"1,50414267,maybe,,,,,,,,,,,,,\n"))
		}, `Atelectasis: "maybe" is no label state`, ""},
		{"mimic: no column", mimic, func(root string) { writeFile(t, root, mimicLabels, []byte("subject_id,study_id\n")) }, `no column "Atelectasis"`, ""},
		{"mimic: not gzip", mimic, func(root string) {
			os.Remove(filepath.Join(root, mimicLabels))
			writeFile(t, root, mimicLabels+".gz", []byte("text"))
		}, mimicLabels + ".gz", ""},
		{"mimic: a quote without an end", mimic, func(root string) {
			writeFile(t, root, mimicMetadata, []byte("dicom_id,subject_id,study_id,ViewPosition\n\"aa-1,1,2,PA\n"))
		}, "extraneous or missing", ""},
		{"mimic: no images", mimic, func(root string) { os.RemoveAll(filepath.Join(root, "files")) }, "no image files", "files/"},
		{"chexpert: nothing", chexpert, func(root string) {}, "neither", "--root"},
		{"padchest: nothing", padchest, func(root string) {}, padchestTable, "--root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, _ := writeMIMIC(t)
			c.spoil(root)
			err := c.index(IndexOptions{Root: root})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.cure) {
				t.Errorf("error %v with hint %q, want %q and %q", err, hint.Of(err), c.want, c.cure)
			}
		})
	}
}

func TestWalkImages_FollowsLinksOnce(t *testing.T) {
	root, other := t.TempDir(), t.TempDir()
	writeFile(t, other, "a.png", []byte("x"))
	writeFile(t, root, "b.txt", []byte("x"))
	for link, to := range map[string]string{"images": other, "loop": root, "gone.png": filepath.Join(other, "none")} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	var got []imageFile
	if err := walkImages(root, func(f imageFile) error { got = append(got, f); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != (imageFile{"images/a.png", 1}) {
		t.Errorf("files %v", got)
	}
}

// Text from a dataset's files makes no reader panic, and what comes out is text.
func FuzzTextOfDatasets(f *testing.F) {
	f.Add(" FINDINGS: \n \n a\n \n IMPRESSION:\n \n b")
	f.Add("['a', \"b's\", '']")
	f.Add(`{"path_to_image": "train/patient00001/study1/view1_frontal.jpg", "Edema": -1.0, "Fracture": null}`)
	f.Fuzz(func(t *testing.T, text string) {
		var remarks Remarks
		var img Image
		img.setReport(mimicText(text), &remarks)
		if !utf8.ValidString(img.Report) || len(img.Report) > 3*len(text) {
			t.Errorf("%q became %q", text, img.Report)
		}
		if items, ok := parseList(text); ok && len(items) > len(text) {
			t.Errorf("%q has the items %q", text, items)
		}
		if image, _, err := chexbertLine([]byte(text)); err == nil {
			chexpertImage("x", image)
		}
	})
}
