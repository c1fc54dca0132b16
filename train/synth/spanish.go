package synth

import (
	"cmp"
	"math/rand/v2"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// spanish are words as PadChest's column Report has them: lower case, without endings and accents.
var spanish = [model.NumLabels]struct {
	nouns  map[string]string
	size   [3]string
	zoned  bool
	sided  bool
	labels map[string]string // PadChest's own name of the finding
}{
	{nouns: map[string]string{"": "atelectasi", "plate": "atelectasi lamin", "volume loss": "atelectasi con perd volum"}, zoned: true, sided: true,
		labels: map[string]string{"": "atelectasis", "plate": "laminar atelectasis", "volume loss": "lobar atelectasis"}},
	{nouns: map[string]string{"": "cardiomegali"}, size: degrees, labels: map[string]string{"": "cardiomegaly"}},
	{nouns: map[string]string{"": "condensacion"}, zoned: true, sided: true, labels: map[string]string{"": "consolidation"}},
	{nouns: map[string]string{"": "edem pulmonar"}, size: degrees, labels: map[string]string{"": "pulmonary edema"}},
	{nouns: map[string]string{"": "ensanch mediastin"}, size: degrees, labels: map[string]string{"": "mediastinal enlargement"}},
	{nouns: map[string]string{"": "fractur costal", "healing ribs": "call fractur costal", "vertebral compression": "fractur vertebral"}, sided: true,
		labels: map[string]string{"": "rib fracture", "healing ribs": "callus rib fracture", "vertebral compression": "vertebral compression"}},
	{nouns: map[string]string{"": "nodul pulmonar", "mass": "mas pulmonar"}, size: [3]string{"pequen", "", "gran"}, zoned: true, sided: true,
		labels: map[string]string{"": "nodule", "mass": "pulmonary mass"}},
	{nouns: map[string]string{"": "aument densid"}, size: [3]string{"sutil", "", "extens"}, zoned: true, sided: true, labels: map[string]string{"": "increased density"}},
	{},
	{nouns: map[string]string{"": "derram pleural"}, size: degrees, sided: true, labels: map[string]string{"": "pleural effusion"}},
	{nouns: map[string]string{"": "engros pleural", "calcified plaques": "plac pleural calcific"}, sided: true,
		labels: map[string]string{"": "pleural thickening", "calcified plaques": "calcified pleural plaques"}},
	{nouns: map[string]string{"": "neumoni"}, zoned: true, sided: true, labels: map[string]string{"": "pneumonia"}},
	{nouns: map[string]string{"": "neumotorax"}, size: [3]string{"pequen", "", "import"}, sided: true, labels: map[string]string{"": "pneumothorax"}},
	{nouns: map[string]string{"": "material protes", "pacemaker": "marcapas", "central line": "ven central", "sternal wires": "sutur esternotomi", "feeding tube": "sond nasogastr",
		"endotracheal tube": "tub endotraqueal", "chest tube": "tub drenaj pleural"},
		labels: map[string]string{"": "prosthesis", "pacemaker": "pacemaker", "central line": "central venous catheter", "sternal wires": "sternotomy", "feeding tube": "NSG tube",
			"endotracheal tube": "endotracheal tube", "chest tube": "chest drain tube"}},
}

var degrees = [3]string{"liger", "moder", "import"}

// of is the entry of a kind, or a label's default.
func of(names map[string]string, kind string) string {
	if name, ok := names[kind]; ok {
		return name
	}
	return names[""]
}

// writeSpanish writes a report as PadChest has it: phrases that end in " .".
func writeSpanish(o opinion, rng *rand.Rand) string {
	var said, denied []string
	for _, l := range rng.Perm(model.NumLabels) {
		about := o.about[l]
		words := func(sized bool) string {
			e := spanish[l]
			parts := []string{}
			if sized {
				parts = append(parts, e.size[about.degree()])
			}
			parts = append(parts, of(e.nouns, about.kind))
			if e.zoned && about.side != Both {
				parts = append(parts, [3]string{"basal", "camp medi", "lobul superior"}[about.zone()])
			}
			if e.sided {
				parts = append(parts, map[Side]string{Left: "izquierd", Right: "derech", Both: "bilateral"}[about.side])
			}
			return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
		}
		switch o.says[l] {
		case model.Positive:
			said = append(said, [...]string{"", "", "apreci ", "sign "}[rng.IntN(4)]+words(true))
		case model.Uncertain:
			said = append(said, [...]string{"probabl ", "posibl ", "no pued descart "}[rng.IntN(3)]+words(false))
		case model.Negative:
			denied = append(denied, spanish[l].nouns[""])
		}
	}
	normal := len(said) == 0
	if len(denied) > 0 {
		said = append(said, [...]string{"no apreci ", "no evident ", "no observ "}[rng.IntN(3)]+strings.Join(denied, " ni "))
	}
	closing := [...]string{"sin hallazg signific", "sin alter radiolog significacion", "", ""}[rng.IntN(4)]
	switch {
	case normal:
		said = append(said, cmp.Or(closing, "sin hallazg"))
	case closing != "":
		said = append(said, "rest "+closing)
	}
	return strings.Join(said, " . ") + " ."
}
