package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// AuditError says why images may not be trained on. A person, study or image is named by Hashed of its dataset and
// identifier.
type AuditError struct {
	PatientsInTwoSplits  []string
	StudiesOfTwoPatients []string
	StudiesOfTwoLabels   []string // images of one study that disagree about its labels
	StudiesOfTwoReports  []string
	ImagesTwice          []string
	WithoutID            int // images without a patient, study or image identifier
}

func (e *AuditError) Error() string {
	var parts []string
	add := func(names []string, one, many string) {
		if len(names) == 0 {
			return
		}
		what := many
		if len(names) == 1 {
			what = one
		}
		const shown = 5
		list := strings.Join(names[:min(shown, len(names))], ", ")
		if more := len(names) - shown; more > 0 {
			list += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, fmt.Sprintf("%d %s: %s", len(names), what, list))
	}
	add(e.PatientsInTwoSplits, "patient is in more than one split", "patients are in more than one split")
	add(e.StudiesOfTwoPatients, "study belongs to two patients", "studies belong to two patients")
	add(e.StudiesOfTwoLabels, "study has two sets of labels", "studies have two sets of labels")
	add(e.StudiesOfTwoReports, "study has two reports", "studies have two reports")
	add(e.ImagesTwice, "image is there twice", "images are there twice")
	if e.WithoutID > 0 {
		parts = append(parts, fmt.Sprintf("images without an identifier: %d", e.WithoutID))
	}
	return "leakage audit: " + strings.Join(parts, "; ")
}

// Hint says what can be done.
func (e *AuditError) Hint() string {
	return "a name is the start of the SHA-256 of dataset, NUL, identifier; correct the dataset's tables and index it again"
}

// Hashed names a patient, study or image where its identifier must not appear.
func Hashed(dataset, id string) string {
	sum := sha256.Sum256([]byte(dataset + "\x00" + id))
	return hex.EncodeToString(sum[:6])
}

// Audit refuses images that would leak what is tested on into what is trained on, or that are not studies at all. Its
// error is an *AuditError that names every fault.
func Audit(images []Image) error {
	var e AuditError
	type key struct{ dataset, id string }
	named := map[string]bool{} // a fault is named once
	name := func(list *[]string, kind string, k key) {
		if !named[kind+"\x00"+k.dataset+"\x00"+k.id] {
			named[kind+"\x00"+k.dataset+"\x00"+k.id] = true
			*list = append(*list, Hashed(k.dataset, k.id))
		}
	}
	splits := map[key]Split{}
	first := map[key]*Image{} // of each study
	seen := map[key]bool{}
	for i := range images {
		img := &images[i]
		if img.PatientID == "" || img.StudyID == "" || img.ImageID == "" {
			e.WithoutID++
			continue
		}
		patient, study, image := key{img.Dataset, img.PatientID}, key{img.Dataset, img.StudyID}, key{img.Dataset, img.ImageID}
		if s, ok := splits[patient]; ok && s != img.Split {
			name(&e.PatientsInTwoSplits, "patient", patient)
		}
		splits[patient] = img.Split
		if f, ok := first[study]; !ok {
			first[study] = img
		} else {
			if f.PatientID != img.PatientID {
				name(&e.StudiesOfTwoPatients, "study", study)
			}
			if f.Labels != img.Labels {
				name(&e.StudiesOfTwoLabels, "labels", study)
			}
			if f.Report != img.Report {
				name(&e.StudiesOfTwoReports, "report", study)
			}
		}
		if seen[image] {
			name(&e.ImagesTwice, "image", image)
		}
		seen[image] = true
	}
	if len(named) == 0 && e.WithoutID == 0 {
		return nil
	}
	return &e
}
