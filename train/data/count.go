package data

import (
	"fmt"
	"strings"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
)

// Counts are the sizes of each split.
type Counts map[Split]SplitCounts

// SplitCounts are the sizes of one split.
type SplitCounts struct {
	model.Counts
	Views  map[string]int         `json:"views"`  // images, by the name of the view
	Labels map[string]StateCounts `json:"labels"` // studies, by label and what is known of it
}

// StateCounts are numbers of studies by model.LabelState.
type StateCounts struct {
	Positive  int `json:"positive"`
	Negative  int `json:"negative"`
	Uncertain int `json:"uncertain"`
	Blank     int `json:"blank"`
	Absent    int `json:"absent"`
}

// Count counts images that passed Audit.
func Count(images []Image) Counts {
	type key struct{ dataset, id string }
	counts := Counts{}
	states := map[Split]*[model.NumLabels]StateCounts{}
	for _, s := range Splits {
		counts[s] = SplitCounts{Views: map[string]int{}, Labels: map[string]StateCounts{}}
		states[s] = new([model.NumLabels]StateCounts)
	}
	patients, studies := map[key]bool{}, map[key]bool{}
	for _, img := range images {
		c := counts[img.Split]
		c.Images++
		c.Views[img.View.String()]++
		if k := (key{img.Dataset, img.PatientID}); !patients[k] {
			patients[k] = true
			c.Patients++
		}
		if k := (key{img.Dataset, img.StudyID}); !studies[k] {
			studies[k] = true
			c.Studies++
			for i, state := range img.Labels {
				states[img.Split][i].add(state)
			}
		}
		counts[img.Split] = c
	}
	for _, s := range Splits {
		for i, name := range model.Labels {
			counts[s].Labels[name] = states[s][i]
		}
	}
	return counts
}

func (c *StateCounts) add(state model.LabelState) {
	switch state {
	case model.Positive:
		c.Positive++
	case model.Negative:
		c.Negative++
	case model.Uncertain:
		c.Uncertain++
	case model.Blank:
		c.Blank++
	case model.Absent:
		c.Absent++
	}
}

// Total is the size of all splits together.
func (c Counts) Total() model.Counts {
	var t model.Counts
	for _, s := range c {
		t.Patients += s.Patients
		t.Studies += s.Studies
		t.Images += s.Images
	}
	return t
}

// Table is the counts for people. A label that the dataset does not have shows "-".
func (c Counts) Table() string {
	var b strings.Builder
	cell := func(name string, cells ...any) {
		fmt.Fprintf(&b, "%-26s", name)
		for _, x := range cells {
			fmt.Fprintf(&b, "%10v", x)
		}
		b.WriteByte('\n')
	}
	cell("", "train", "validate", "test")
	line := func(name string, of func(SplitCounts) any) {
		cell(name, of(c[Train]), of(c[Validate]), of(c[Test]))
	}
	line("patients", func(s SplitCounts) any { return s.Patients })
	line("studies", func(s SplitCounts) any { return s.Studies })
	line("images", func(s SplitCounts) any { return s.Images })
	for _, v := range []cxr.View{cxr.Frontal, cxr.Lateral, cxr.Unknown} {
		line(v.String(), func(s SplitCounts) any { return s.Views[v.String()] })
	}
	b.WriteString("positive studies:\n")
	for _, name := range model.Labels {
		line("  "+name, func(s SplitCounts) any {
			if s.Labels[name].Absent == s.Studies {
				return "-"
			}
			return s.Labels[name].Positive
		})
	}
	return b.String()
}
