package synth

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// Report is what a radiologist wrote about a study.
type Report struct {
	Findings   string // empty where the report has no such section
	Impression string
	Said       model.LabelSet // what the impression says: Blank for silence
	Described  model.LabelSet // what the findings say

	opinion opinion
}

// Report writes the study's report in the way of its institution; that of PadChest is one Spanish text, Impression, of words
// without their endings. All follows from seed, patient and visit.
func (s *Study) Report() Report {
	rng := stream(s.Patient.seed, streamReport, s.Patient.index, uint64(s.Visit))
	r := Report{opinion: s.opine(rng)}
	r.Said = r.opinion.says
	for l := range r.Described {
		r.Described[l] = model.Blank
	}
	if s.Patient.at.Name == "padchest" {
		r.Impression = writeSpanish(r.opinion, rng)
		return r
	}
	r.Impression = strings.Join(writeEnglish(r.opinion, rng), " ")
	if share, some := findingsSections[s.Patient.at.Name]; !some || rng.Float64() < share {
		r.Findings = strings.Join(r.describe(rng), " ")
	}
	return r
}

// findingsSections are the shares of reports that have a section of findings: in CheXpert Plus a quarter, elsewhere most
// (chosen).
var findingsSections = map[string]float64{"chexpert": 0.27, "mimic": 0.85}

// english are the nouns of each kind of finding, of a label's default "", and what it is measured by.
var english = [model.NumLabels]struct {
	nouns map[string][]string
	size  [3]string // its degrees
	zoned bool      // lies somewhere in a lung
}{
	{nouns: map[string][]string{"": {"atelectasis"}, "plate": {"linear atelectasis", "subsegmental atelectasis"}, "volume loss": {"atelectasis with volume loss"}}, size: grades, zoned: true},
	{nouns: map[string][]string{"": {"cardiomegaly", "enlargement of the cardiac silhouette"}}, size: grades},
	{nouns: map[string][]string{"": {"consolidation", "airspace consolidation"}}, size: [3]string{"patchy", "", "dense"}, zoned: true},
	{nouns: map[string][]string{"": {"pulmonary edema", "interstitial edema"}}, size: grades},
	{nouns: map[string][]string{"": {"widening of the mediastinum", "mediastinal widening"}}, size: grades},
	{nouns: map[string][]string{"": {"rib fracture"}, "healing ribs": {"healing rib fracture"}, "vertebral compression": {"vertebral compression fracture"}}},
	{nouns: map[string][]string{"": {"pulmonary nodule"}, "mass": {"pulmonary mass"}}, size: sizes, zoned: true},
	{nouns: map[string][]string{"": {"hazy opacity", "ill-defined opacity"}}, size: [3]string{"subtle", "", "extensive"}, zoned: true},
	{},
	{nouns: map[string][]string{"": {"pleural effusion"}}, size: sizes},
	{nouns: map[string][]string{"": {"pleural thickening"}, "calcified plaques": {"calcified pleural plaque"}}, size: [3]string{"minimal", "", "marked"}},
	{nouns: map[string][]string{"": {"pneumonia"}}, zoned: true},
	{nouns: map[string][]string{"": {"pneumothorax"}}, size: sizes},
	{nouns: map[string][]string{"": {"support device"}, "pacemaker": {"pacemaker"}, "central line": {"central venous catheter"},
		"sternal wires": {"median sternotomy hardware"}, "feeding tube": {"enteric tube"}, "endotracheal tube": {"endotracheal tube"}, "chest tube": {"chest tube"}}},
}

var (
	grades = [3]string{"mild", "moderate", "severe"}
	sizes  = [3]string{"small", "moderate", "large"}
	zones  = [3]string{"lower", "mid", "upper"}
)

// noun is one for a subject of a label, with side and place.
func noun(label int, about subject, rng *rand.Rand) string {
	e := english[label]
	nouns := e.nouns[about.kind]
	if nouns == nil {
		nouns = e.nouns[""]
	}
	words := nouns[rng.IntN(len(nouns))]
	side := map[Side]string{Left: "left", Right: "right", Both: "bilateral"}[about.side]
	switch {
	case side == "" || label == devices || model.Labels[label] == "Edema":
		return words
	case about.side == Both:
		return side + " " + plural(words)
	case e.zoned && rng.Float64() < 0.6:
		return fmt.Sprintf("%s in the %s %s lung", words, side, zones[about.zone()])
	}
	return side + " " + words
}

// countable are the nouns' last words that are things, and what several of them are.
var countable = map[string]string{
	"fracture": "fractures", "nodule": "nodules", "mass": "masses", "opacity": "opacities", "effusion": "effusions",
	"pneumothorax": "pneumothoraces", "plaque": "plaques", "device": "devices", "pacemaker": "pacemakers", "catheter": "catheters", "tube": "tubes",
}

func plural(words string) string {
	for one, many := range countable {
		if before, ok := strings.CutSuffix(words, one); ok {
			return before + many
		}
	}
	return words
}

// writeEnglish writes an impression: what is there, what may be, what is not.
func writeEnglish(o opinion, rng *rand.Rand) (sentences []string) {
	var denied []string
	var doubts []string
	for _, l := range rng.Perm(model.NumLabels) {
		about := o.about[l]
		switch o.says[l] {
		case model.Positive:
			size := english[l].size[about.degree()]
			words := strings.TrimSpace(size + " " + noun(l, about, rng))
			sentences = append(sentences, sentence(rng, words, "%s.", "There is "+article(words)+"%s.", "%s is present."))
		case model.Uncertain:
			doubts = append(doubts, sentence(rng, noun(l, about, rng), "Possible %s.", "%s cannot be excluded.", "Findings may represent %s.", "Questionable %s."))
		case model.Negative:
			denied = append(denied, english[l].nouns[""][0])
		}
	}
	sentences = append(sentences, doubts...)
	if len(sentences) == 0 {
		sentences = append(sentences, [...]string{"No acute cardiopulmonary process.", "No acute cardiopulmonary abnormality.", "Normal chest radiograph."}[rng.IntN(3)])
	}
	for len(denied) > 0 {
		n := min(len(denied), 1+rng.IntN(3))
		sentences = append(sentences, sentence(rng, list(denied[:n]), "No %s.", "There is no evidence of %s.", "No visible %s."))
		denied = denied[n:]
	}
	return sentences
}

// article is what an English noun of one thing begins with.
func article(words string) string {
	before, _, _ := strings.Cut(words, " in the ")
	if _, one := countable[before[strings.LastIndexByte(before, ' ')+1:]]; !one {
		return ""
	}
	if strings.ContainsRune("aeiou", rune(words[0])) {
		return "an "
	}
	return "a "
}

// describe writes a section of findings: what is there in the order of the chest, and what is normal of the rest.
func (r *Report) describe(rng *rand.Rand) (sentences []string) {
	o := &r.opinion
	said := func(labels ...string) (something bool) {
		for _, label := range labels {
			l := model.LabelIndex(label)
			something = something || o.omitted[l] // what was overlooked is not called normal
			if state := o.says[l]; state == model.Positive || state == model.Uncertain {
				something = true
				r.Described[l] = state
				words := noun(l, o.about[l], rng)
				if state == model.Uncertain {
					sentences = append(sentences, sentence(rng, words, "%s is possible.", "There may be "+article(words)+"%s."))
				} else {
					sentences = append(sentences, sentence(rng, words, "%s is noted.", "There is "+article(words)+"%s.", "%s is seen."))
				}
			}
		}
		return something
	}
	normal := func(share float64, text string, denies ...string) {
		if rng.Float64() < share {
			sentences = append(sentences, text)
			for _, label := range denies {
				r.Described[model.LabelIndex(label)] = model.Negative
			}
		}
	}
	said("Support Devices")
	if !said("Cardiomegaly", "Enlarged Cardiomediastinum") {
		normal(0.7, "Heart and mediastinal contours are unremarkable.", "Cardiomegaly", "Enlarged Cardiomediastinum")
	}
	if !said("Edema", "Lung Opacity", "Consolidation", "Pneumonia", "Atelectasis", "Lung Lesion") {
		normal(0.8, "The lungs are well expanded and clear.", "Edema", "Lung Opacity", "Consolidation")
	}
	if !said("Pleural Effusion", "Pneumothorax", "Pleural Other") {
		normal(0.6, "The pleural surfaces are normal.", "Pleural Effusion", "Pneumothorax")
	}
	if !said("Fracture") {
		normal(0.5, "Osseous structures are intact.", "Fracture")
	}
	return sentences
}

// sentence puts words into one of the forms.
func sentence(rng *rand.Rand, words string, forms ...string) string {
	s := fmt.Sprintf(forms[rng.IntN(len(forms))], words)
	return strings.ToUpper(s[:1]) + s[1:] // all in ASCII
}

// list joins "a", "b" and "c" to "a, b or c".
func list(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
