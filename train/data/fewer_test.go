package data

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
)

func TestFewer_IsNestedAndLeavesOtherSplitsAlone(t *testing.T) {
	p := &Pack{}
	for i := range 60 {
		s := Study{Dataset: "a", ID: fmt.Sprint(i), Split: Splits[i%3], Images: []int{i}}
		if i%12 == 0 {
			s.Labels = model.AbsentLabels() // of training: not among the labelled
		}
		p.Studies = append(p.Studies, s)
	}
	chosen := func(n int, seed uint64) map[string]bool {
		f, err := p.Fewer(n, seed)
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, s := range f.StudiesOf(Train) {
			if f.Studies[s].Labels == model.AbsentLabels() {
				t.Errorf("study %s has no labels", f.Studies[s].ID)
			}
			ids[f.Studies[s].ID] = true
		}
		if len(ids) != n || len(f.StudiesOf(Validate)) != 20 || len(f.StudiesOf(Test)) != 20 {
			t.Errorf("%d of %d training studies, %d and %d of the others", len(ids), n, len(f.StudiesOf(Validate)), len(f.StudiesOf(Test)))
		}
		return ids
	}
	for id := range chosen(4, 1) {
		if !chosen(9, 1)[id] {
			t.Errorf("study %s is among 4 and not among 9", id)
		}
	}
	if diff := cmp.Diff(chosen(9, 1), chosen(9, 1)); diff != "" {
		t.Errorf("the same seed chooses others:\n%s", diff)
	}
	if cmp.Equal(chosen(9, 1), chosen(9, 2)) {
		t.Error("another seed chooses the same")
	}
	for _, n := range []int{-1, 0, 16} {
		if _, err := p.Fewer(n, 1); err == nil {
			t.Errorf("%d of 15: no error", n)
		}
	}
}
