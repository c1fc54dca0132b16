package model

// NumLabels is the number of findings every classifier answers.
const NumLabels = 14

// Labels are the 14 CheXpert findings in the order of every logit, probability, threshold and table column: alphabetical
// (Irvin et al. 2019 define the set; the MVMAE paper orders it so).
var Labels = [NumLabels]string{
	"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
	"Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
}

// LabelIndex returns the index of a label's exact name in Labels, or -1.
func LabelIndex(name string) int {
	for i, l := range Labels {
		if l == name {
			return i
		}
	}
	return -1
}

// LabelState is what a dataset says of one finding in one study. The states stay apart until the loss, where Target
// makes them numbers.
type LabelState int8

const (
	Positive  LabelState = 1
	Negative  LabelState = 0
	Uncertain LabelState = -1
	Blank     LabelState = -2 // the labeller did not mention it
	Absent    LabelState = -3 // the dataset has no such label at all: unknown, never negative
)

// Target returns the training target of a state (1 for Positive; 0 for Negative, Uncertain and Blank, as the paper
// binarises) and whether the finding is known at all: an Absent label is left out of losses and metrics.
func (s LabelState) Target() (y float32, known bool) {
	switch s {
	case Positive:
		return 1, true
	case Absent:
		return 0, false
	default:
		return 0, true
	}
}

// LabelSet is the state of each finding of one study.
type LabelSet [NumLabels]LabelState

// AbsentLabels returns a set in which nothing is known.
func AbsentLabels() (l LabelSet) {
	for i := range l {
		l[i] = Absent
	}
	return l
}
