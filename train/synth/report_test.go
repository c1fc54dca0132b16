package synth

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
)

// first draws n patients' first studies.
func first(at *Institution, n int) (studies []*Study) {
	for i := range n {
		studies = append(studies, NewStudy(NewPatient(at, 77, i), 0))
	}
	return studies
}

// reader reads reports as a labeller would, by words alone: it shares nothing with the grammar.
type reader struct {
	stop          string // between sentences
	names         map[string]*regexp.Regexp
	denies, hedge *regexp.Regexp
}

var readers = map[string]reader{
	"english": {stop: ". ", denies: regexp.MustCompile(`^no |\bno evidence`), hedge: regexp.MustCompile(`possible|cannot be excluded|\bmay\b|questionable`),
		names: map[string]*regexp.Regexp{
			"Atelectasis": regexp.MustCompile(`atelecta`), "Cardiomegaly": regexp.MustCompile(`cardiomegaly|enlargement of the cardiac`),
			"Consolidation": regexp.MustCompile(`consolidation`), "Edema": regexp.MustCompile(`edema`),
			"Enlarged Cardiomediastinum": regexp.MustCompile(`widening of the mediastinum|mediastinal widening`),
			"Fracture":                   regexp.MustCompile(`fracture`), "Lung Lesion": regexp.MustCompile(`nodule|mass`), "Lung Opacity": regexp.MustCompile(`opacit`),
			"Pleural Effusion": regexp.MustCompile(`effusion`), "Pleural Other": regexp.MustCompile(`pleural thickening|plaque`),
			"Pneumonia": regexp.MustCompile(`pneumonia`), "Pneumothorax": regexp.MustCompile(`pneumothora`),
			"Support Devices": regexp.MustCompile(`pacemaker|catheter|\btube|device|sternotomy`),
		}},
	"spanish": {stop: " . ", denies: regexp.MustCompile(`^no (apreci|evident|observ)`), hedge: regexp.MustCompile(`probabl|posibl|no pued descart`),
		names: map[string]*regexp.Regexp{
			"Atelectasis": regexp.MustCompile(`atelectasi`), "Cardiomegaly": regexp.MustCompile(`cardiomegali`), "Consolidation": regexp.MustCompile(`condensacion`),
			"Edema": regexp.MustCompile(`edem`), "Enlarged Cardiomediastinum": regexp.MustCompile(`ensanch mediastin`), "Fracture": regexp.MustCompile(`fractur`),
			"Lung Lesion": regexp.MustCompile(`nodul|\bmas\b`), "Lung Opacity": regexp.MustCompile(`aument densid`), "Pleural Effusion": regexp.MustCompile(`derram`),
			"Pleural Other": regexp.MustCompile(`engros pleural|plac pleural`), "Pneumonia": regexp.MustCompile(`neumoni`), "Pneumothorax": regexp.MustCompile(`neumotorax`),
			"Support Devices": regexp.MustCompile(`marcapas|ven central|esternotomi|sond|\btub\b|protes`),
		}},
}

func (r reader) read(text string) (set model.LabelSet, sentences map[string]string) {
	sentences = map[string]string{}
	for l := range set {
		set[l] = model.Blank
	}
	for sentence := range strings.SplitSeq(strings.TrimSuffix(strings.ToLower(text), "."), r.stop) {
		sentence = strings.TrimSpace(sentence)
		for name, words := range r.names {
			if !words.MatchString(sentence) {
				continue
			}
			sentences[name] = sentence
			switch {
			case r.hedge.MatchString(sentence):
				set[model.LabelIndex(name)] = model.Uncertain
			case r.denies.MatchString(sentence):
				set[model.LabelIndex(name)] = model.Negative
			default:
				set[model.LabelIndex(name)] = model.Positive
			}
		}
	}
	return set, sentences
}

func TestReport_SaysWhatIsThere(t *testing.T) {
	for name, language := range map[string]string{"mimic": "english", "chexpert": "english", "nih": "english", "padchest": "spanish"} {
		t.Run(name, func(t *testing.T) {
			seen := map[model.LabelState]int{}
			sides, silent, there, described := 0, 0, 0, 0
			for _, s := range first(institution(t, name), 1500) {
				r, truth := s.Report(), s.Labels()
				read, sentences := readers[language].read(r.Impression)
				if diff := cmp.Diff(r.Said, read); diff != "" {
					t.Fatalf("%q (-meant +read):\n%s", r.Impression, diff)
				}
				for l, state := range read {
					seen[state]++
					if truth[l] == model.Positive && l != noFinding {
						there++
						if state == model.Blank {
							silent++
						}
					}
					// Nothing is denied that is there, and nothing said to be there that is not.
					if state != model.Blank && state != model.Uncertain && state != truth[l] {
						t.Errorf("%s of %s: the report says %d, the truth is %d: %q", model.Labels[l], s.Patient.ID, state, truth[l], r.Impression)
					}
				}
				sides += agreeOnSides(t, s, sentences)
				if r.Findings != "" {
					described++
					read, _ := readers["english"].read(r.Findings)
					for l, state := range r.Described {
						if state == model.Negative && truth[l] == model.Positive {
							t.Errorf("%s of %s is called normal: %q", model.Labels[l], s.Patient.ID, r.Findings)
						}
					}
					for l, state := range read {
						if state != model.Blank && state != r.Said[l] {
							t.Errorf("the findings say %d of %s, the impression %d: %q, %q", state, model.Labels[l], r.Said[l], r.Findings, r.Impression)
						}
					}
				}
			}
			near(t, "share of what is there that is left out", float64(silent)/float64(there), 0.02, 0.02)
			for _, state := range []model.LabelState{model.Positive, model.Negative, model.Uncertain} {
				if seen[state] < 30 {
					t.Errorf("state %d occurs %d times", state, seen[state])
				}
			}
			if sides < 200 {
				t.Errorf("%d sides were compared", sides)
			}
			if share, ok := findingsSections[name]; ok {
				near(t, "share of reports with findings", float64(described)/1500, share, 0.05)
			}
		})
	}
}

// agreeOnSides compares the side in a sentence about one label with the truth.
func agreeOnSides(t *testing.T, s *Study, sentences map[string]string) (compared int) {
	for _, f := range s.Findings {
		sentence := sentences[f.Label]
		if sentence == "" || f.Label == "Support Devices" || strings.Contains(sentence, "bilateral") {
			continue
		}
		right, left := strings.Contains(sentence, "right") || strings.Contains(sentence, "derech"), strings.Contains(sentence, "left") || strings.Contains(sentence, "izquierd")
		if left == right {
			continue
		}
		compared++
		if left != (f.Side == Left) {
			t.Errorf("%s of %s is %s: %q", f.Kind, s.Patient.ID, f.Side, sentence)
		}
	}
	return compared
}

func TestReport_FollowsFromTheStudy(t *testing.T) {
	at := institution(t, "mimic")
	for i, s := range first(at, 50) {
		again := NewStudy(NewPatient(at, 77, i), 0)
		again.Views = nil // what was drawn for the pictures moves no word
		a, b := s.Report(), again.Report()
		if a.Findings != b.Findings || a.Impression != b.Impression || s.labels(a) != again.labels(b) {
			t.Fatalf("study %d: another report: %q, %q", i, a.Impression, b.Impression)
		}
	}
}

// The states that the labeller gives are as common as in the dataset's table, within 2.5 % of the studies: five standard
// errors of 6,000 studies are up to 3.2 % for the commonest.
func TestLabels_StatesAsInTheTables(t *testing.T) {
	const n = 6000
	for _, name := range []string{"mimic", "chexpert"} {
		at := institution(t, name)
		own, _ := ratesOf(name)
		var positive, uncertain, negative [model.NumLabels]float64
		for _, s := range first(at, n) {
			for l, state := range s.labels(s.Report()) {
				switch state {
				case model.Positive:
					positive[l]++
				case model.Uncertain:
					uncertain[l]++
				case model.Negative:
					negative[l]++
				}
			}
		}
		for l, label := range model.Labels {
			if l == noFinding {
				continue
			}
			for _, c := range []struct {
				what      string
				got, want float64
			}{
				{"positive", positive[l] / n, own.alone[l] - own.uncertain[l]/2},
				{"uncertain", uncertain[l] / n, own.uncertain[l]},
				{"negative", negative[l] / n, own.negative[l]},
			} {
				near(t, name+": "+label+" "+c.what, c.got, c.want, 0.025)
			}
		}
	}
}

// PadChest and ChestX-ray14 have no states: what is possible is labelled too.
func TestLabels_ListsAsLongAsInTheTables(t *testing.T) {
	const n = 6000
	for _, name := range []string{"padchest", "nih"} {
		at := institution(t, name)
		own, _ := ratesOf(name)
		var named [model.NumLabels]float64
		for _, s := range first(at, n) {
			for l, state := range s.labels(s.Report()) {
				if state == model.Positive || state == model.Uncertain {
					named[l]++
				}
			}
		}
		for l, label := range model.Labels {
			if l != noFinding { // the labeller's errors make more of the healthy ill than of the ill healthy
				near(t, name+": "+label, named[l]/n, own.alone[l], 0.025)
			}
		}
	}
}

func TestLabels_ErrorsAsStated(t *testing.T) {
	at := institution(t, "nih")
	own, _ := ratesOf("nih")
	const n = 40000
	rng := stream(3, streamLabeller)
	for _, label := range []string{"Atelectasis", "Lung Opacity", "Lung Lesion", "Pleural Effusion"} {
		l := model.LabelIndex(label)
		missed, invented, called := 0.0, 0.0, 0.0
		present := int(own.alone[l] * n)
		for i := range n {
			o := opinion{}
			for k := range o.says {
				o.says[k] = model.Blank
			}
			if i < present {
				o.says[l] = model.Positive
			}
			labelled := o.label(at, rng)[l] == model.Positive
			switch {
			case i < present && !labelled:
				missed++
			case i >= present && labelled:
				invented++
			}
			if labelled {
				called++
			}
		}
		e := labellerError[l] * errorScale(at)
		tolerance := 5 * math.Sqrt(e/float64(present))
		near(t, label+" missed", missed/float64(present), e, tolerance)
		near(t, label+" invented", invented/called, e, tolerance)
	}
}

func TestViews_AsManyAsInTheDatasets(t *testing.T) {
	for name, want := range map[string]float64{"mimic": 1.66, "chexpert": 1.19, "padchest": 1.46, "nih": 1} {
		at := institution(t, name)
		share, images, alone, lateral, twice := 0.0, 0.0, 0.0, 0.0, 0.0
		for _, p := range at.Views {
			share += p.Share
			images += p.Share * float64(len(p.Views))
			if len(p.Views) == 1 {
				alone += p.Share
			}
			seen := map[Projection]int{}
			for _, v := range p.Views {
				if seen[v]++; seen[v] == 2 {
					twice += p.Share
				}
			}
			if seen[LL] > 0 {
				lateral += p.Share
			}
		}
		near(t, name+": shares", share, 1, 1e-3)
		near(t, name+": images a study", images/share, want, 0.01)
		drawn := 0
		for _, s := range first(at, 2000) {
			drawn += len(s.Views)
		}
		near(t, name+": images drawn a study", float64(drawn)/2000, want, 0.08) // five standard errors
		if name != "nih" && (alone < 0.3 || lateral < 0.1 || twice == 0) {
			t.Errorf("%s: %.2f of one view, %.2f with a lateral, %.3f with a view twice", name, alone, lateral, twice)
		}
	}
}
