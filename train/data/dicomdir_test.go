package data

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// indexOf indexes a DICOM folder and fails the test if that fails.
func indexOf(t *testing.T, root string) (*Index, Remarks) {
	t.Helper()
	x, remarks, err := IndexDICOM(context.Background(), IndexOptions{Root: root, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return x, remarks
}

func TestIndexDICOM_ReadsIdentifiersViewsAndLabels(t *testing.T) {
	root := t.TempDir()
	frontal := dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.1", view: "PA"}.bytes(t)
	writeFile(t, root, "p1/a.dcm", frontal)
	writeFile(t, root, "p1/b", dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.2", view: "LL"}.bytes(t))
	writeFile(t, root, "p2/c.DCM", dx{patient: "P2", study: "1.2.2", instance: "1.2.2.1.1"}.bytes(t))
	writeFile(t, root, labelTable, []byte("study_instance_uid,patient_id,Edema,Pneumonia,Fracture,Atelectasis\n1.2.1,P1,1.0,0.0,-1.0,\n"))
	x, remarks := indexOf(t, root)

	labels := model.AbsentLabels()
	for name, state := range map[string]model.LabelState{
		"Edema": model.Positive, "Pneumonia": model.Negative, "Fracture": model.Uncertain, "Atelectasis": model.Blank,
	} {
		labels[model.LabelIndex(name)] = state
	}
	shares := Shares{0.8, 0.1, 0.1}
	s1, s2 := shares.splitOf(1, "dicom", "P1", Fold{}), shares.splitOf(1, "dicom", "P2", Fold{})
	size := int64(len(frontal))
	want := []Image{
		{"dicom", "P1", "1.2.1", "1.2.1.1.1", "p1/a.dcm", size, cxr.Frontal, cxr.EvidenceViewPosition, s1, labels, Patient{}, ""},
		{"dicom", "P1", "1.2.1", "1.2.1.1.2", "p1/b", size, cxr.Lateral, cxr.EvidenceViewPosition, s1, labels, Patient{}, ""},
		{"dicom", "P2", "1.2.2", "1.2.2.1.1", "p2/c.DCM", size - 2, cxr.Unknown, cxr.EvidenceNone, s2, model.AbsentLabels(), Patient{}, ""},
	}
	if diff := cmp.Diff(want, x.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	got := map[string][]string{}
	for _, r := range remarks {
		if r.Code != "empty_split" {
			got[r.Code] = r.Items
		}
	}
	if diff := cmp.Diff(map[string][]string{"study_without_labels": {"p2"}}, got); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
}

func TestIndexDICOM_CountsWhatItLeavesOut(t *testing.T) {
	root := t.TempDir()
	good := dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.1", view: "PA"}.bytes(t)
	writeFile(t, root, "a.dcm", good)
	writeFile(t, root, "copy.dcm", good)
	writeFile(t, root, "ct.dcm", dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.3", modality: "CT"}.bytes(t))
	writeFile(t, root, "cut.dcm", good[:len(good)-100])
	writeFile(t, root, "nobody.dcm", dx{study: "1.2.3", instance: "1.2.3.1.1"}.bytes(t))
	writeFile(t, root, "empty.dcm", nil)
	writeFile(t, root, "notes.txt", []byte("nothing"))
	writeFile(t, root, "text.dcm", []byte("nothing"))
	writeFile(t, root, labelTable, []byte("study_instance_uid,Edema\n1.2.1,1\n9.9.9,1\n"))
	writeFile(t, filepath.Dir(root), "elsewhere/x.dcm", good)
	for link, to := range map[string]string{"linked": "../elsewhere", "gone.dcm": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	x, remarks := indexOf(t, root)
	if len(x.Images) != 1 || x.Images[0].Path != "a.dcm" {
		t.Errorf("images %+v, want a.dcm alone", x.Images)
	}
	got := map[string]string{}
	for _, r := range remarks {
		var names []string
		for _, item := range r.Items {
			name, _, _ := strings.Cut(item, ":")
			names = append(names, name)
		}
		got[fmt.Sprintf("%s %t", r.Code, r.Refused)] = strings.Join(names, " ")
	}
	want := map[string]string{
		"duplicate_instance true": "copy.dcm = a.dcm", "wrong_modality true": "ct.dcm", "truncated true": "cut.dcm",
		"no_identifier true": "nobody.dcm", "unreadable true": "gone.dcm empty.dcm", "not_dicom true": "text.dcm",
		"other_file false": "notes.txt", "linked_folder false": "linked", "labels_without_study false": "line 3",
		"empty_split false": "validate test",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
}

func TestIndexDICOM_RefusesAStudyOfTwoPatients(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, "a.dcm", dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.1"}.bytes(t))
	writeFile(t, root, "b.dcm", dx{patient: "P2", study: "1.2.1", instance: "1.2.1.1.2"}.bytes(t))
	_, _, err := IndexDICOM(context.Background(), IndexOptions{Root: root})
	var leak *AuditError
	if !errors.As(err, &leak) || !cmp.Equal(leak.StudiesOfTwoPatients, []string{Hashed("dicom", "1.2.1")}) {
		t.Errorf("error %v, want the study to be named", err)
	}
}

func TestIndexDICOM_TakesThePatientFromTheTable(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, "a.dcm", dx{study: "1.2.1", instance: "1.2.1.1.1"}.bytes(t))
	writeFile(t, root, labelTable, []byte("study_instance_uid,patient_id\n1.2.1,P7\n"))
	if x, _ := indexOf(t, root); x.Images[0].PatientID != "P7" {
		t.Errorf("patient %q, want P7", x.Images[0].PatientID)
	}
}

func TestIndexDICOM_NamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, labels string
		want, cure   string
	}{
		{"mistyped column", "study_instance_uid,Pnuemonia\n", `unknown column "Pnuemonia"`, `did you mean "Pneumonia"?`},
		{"foreign column", "study_instance_uid,zip_code_of_birth\n", `unknown column "zip_code_of_birth"`, "Atelectasis"},
		{"column twice", "study_instance_uid,Edema,Edema\n", `"Edema" is there twice`, ""},
		{"no study", "patient_id,Edema\n", `no column "study_instance_uid"`, ""},
		{"value", "study_instance_uid,Edema\n1.2.1,yes\n", `labels.csv:2: Edema: "yes" is no label state`, ""},
		{"study twice", "study_instance_uid,Edema\n1.2.1,1\n1.2.1,1\n", "labels.csv:3: the study of line 2", ""},
		{"another patient", "study_instance_uid,patient_id\n1.2.1,P8\n", "labels.csv:2: study " + Hashed("dicom", "1.2.1"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			writeFile(t, root, "a.dcm", dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.1"}.bytes(t))
			writeFile(t, root, labelTable, []byte(c.labels))
			_, _, err := IndexDICOM(context.Background(), IndexOptions{Root: root})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.cure) {
				t.Errorf("error %v with hint %q, want %q and %q", err, hint.Of(err), c.want, c.cure)
			}
		})
	}
	for _, root := range []string{filepath.Join(t.TempDir(), "nowhere"), t.TempDir()} {
		if _, _, err := IndexDICOM(context.Background(), IndexOptions{Root: root}); err == nil || hint.Of(err) == "" {
			t.Errorf("error %v with hint %q, want both", err, hint.Of(err))
		}
	}
}

func TestIndexDICOM_StopsWhenCancelled(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, "a.dcm", dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.1"}.bytes(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := IndexDICOM(ctx, IndexOptions{Root: root}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// A new patient must not move the old ones to other splits.
func TestIndexDICOM_SplitsStayWhenDataGrow(t *testing.T) {
	root := t.TempDir()
	add := func(p int) {
		study := fmt.Sprintf("1.2.%d", p)
		writeFile(t, root, study, dx{patient: fmt.Sprint("P", p), study: study, instance: study + ".1.1", size: 8}.bytes(t))
	}
	splits := func() map[string]Split {
		x, _ := indexOf(t, root)
		of := map[string]Split{}
		for _, img := range x.Images {
			of[img.PatientID] = img.Split
		}
		return of
	}
	for p := range 30 {
		add(p)
	}
	before := splits()
	for p := 30; p < 60; p++ {
		add(p)
	}
	after := splits()
	for patient, split := range before {
		if after[patient] != split {
			t.Errorf("patient %s went from %v to %v", patient, split, after[patient])
		}
	}
	if len(after) != 60 {
		t.Errorf("%d patients, want 60", len(after))
	}
}
