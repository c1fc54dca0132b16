package data

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
)

func TestAudit_NamesEachLeak(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(images []Image) []Image
		want  *AuditError
	}{
		{"clean", func(x []Image) []Image { return x }, nil},
		{"patient in two splits", func(x []Image) []Image { x[2].Split = Test; return x },
			&AuditError{PatientsInTwoSplits: []string{Hashed("a", "p1")}}},
		{"study of two patients", func(x []Image) []Image { x[1].PatientID = "p9"; return x },
			&AuditError{StudiesOfTwoPatients: []string{Hashed("a", "s1")}}},
		{"study with two sets of labels", func(x []Image) []Image { x[1].Labels = model.AbsentLabels(); return x },
			&AuditError{StudiesOfTwoLabels: []string{Hashed("a", "s1")}}},
		{"study with two reports", func(x []Image) []Image { x[1].Report = "Effusion."; return x },
			&AuditError{StudiesOfTwoReports: []string{Hashed("a", "s1")}}},
		{"image twice", func(x []Image) []Image { return append(x, x[0]) },
			&AuditError{ImagesTwice: []string{Hashed("a", "i1")}}},
		{"image four times is named once", func(x []Image) []Image { return append(x, x[0], x[0], x[0]) },
			&AuditError{ImagesTwice: []string{Hashed("a", "i1")}}},
		{"no patient", func(x []Image) []Image { x[0].PatientID = ""; return x }, &AuditError{WithoutID: 1}},
		{"same identifiers in another dataset", func(x []Image) []Image {
			y := slices.Clone(x)
			for i := range y {
				y[i].Dataset, y[i].Split = "b", Validate
			}
			return append(x, y...)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Audit(c.spoil(someImages()))
			var got *AuditError
			errors.As(err, &got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatalf("audit (-want +got):\n%s", diff)
			}
			if err != nil && strings.Contains(err.Error(), "p1") {
				t.Errorf("error %q shows an identifier", err)
			}
		})
	}
}

func TestCount_CountsPatientsStudiesImagesAndStates(t *testing.T) {
	c := Count(someImages())
	train := c[Train]
	if diff := cmp.Diff(model.Counts{Patients: 1, Studies: 2, Images: 3}, train.Counts); diff != "" {
		t.Errorf("train (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"frontal": 1, "lateral": 1, "unknown": 1}, train.Views); diff != "" {
		t.Errorf("views of train (-want +got):\n%s", diff)
	}
	for label, want := range map[string]StateCounts{
		"Atelectasis": {Positive: 1, Absent: 1}, "Cardiomegaly": {Negative: 1, Absent: 1},
		"Consolidation": {Uncertain: 1, Absent: 1}, "Edema": {Blank: 1, Absent: 1}, "Pneumonia": {Absent: 2},
	} {
		if got := train.Labels[label]; got != want {
			t.Errorf("%s: %+v, want %+v", label, got, want)
		}
	}
	if diff := cmp.Diff(model.Counts{Patients: 2, Studies: 3, Images: 4}, c.Total()); diff != "" {
		t.Errorf("total (-want +got):\n%s", diff)
	}
}

func TestCounts_TableShowsUnknownLabelsAsDashes(t *testing.T) {
	lines := map[string][]string{}
	for line := range strings.Lines(Count(someImages()).Table()) {
		cells := strings.Fields(line)
		if len(cells) >= 4 {
			lines[strings.Join(cells[:len(cells)-3], " ")] = cells[len(cells)-3:]
		}
	}
	want := map[string][]string{
		"patients": {"1", "0", "1"}, "images": {"3", "0", "1"}, "lateral": {"1", "0", "0"},
		"Atelectasis": {"1", "-", "1"}, "Cardiomegaly": {"0", "-", "0"}, "Pneumonia": {"-", "-", "-"},
	}
	for name, cells := range want {
		if diff := cmp.Diff(cells, lines[name]); diff != "" {
			t.Errorf("line %s (-want +got):\n%s", name, diff)
		}
	}
}
