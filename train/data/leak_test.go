package data

import (
	"slices"
	"testing"

	"github.com/mvmae/mvmae/dicom/cxr"
)

// One picture under three patients, a patient in each split, and a study of the training patient with a picture of its own.
func TestOpen_LeavesOutOfTrainingWhatIsHeldOut(t *testing.T) {
	root := t.TempDir()
	x := &Index{Dataset: "made", Root: root}
	add := func(patient, study, image string, split Split, seed uint64) {
		body := pngOf(t, pixels(seed, 64), 64)
		writeFile(t, root, image+".png", body)
		x.Images = append(x.Images, Image{
			Dataset: "made", PatientID: patient, StudyID: study, ImageID: image, Path: image + ".png", Bytes: int64(len(body)), Evidence: cxr.EvidenceTable, Split: split,
		})
	}
	add("a", "a1", "a1", Train, 1)
	add("a", "a2", "a2", Train, 2)
	add("a", "a2", "a3", Train, 3) // another view of the study whose first is held out
	add("b", "b1", "b1", Validate, 2)
	add("b", "b2", "b2", Validate, 4)
	add("c", "c1", "c1", Test, 2)
	add("c", "c2", "c2", Test, 5)
	add("c", "c3", "c3", Test, 5) // the same picture twice in one split gives nothing away

	out := t.TempDir()
	packOf(t, PackOptions{Out: out}, writeIndex(t, x))
	p, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for split, want := range map[Split][]string{Train: {"a1"}, Validate: {"b2"}, Test: {"c1", "c2", "c3"}} {
		var got []string
		for _, s := range p.StudiesOf(split) {
			got = append(got, p.Studies[s].ID)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has studies %v, want %v", split, got, want)
		}
	}
	if p.Leaking != 2 || len(p.Images) != 8 {
		t.Errorf("%d studies left out, %d images: want 2 and all 8", p.Leaking, len(p.Images))
	}
	if n := p.HeldOutIn(p); n != 0 {
		t.Errorf("%d held-out images are trained on", n)
	}
}
