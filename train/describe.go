package train

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/data"
)

// Description is what a run's text decoder makes of held-out studies that have a report. Nothing is masked: it sees every patch.
type Description struct {
	Run      string     `json:"run"`
	Step     int        `json:"step"` // of the checkpoint
	Blind    bool       `json:"blind"`
	Split    data.Split `json:"split"`
	Studies  int        `json:"studies"`
	Patients int        `json:"patients"`
	Images   int        `json:"images"` // every view of a study is asked for its report
	Tokens   int        `json:"tokens"` // of the reports, once for each image
	// Own is with each report's own image, Other with an image of another patient, of the same view where there is one. What Own
	// is better by, Gain, the decoder reads in the image.
	Own   TextScores `json:"own_image"`
	Other TextScores `json:"other_image"`
	Gain  TextScores `json:"gain"`

	Samples []Sample `json:"samples"`

	answers []answer // of each image with itself
}

// TextScores judge each token with those before it given.
type TextScores struct {
	Accuracy     metrics.Estimate `json:"token_accuracy"` // share that the decoder would have written
	CrossEntropy metrics.Estimate `json:"cross_entropy"`  // nats a token
}

// Sample is a report that the decoder wrote, token by token the likeliest, beside the true one.
type Sample struct {
	Study   string `json:"study"` // hashed
	View    string `json:"view"`
	Written string `json:"written"`
	True    string `json:"true"`
}

// DescribeOptions say what to describe.
type DescribeOptions struct {
	Split      data.Split
	Samples    int // reports to write, at most describeViews
	Replicates int // of the bootstrap behind the intervals
}

// describeViews is the one batch size of description graphs.
const describeViews = 16

// Describe judges the last checkpoint of a run of method mvmae-v2t on its pack, also while the run is in training.
func Describe(ctx context.Context, dev *Device, run *Run, pack *data.Pack, opt DescribeOptions) (d Description, err error) {
	defer recoverGraph(&err)
	if d, err = describe(ctx, dev, run, pack, opt); err != nil {
		err = fmt.Errorf("describe: %w", err)
	}
	return d, err
}

func describe(ctx context.Context, dev *Device, run *Run, pack *data.Pack, opt DescribeOptions) (Description, error) {
	w, step, err := newDescriber(dev, run, pack)
	if err != nil {
		return Description{}, err
	}
	studies := reported(pack, opt.Split)
	if len(studies) == 0 {
		return Description{}, hint.Wrap(fmt.Errorf("no study of split %s has a report", opt.Split), "see the counts of reports that pack and index printed")
	}
	images := ImagesOf(pack, studies)
	partners, err := othersOf(pack, images)
	if err != nil {
		return Description{}, err
	}
	d := Description{Run: run.Info.ID, Step: step, Blind: run.Config.Text.Blind, Split: opt.Split, Studies: len(studies), Images: len(images)}
	if d.answers, err = w.judge(ctx, images, images); err != nil {
		return d, err
	}
	other, err := w.judge(ctx, images, partners)
	if err != nil {
		return d, err
	}
	patients := map[string]bool{}
	for _, a := range d.answers {
		patients[a.patient] = true
		d.Tokens += int(a.tokens)
	}
	d.Patients = len(patients)
	r := metrics.Resampling{Replicates: opt.Replicates, Seed: run.Config.Seed}
	d.Own, d.Other, d.Gain = textScores(d.answers, nil, r), textScores(other, nil, r), textScores(d.answers, other, r)
	d.Samples, err = w.write(ctx, studies[:min(len(studies), opt.Samples, describeViews)])
	return d, err
}

// glance is a description in two numbers, cheap enough for every epoch: the nats a token of the reports of the same few validation images.
type glance struct {
	*describer
	images, others []int
}

// glanceImages is how many images are asked.
const glanceImages = 4 * describeViews

// newGlance takes images from all of the validation studies that have a report. Without two patients of such there is nothing to ask: nil.
func newGlance(d *describer) *glance {
	all := ImagesOf(d.pack, reported(d.pack, data.Validate))
	n := min(len(all), glanceImages)
	images := make([]int, n)
	for i := range images {
		images[i] = all[i*len(all)/n]
	}
	others, err := othersOf(d.pack, images)
	if n == 0 || err != nil {
		return nil
	}
	return &glance{d, images, others}
}

// ask gives the nats a token that the decoder is off by, shown each report's own image and shown another patient's. Where they are the same, it
// does not look.
func (g *glance) ask(ctx context.Context) (own, other float64, err error) {
	nats := func(shown []int) float64 {
		var answers []answer
		if err == nil {
			answers, err = g.judge(ctx, g.images, shown)
		}
		return float64(textScores(answers, nil, metrics.Resampling{}).CrossEntropy.Value)
	}
	return nats(g.images), nats(g.others), err
}

// leaveDescription describes the validation studies in the run's folder. A pack whose validation studies have no reports leaves nothing
// to describe.
func leaveDescription(ctx context.Context, dev *Device, run *Run, pack *data.Pack) error {
	if len(reported(pack, data.Validate)) == 0 {
		slog.Warn("no validation study has a report: nothing is described")
		return nil
	}
	d, err := describe(ctx, dev, run, pack, DescribeOptions{Split: data.Validate, Samples: 8, Replicates: run.Config.Probe.Replicates})
	if ctx.Err() != nil {
		return hint.Wrap(fmt.Errorf("%w after the last step, before the run was described", ErrInterrupted), `go on with "mvmae-train resume %s"`, run.Dir)
	}
	if err != nil {
		return err
	}
	if err := run.write(samplesFile, []byte(d.Markdown())); err != nil {
		return err
	}
	return run.WriteJSON(TextFile, d)
}

// Less compares two runs on the same reports: the scores of d less those of other, paired.
func (d Description) Less(other Description, replicates int) (TextScores, error) {
	same := len(d.answers) == len(other.answers)
	for i := 0; same && i < len(d.answers); i++ {
		a, b := d.answers[i], other.answers[i]
		same = a.patient == b.patient && a.tokens == b.tokens
	}
	if !same {
		return TextScores{}, hint.Wrap(errors.New("describe: the two runs do not cut the same reports into the same tokens"),
			"compare runs of one pack with the same text.vocabulary, text.max_tokens and text.end")
	}
	return textScores(d.answers, other.answers, metrics.Resampling{Replicates: replicates, Seed: 1}), nil
}

// answer is what the decoder knew of the tokens of one image's report.
type answer struct {
	patient             string
	tokens, right, nats float64
}

// textScores are those of a, or the differences a less b.
func textScores(a, b []answer, r metrics.Resampling) TextScores {
	right, nats := make([]metrics.Part, len(a)), make([]metrics.Part, len(a))
	for i, x := range a {
		if b != nil {
			x.right, x.nats = x.right-b[i].right, x.nats-b[i].nats
		}
		right[i], nats[i] = metrics.Part{Patient: x.patient, Sum: x.right, Count: x.tokens}, metrics.Part{Patient: x.patient, Sum: x.nats, Count: x.tokens}
	}
	return TextScores{metrics.Ratio(right, r), metrics.Ratio(nats, r)}
}

// reported lists the studies of a split that have a report.
func reported(pack *data.Pack, split data.Split) (studies []int) {
	for _, s := range pack.StudiesOf(split) {
		if pack.Studies[s].Report != "" {
			studies = append(studies, s)
		}
	}
	return studies
}

// othersOf gives each image the next one of another patient, of the same view where there is one.
func othersOf(pack *data.Pack, images []int) ([]int, error) {
	patient := func(i int) string { return pack.Images[i].Dataset + "/" + pack.Images[i].PatientID }
	partners := make([]int, len(images))
	for i, image := range images {
		partner := -1
		for j := range len(images) - 1 {
			next := images[(i+1+j)%len(images)]
			if patient(next) == patient(image) {
				continue
			}
			if pack.Images[next].View == pack.Images[image].View {
				partner = next
				break
			}
			if partner < 0 {
				partner = next
			}
		}
		if partner < 0 {
			return nil, hint.Wrap(errors.New("all reports are of one patient: there is no other image to compare with"), "index more studies")
		}
		partners[i] = partner
	}
	return partners, nil
}

// Markdown is the description as text.
func (d Description) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What the text decoder says\n\nRun %s, step %d, on %d images of %d studies of %d patients (%s), %d tokens. Every token is judged with those before it given; "+
		"brackets are 95 %% intervals over patients.\n\n", d.Run, d.Step, d.Images, d.Studies, d.Patients, d.Split, d.Tokens)
	if d.Blind {
		b.WriteString("This run's text decoder is blind: it was trained without the image.\n\n")
	}
	b.WriteString("| | tokens right | nats a token |\n|---|---|---|\n")
	for _, row := range []struct {
		name string
		s    TextScores
	}{{"its own image", d.Own}, {"an image of another patient", d.Other}, {"own less other, paired", d.Gain}} {
		fmt.Fprintf(&b, "| %s | %v | %v |\n", row.name, row.s.Accuracy, row.s.CrossEntropy)
	}
	for _, s := range d.Samples {
		fmt.Fprintf(&b, "\n## Study %s, %s view\n\nTrue: %s\n\nWritten: %s\n", s.Study, s.View, quoted(s.True), quoted(s.Written))
	}
	return b.String()
}

// quoted is a report as one line that Markdown shows as it is.
func quoted(report string) string {
	line := strings.Join(strings.Fields(report), " ")
	if line == "" {
		return "(nothing)"
	}
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "_", "\\_", "<", "&lt;", "`", "\\`", "#", "\\#", "[", "\\[").Replace(line)
}
