package export

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// Tolerance is the largest difference, absolute, between a logit of the trainer and of ONNX Runtime.
const Tolerance = 1e-4

// Options of Export. The zero value is ready for use.
type Options struct {
	// Progress, when set, is called with 0 before the images of the parity file are run, then with the size of each batch
	// that was compared.
	Progress func(images, total int)
}

// Summary is what Export did.
type Summary struct {
	Run           string  `json:"run"`
	Model         string  `json:"model"`
	Bytes         int     `json:"bytes"`
	SHA256        string  `json:"sha256"`
	Nodes         int     `json:"nodes"`
	Compared      int     `json:"compared"`       // images of the run's parity file
	MaxDifference float64 `json:"max_difference"` // of a logit
}

// ParityError says that ONNX Runtime does not give the logits of the trainer.
type ParityError struct {
	Path  string // the parity file
	Image int    // the first image that differs
	Label string
	Want  float32 // the trainer's logit
	Got   float32
}

func (e *ParityError) Error() string {
	return fmt.Sprintf("the graph does not reproduce %s: image %d, %s: logit %g, the trainer had %g (tolerance %g)",
		e.Path, e.Image, e.Label, e.Got, e.Want, Tolerance)
}

// Hint says what differs most likely.
func (e *ParityError) Hint() string {
	return "are parity file and checkpoint of the same run, and was it trained in float32? A probe on embeddings that hardly vary (embedding.std in " +
		model.RunMetadata + ") magnifies rounding: train the encoder with a smaller loss.beta, or longer. Nothing was written"
}

// Export writes the classifier of a run folder as the file out. It compares the graph with the run's parity file first,
// in memory: a graph that differs gives a *ParityError and leaves no file, and an older file stays as it was.
func Export(ctx context.Context, runDir, out string, opts Options) (*Summary, error) {
	r, err := readRun(runDir)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	r.metadata.Precision = "fp32"
	file, err := Graph{encoder: r.encoder}.Build(r.metadata, r.weights)
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", runDir, err)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", runDir, err)
	}
	m, err := ort.OpenBytes(out, data, ort.Options{})
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", runDir, err)
	}
	defer m.Close()
	summary := &Summary{
		Run: runDir, Model: out, Bytes: len(data), SHA256: m.SHA256(), Nodes: len(file.Graph.Node), Compared: len(r.parity.views),
	}
	if summary.MaxDifference, err = r.parity.compare(ctx, m, opts.Progress); err != nil {
		return nil, fmt.Errorf("export %s: %w", runDir, err)
	}
	err = model.WriteFileAtomic(out, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("export: %w", err), "name a file in a folder that exists, has room and can be written")
	}
	return summary, nil
}

// compare runs the first image of the parity file by itself and then all of them in batches, on all cores: two sizes, so
// that a graph whose batch is not dynamic is found. It returns the largest difference of a logit.
func (p *parity) compare(ctx context.Context, m *ort.Model, progress func(images, total int)) (float64, error) {
	const size = 8
	n := len(p.views)
	if progress == nil {
		progress = func(int, int) {}
	}
	progress(0, n)
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
			progress(to-from, n)
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
	return largest, nil
}
