package tables

import (
	"bytes"
	"encoding/csv"
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

var update = flag.Bool("update", false, "write train/synth/worlds.csv anew")

// The committed table of the phantom's worlds is what the real tables say.
func TestWorlds_AreCountedFromTheRealTables(t *testing.T) {
	const committed = "../../train/synth/worlds.csv"
	got := worlds(t)
	if *update {
		if err := os.WriteFile(committed, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("worlds.csv (-committed +counted):\n%s", diff)
	}
}

// mimic are studies of 227,827 by state: positive, uncertain, negative (Johnson et al. 2019, arXiv:1901.07042, CheXpert's
// labeller): the table needs credentials, so nothing here was counted. What occurs with what is not published.
var mimic = map[string][3]float64{
	"Atelectasis": {45808, 10327, 1531}, "Cardiomegaly": {44845, 6043, 15911}, "Consolidation": {10778, 4331, 7967},
	"Edema": {27018, 13174, 25641}, "Enlarged Cardiomediastinum": {7179, 9375, 5283}, "Fracture": {4390, 555, 886},
	"Lung Lesion": {6284, 1141, 862}, "Lung Opacity": {51525, 3831, 3069}, "No Finding": {75455, 0, 0},
	"Pleural Effusion": {54300, 5814, 27158}, "Pleural Other": {2011, 765, 126}, "Pneumonia": {16556, 18291, 24338},
	"Pneumothorax": {10358, 1134, 42356}, "Support Devices": {66558, 237, 3486},
}

const mimicStudies = 227827

// worlds counts the tables' studies, as CSV: institution, label, with, share. An uncertain label counts half. With nothing the
// share is that of the studies with the label; with "uncertain" or "negative" that of the studies whose report says so; with
// another label that of the studies with both. No Finding is the absence of all but Support Devices.
func worlds(t *testing.T) []byte {
	var text bytes.Buffer
	out := csv.NewWriter(&text)
	row := func(institution, label, with string, share float64) {
		out.Write([]string{institution, label, with, strconv.FormatFloat(share, 'f', 5, 64)}) // into memory
	}
	out.Write([]string{"institution", "label", "with", "share"})
	for _, label := range model.Labels {
		n := mimic[label]
		row("mimic", label, "", (n[0]+n[1]/2)/mimicStudies)
		row("mimic", label, "uncertain", n[1]/mimicStudies)
		row("mimic", label, "negative", n[2]/mimicStudies)
	}
	for _, name := range []string{"chexpert", "padchest", "nih"} {
		x, _ := index(t, name, data.PadChestOptions{})
		c := count(x.Images)
		for a, label := range model.Labels {
			if c.known[a] == 0 {
				continue // not a label of this dataset
			}
			row(name, label, "", c.both[a][a]/c.known[a])
			if name == "chexpert" { // the others' silence means no
				row(name, label, "uncertain", c.uncertain[a]/c.known[a])
				row(name, label, "negative", c.negative[a]/c.known[a])
			}
			for b := a + 1; b < model.NumLabels; b++ {
				if share := c.both[a][b] / c.known[a]; c.known[b] > 0 && share > 0 {
					row(name, label, model.Labels[b], share)
				}
			}
		}
	}
	out.Flush()
	return text.Bytes()
}

// counts are numbers of studies.
type counts struct {
	known, uncertain, negative [model.NumLabels]float64
	both                       [model.NumLabels][model.NumLabels]float64
}

func count(images []data.Image) (c counts) {
	noFinding, devices := model.LabelIndex("No Finding"), model.LabelIndex("Support Devices")
	seen := map[string]bool{}
	for _, img := range images {
		if seen[img.StudyID] {
			continue
		}
		seen[img.StudyID] = true
		var p [model.NumLabels]float64 // how likely each is present
		p[noFinding] = 1
		for l, state := range img.Labels {
			if state == model.Absent {
				continue
			}
			c.known[l]++
			switch {
			case l == noFinding:
				continue
			case state == model.Positive:
				p[l] = 1
			case state == model.Uncertain:
				p[l] = 0.5
				c.uncertain[l]++
			case state == model.Negative:
				c.negative[l]++
			}
			if l != devices {
				p[noFinding] *= 1 - p[l]
			}
		}
		for a := range p {
			c.both[a][a] += p[a]
			for b := a + 1; b < model.NumLabels; b++ {
				if (a == noFinding || b == noFinding) && a != devices && b != devices {
					continue // where there is none, there is none
				}
				c.both[a][b] += p[a] * p[b]
			}
		}
	}
	return c
}
