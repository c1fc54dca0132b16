package data

import (
	"fmt"
	"strings"
)

// paperStudies are the studies of each split in the MVMAE paper's table 4. Where a dataset has no official split between two
// of them, the paper's was drawn by patient, as ours is: only the sum of the two can be the same.
var paperStudies = map[string][len(Splits)]int{
	"mimic":    {222758, 1808, 3269},
	"chexpert": {187511, 200, 500}, // CheXpert Plus, and CheXpert's test set
	"padchest": {106677, 1653, 1601},
	"nih":      {84774, 1750, 25596},
}

// PaperAudit compares an index with the paper's table of studies.
type PaperAudit struct {
	Paper map[Split]int `json:"paper"`
	Here  map[Split]int `json:"here"`
	Same  bool          `json:"same"` // the totals
}

// AgainstPaper compares the studies counted with those of the paper, for a layout that it used.
func AgainstPaper(layout string, c Counts) (*PaperAudit, bool) {
	studies, used := paperStudies[layout]
	if !used {
		return nil, false
	}
	a := &PaperAudit{Paper: map[Split]int{}, Here: map[Split]int{}}
	total := 0
	for _, s := range Splits {
		a.Paper[s], a.Here[s] = studies[s], c[s].Studies
		total += studies[s]
	}
	a.Same = total == c.Total().Studies
	return a, true
}

// Text is for people.
func (a *PaperAudit) Text() string {
	var b strings.Builder
	line := func(name string, of map[Split]int) {
		fmt.Fprintf(&b, "%-26s%10d%10d%10d%10d\n", name, of[Train], of[Validate], of[Test], of[Train]+of[Validate]+of[Test])
	}
	fmt.Fprintf(&b, "%-26s%10s%10s%10s%10s\n", "studies", "train", "validate", "test", "total")
	line("here", a.Here)
	line("MVMAE paper, table 4", a.Paper)
	if !a.Same {
		b.WriteString("the totals differ: this is another release of the dataset, or a part of it\n")
	}
	return b.String()
}
