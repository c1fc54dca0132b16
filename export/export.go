package export

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// Tolerance is the largest difference, absolute, between a logit of the trainer and of ONNX Runtime.
const Tolerance = 1e-4

// Options of Export. The zero value is ready for use: the whole classifier in float32.
type Options struct {
	Graph
	// HeldOut are studies to prove a lower precision on. Without them, or where it loses too much, Export refuses unless
	// Force is set.
	HeldOut *HeldOut
	Force   bool
	// MaxFileBytes is the size above which the weights get a file of their own; 0 is the constant of that name.
	MaxFileBytes int
	// Progress, when set, is called with 0 before the images of a stage ("verify", or "compare" of precisions) are run, then with the
	// size of each batch that was done.
	Progress func(stage string, images, total int)
}

// Summary is what Export did.
type Summary struct {
	Run           string                `json:"run"`
	Model         string                `json:"model"`
	Weights       string                `json:"weights,omitempty"` // the file of weights, where there is one
	Card          string                `json:"card"`
	Bytes         int                   `json:"bytes"` // of the model file
	SHA256        string                `json:"sha256"`
	Nodes         int                   `json:"nodes"`
	Compared      int                   `json:"compared"`       // images of the run's parity file
	MaxDifference float64               `json:"max_difference"` // of a float32 logit
	Precision     Precision             `json:"precision"`
	Check         *model.PrecisionCheck `json:"precision_check,omitempty"`
}

// ParityError says that ONNX Runtime does not give the logits of the trainer.
type ParityError struct {
	Path  string  // the parity file
	Image int     // the first image that differs
	Label string  // or "attention"
	Want  float32 // the trainer's logit
	Got   float32
}

func (e *ParityError) Error() string {
	return fmt.Sprintf("the graph does not reproduce %s: image %d, %s: %g, the trainer had %g (tolerance %g)",
		e.Path, e.Image, e.Label, e.Got, e.Want, Tolerance)
}

// Hint says what differs most likely.
func (e *ParityError) Hint() string {
	return "are parity file and checkpoint of the same run, and was it trained in float32? A probe on embeddings that hardly vary (embedding.std in " +
		model.RunMetadata + ") magnifies rounding: train the encoder with a smaller loss.beta, or longer. Nothing was written"
}

// Export writes the classifier of a run folder as the file out, with its card beside it. The graph is compared with the run's
// parity file first, in float32: a graph that differs gives a *ParityError. A lower precision is then compared with that graph on
// held-out studies: one that loses too much gives a *LossError. Both leave no file, and an older file stays as it was.
func Export(ctx context.Context, runDir, out string, opts Options) (*Summary, error) {
	s, err := exportRun(ctx, runDir, out, opts)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return s, nil
}

func exportRun(ctx context.Context, runDir, out string, opts Options) (*Summary, error) {
	opts.Graph = opts.Graph.filled()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Progress == nil {
		opts.Progress = func(string, int, int) {}
	}
	r, err := readRun(runDir)
	if err != nil {
		return nil, err
	}
	opts.encoder = r.encoder
	reference := opts.Graph
	reference.Precision, reference.Part = FP32, Full // the parts of a graph are written by the same code as the whole
	m, err := r.open(out, reference, 1, opts)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	summary := &Summary{Run: runDir, Model: out, Compared: len(r.parity.views), Precision: opts.Precision}
	if summary.MaxDifference, err = r.parity.compare(ctx, m, func(n int) { opts.Progress("verify", n, len(r.parity.views)) }); err != nil {
		return nil, err
	}
	if err := r.prove(ctx, m, out, opts); err != nil {
		return nil, err
	}
	if r.encoder != nil {
		if err := r.encoder.count(&r.metadata, r.weights, out); err != nil {
			return nil, err
		}
	}
	summary.Check = r.metadata.Check
	file, err := opts.Build(r.metadata, r.weights)
	if err != nil {
		return nil, err
	}
	encoded, err := Encode(file, out, opts.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	card, err := newCard(file, encoded, out, r.report)
	if err != nil {
		return nil, err
	}
	card.Parity = &CardParity{Images: summary.Compared, MaxDifference: summary.MaxDifference, Tolerance: Tolerance}
	summary.Nodes, summary.Bytes, summary.SHA256, summary.Weights = card.Model.Nodes, card.Model.Bytes, card.Model.SHA256, encoded.WeightsName
	if err := encoded.Write(out); err != nil {
		return nil, err
	}
	summary.Card = card.paths[0]
	return summary, card.write()
}

// prove fills the metadata with what the graph of the file says and costs, beside the float32 graph that reference runs.
func (r *run) prove(ctx context.Context, reference *ort.Model, out string, opts Options) (err error) {
	m := reference
	if opts.Precision != FP32 {
		o := opts.Graph
		o.Part, o.Attention = Full, false
		if m, err = r.open(out, o, 1, opts); err != nil {
			return err
		}
		defer m.Close()
		if r.metadata.Check, err = r.gate(ctx, reference, m, opts); err != nil {
			return err
		}
	}
	if opts.Part == Full {
		r.metadata.SelfTest, err = m.SelfTest()
	}
	return err
}

// open builds a run's graph and makes it ready to run, with so many threads to a Run.
func (r *run) open(out string, o Graph, threads int, opts Options) (*ort.Model, error) {
	file, err := o.Build(r.metadata, r.weights)
	if err != nil {
		return nil, err
	}
	encoded, err := Encode(file, out, opts.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	return encoded.open(out, ort.Options{Threads: threads})
}

// compare runs the first image of the parity file by itself and then all of them in batches, on all cores: two sizes, so
// that a graph whose batch is not dynamic is found. It returns the largest difference of a logit.
func (p *parity) compare(ctx context.Context, m *ort.Model, progress func(images int)) (float64, error) {
	const size = 8
	n := len(p.views)
	progress(0)
	if _, err := p.compareBatch(ctx, m, 0, 1); err != nil {
		return 0, err
	}
	var mu sync.Mutex
	largest := 0.0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < n; from += size {
		group.Go(func() error {
			to := min(from+size, n)
			d, err := p.compareBatch(ctx, m, from, to)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			largest = max(largest, d)
			progress(to - from)
			return nil
		})
	}
	err := group.Wait()
	return largest, err
}

func (p *parity) compareBatch(ctx context.Context, m *ort.Model, from, to int) (largest float64, err error) {
	pixels := len(p.images) / len(p.views)
	out, err := m.Run(ctx, p.images[from*pixels:to*pixels], p.views[from:to])
	if err != nil {
		return 0, fmt.Errorf("run images %d to %d of %s: %w", from, to-1, p.path, err)
	}
	for i, row := range out.Logits {
		for j, got := range row {
			want := p.logits[from+i][j]
			d := math.Abs(float64(got) - float64(want))
			if !(d <= Tolerance) { // not d > Tolerance: NaN differs from everything
				return 0, &ParityError{p.path, from + i, model.Labels[j], want, got}
			}
			largest = max(largest, d)
		}
	}
	return largest, p.compareAttention(out, from)
}

// compareAttention compares the attention of the images that the trainer left it for.
func (p *parity) compareAttention(out *ort.Output, from int) error {
	for i, row := range out.Attention {
		if from+i >= len(p.attention) {
			break
		}
		for j, got := range row {
			if want := p.attention[from+i][j]; !(math.Abs(float64(got)-float64(want)) <= Tolerance) {
				return &ParityError{p.path, from + i, "attention", want, got}
			}
		}
	}
	return nil
}
