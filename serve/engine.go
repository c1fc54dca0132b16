package serve

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve/api"
)

// Options say how an Engine works. Zero values mean the defaults.
type Options struct {
	Device  string       // ort.CPU, ort.CUDA or ort.Auto; "" is CPU
	Threads int          // of one Run on the CPU; 0 is 1
	Policy  Policy       // what is not set is as DefaultPolicy of the device has it
	Workers int          // objects that are worked on at a time, the network apart where it runs in batches; 0 is one per core
	DICOM   dicom.Limits // of one object
	// Modalities are accepted; nil is CR and DX.
	Modalities []string
	// Codecs decodes JPEG-LS and JPEG 2000; without it those objects are refused. Whoever made it closes it, after the
	// engine.
	Codecs *external.Pool
	// Observe makes the observer of a model, which hears of each stage and batch; nil is nobody.
	Observe func(m ModelID, device string) Observer
}

// runner is what the engine needs of a model: ort.Model has it, the tests of queues and limits do without.
type runner interface {
	Run(ctx context.Context, images []float32, views []int64) (*ort.Output, error)
	Device() string
	Images(n int) (images []float32, free func())
	Close() error
}

// Engine answers studies with one model. Its methods may be called from many goroutines, which share its workers.
type Engine struct {
	model       runner
	metadata    model.Metadata
	id          ModelID
	device      string
	recipe      cxr.Recipe
	rule        fuse.Rule
	calibration fuse.Calibration
	limits      dicom.Limits
	modalities  []string
	codecs      *external.Pool
	observer    Observer
	cores       int
	workers     workers
	batches     *batcher // nil: each view runs on the core that prepared it

	mu       sync.Mutex
	closed   bool
	requests sync.WaitGroup // Classify and ClassifyAll in progress
}

// Open makes an Engine of a model file and warms it up.
func Open(path string, opts Options) (*Engine, error) {
	runs := opts.Policy.or(DefaultPolicy(ort.CPU, opts.Threads)).Instances
	m, err := ort.Open(path, ort.Options{Device: opts.Device, Threads: opts.Threads, Runs: runs})
	if err != nil {
		return nil, err
	}
	opts.Policy = opts.Policy.or(DefaultPolicy(m.Device(), opts.Threads))
	var warm []int
	if m.Device() == ort.CUDA {
		warm = append([]int{opts.Policy.MaxBatch}, opts.Policy.Preferred...)
	}
	e, err := newEngine(m, m.Metadata(), m.SHA256(), opts, warm...)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("model %s: %w", path, err)
	}
	return e, nil
}

func newEngine(r runner, meta model.Metadata, sha256 string, opts Options, warm ...int) (*Engine, error) {
	recipe, err := cxr.ParseRecipe(meta.Preprocessing)
	if err != nil {
		return nil, err
	}
	rule, err := fuse.ParseRule(meta.Fusion)
	if err != nil {
		return nil, err
	}
	calibration, err := fuse.ParseCalibration(meta.Calibration)
	if err != nil {
		return nil, err
	}
	n := opts.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	e := &Engine{
		model: r, metadata: meta, recipe: recipe, rule: rule, calibration: calibration,
		id:     ModelID{Name: meta.Name, Version: meta.Version, SHA256: sha256},
		limits: opts.DICOM, modalities: opts.Modalities, codecs: opts.Codecs,
		device: r.Device(), observer: unobserved{}, cores: n, workers: workers{free: n},
	}
	if opts.Observe != nil {
		e.observer = opts.Observe(e.id, e.device)
	}
	if p := opts.Policy; p.MaxBatch > 1 || 0 < p.Instances && p.Instances < n {
		p = p.or(DefaultPolicy(ort.CPU, opts.Threads))
		e.batches, err = newBatcher(p, r, meta.Spec.ImageSize*meta.Spec.ImageSize, e.observer, warm...)
	}
	return e, err
}

// Model says which model answers.
func (e *Engine) Model() ModelID { return e.id }

// Attends says whether the model has attention to show: where a request asks for it.
func (e *Engine) Attends() bool { return e.metadata.Attention }

// Device is the device the model runs on: ort.CPU or ort.CUDA.
func (e *Engine) Device() string { return e.device }

// Waiting is how many objects wait now, for a core or for a batch.
func (e *Engine) Waiting() int {
	n := e.workers.waiting()
	if e.batches != nil {
		n += e.batches.waiting()
	}
	return n
}

// Close frees the model. Studies in progress are finished first; later ones fail with ort.ErrClosed.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.requests.Wait()
	if e.batches != nil {
		e.batches.close()
	}
	return e.model.Close()
}

// enter begins a request, which requests.Done ends.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ort.ErrClosed
	}
	e.requests.Add(1)
	return nil
}

// Classify answers the one study that uploads hold. Its error is a *Problem where the input is at fault: two studies, two
// patients, no usable view; or whatever error uploads yielded, or the cause of ctx's end.
func (e *Engine) Classify(ctx context.Context, uploads iter.Seq2[Upload, error]) (*Result, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.requests.Done()
	start := time.Now()
	in, err := e.read(ctx, uploads)
	if err != nil {
		return nil, err
	}
	read := e.stage(ctx, StageRead, start)
	studies := in.studies()
	if len(studies) > 1 {
		return nil, twoStudies(studies)
	}
	if len(studies) == 0 {
		return nil, noUsableView(in.rejected)
	}
	result, err := e.study(ctx, studies[0])
	if err != nil {
		return nil, err
	}
	result.Reject(in.rejected...)
	result.TimingsMS.Read = milliseconds(read)
	result.TimingsMS.Total = milliseconds(time.Since(start))
	return result, nil
}

// ClassifyAll answers every study that uploads hold, in the order of their UIDs. The rejected objects, of which nobody
// knows the study, and the studies that were refused as a whole, or that the model failed at, come besides. It answers when
// the last file is read and holds 64 KiB for each of them until then. Its error is that of reading or the cause of ctx's end.
func (e *Engine) ClassifyAll(ctx context.Context, uploads iter.Seq2[Upload, error]) ([]*Result, []Rejection, error) {
	if err := e.enter(); err != nil {
		return nil, nil, err
	}
	defer e.requests.Done()
	in, err := e.read(ctx, uploads)
	if err != nil {
		return nil, nil, err
	}
	studies := in.studies()
	results, failed := make([]*Result, len(studies)), make([]error, len(studies))
	var group errgroup.Group
	group.SetLimit(e.cores) // enough to keep them busy
	for i, views := range studies {
		group.Go(func() error { // one that fails leaves the others alone
			start := time.Now()
			if results[i], failed[i] = e.study(ctx, views); failed[i] == nil {
				results[i].TimingsMS.Total = milliseconds(time.Since(start))
			}
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	for i, err := range failed {
		if err == nil {
			continue
		}
		code := CodeInternal
		if p := (*Problem)(nil); errors.As(err, &p) {
			code = p.Code
		}
		for _, v := range studies[i] {
			in.rejected = append(in.rejected, Rejection{Name: v.name, Code: code, Detail: err.Error()})
		}
	}
	results = slices.DeleteFunc(results, func(r *Result) bool { return r == nil })
	return results, api.SortRejections(in.rejected), nil
}

// study answers one study. The order of its views, and so every number, does not depend on the order they came in.
func (e *Engine) study(ctx context.Context, views []*view) (*Result, error) {
	if err := onePatient(views); err != nil {
		return nil, err
	}
	views, rejected := unique(views)
	if err := e.runAll(ctx, views); err != nil {
		return nil, err
	}
	result := &Result{StudyInstanceUID: views[0].image.StudyInstanceUID, Rejected: api.SortRejections(rejected), Model: e.id,
		Flags: []string{}}
	if !slices.ContainsFunc(views, func(v *view) bool { return v.image.View != cxr.Lateral }) {
		result.Flags = append(result.Flags, FlagLateralOnly)
	}
	start := time.Now()
	logits := make([][model.NumLabels]float32, len(views))
	for i, v := range views {
		logits[i] = v.logits
		result.Views = append(result.Views, View{
			SOPInstanceUID: v.image.SOPInstanceUID, View: v.image.View.String(), Evidence: string(v.image.Evidence),
			Probabilities: byLabel(e.fuse(v.logits)), Flags: append([]string{}, v.flags...),
			Rollout: slices.Collect(slices.Chunk(v.attention, e.metadata.Spec.Grid())), Seen: v.seen,
		})
		result.TimingsMS.Queue += milliseconds(v.queue)
		result.TimingsMS.Parse += milliseconds(v.parse)
		result.TimingsMS.Decode += milliseconds(v.decode)
		result.TimingsMS.Preprocess += milliseconds(v.prepare)
		result.TimingsMS.Run += milliseconds(v.run)
	}
	fused := e.fuse(logits...)
	for i := range views {
		if others := slices.Delete(slices.Clone(logits), i, i+1); len(others) > 0 {
			result.Views[i].ChangeWithout = byLabel(less(e.fuse(others...), fused))
		}
	}
	result.Probabilities = byLabel(fused)
	result.Findings = fuse.Findings(fused, [model.NumLabels]float64(e.metadata.Thresholds), e.metadata.UntrainedLabels)
	result.TimingsMS.Fuse = milliseconds(e.stage(ctx, StageFuse, start))
	return result, nil
}

// less is a - b.
func less(a, b [model.NumLabels]float32) [model.NumLabels]float32 {
	for l := range a {
		a[l] -= b[l]
	}
	return a
}

// fuse gives the probabilities of a study of these views.
func (e *Engine) fuse(logits ...[model.NumLabels]float32) [model.NumLabels]float32 {
	return e.calibration.Apply(fuse.Fuse(e.rule, logits), len(logits))
}

// runAll runs the views side by side and fills their logits and flags.
func (e *Engine) runAll(ctx context.Context, views []*view) error {
	group, running := errgroup.WithContext(ctx)
	for _, v := range views {
		group.Go(func() error { return e.runView(running, v) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (e *Engine) runView(ctx context.Context, v *view) error {
	out, err := e.runInput(ctx, v, func() []float32 {
		start := time.Now()
		size := e.metadata.Spec.ImageSize
		input := make([]float32, size*size) // [1,S,S]
		cxr.Input(v.image.Stored, size, input)
		if e.Attends() {
			v.seen = make([]uint8, len(input))
			for i, x := range input {
				v.seen[i] = uint8(255*x + 0.5)
			}
		}
		v.prepare += e.stage(ctx, StagePreprocess, start) // after the recipe, which counts too
		return input
	})
	if err != nil {
		return err
	}
	return e.judge(v, out)
}

// runInput runs what prepare makes, on a core that it waits for, and notes in v how long all took.
func (e *Engine) runInput(ctx context.Context, v *view, prepare func() []float32) (out *ort.Output, err error) {
	arrived := time.Now()
	var input []float32
	err = e.workers.do(ctx, func() (err error) {
		v.queue += e.stage(ctx, StageQueue, arrived)
		input = prepare()
		if e.batches == nil { // the core that prepared it runs it
			out, err = e.runAlone(ctx, v, input)
		}
		return err
	})
	if err == nil && e.batches != nil { // the core is free while the image waits for its batch
		out, err = e.runTogether(ctx, v, input)
	}
	return out, err
}

func (e *Engine) runAlone(ctx context.Context, v *view, input []float32) (*ort.Output, error) {
	start := time.Now()
	out, err := e.model.Run(ctx, input, []int64{int64(v.image.View)})
	if err != nil {
		return nil, fmt.Errorf("run the model: %w", err)
	}
	v.run = e.stage(ctx, StageRun, start)
	e.observer.Batch(1)
	return out, nil
}

func (e *Engine) runTogether(ctx context.Context, v *view, input []float32) (*ort.Output, error) {
	j, err := e.batches.run(ctx, input, int64(v.image.View))
	if err != nil {
		return nil, fmt.Errorf("run the model: %w", err)
	}
	waited := j.began.Sub(j.arrived)
	e.observer.Stage(ctx, StageQueue, j.arrived, waited)
	e.observer.Stage(ctx, StageRun, j.began, j.took)
	v.queue, v.run = v.queue+waited, j.took
	return j.out, nil
}

// judge takes what the model says of a view.
func (e *Engine) judge(v *view, out *ort.Output) error {
	v.logits = out.Logits[0]
	if out.Attention != nil {
		v.attention = out.Attention[0]
	}
	if !fuse.Finite(v.logits) {
		return errNotFinite
	}
	if !e.trainedWith(v.image.Evidence) {
		v.flags = append(v.flags, FlagEvidenceUntrained)
	}
	if far := e.metadata.Embedding.DistanceP99; far > 0 && e.metadata.Embedding.Distance(out.Embedding[0]) > far {
		v.flags = append(v.flags, FlagFarFromTraining)
	}
	return nil
}

// trainedWith says whether the training images' views were known by this evidence. The views in data sets' tables were
// taken from ViewPosition.
func (e *Engine) trainedWith(evidence cxr.Evidence) bool {
	has := func(ev cxr.Evidence) bool { return slices.Contains(e.metadata.ViewEvidence, string(ev)) }
	return has(evidence) || evidence == cxr.EvidenceViewPosition && has(cxr.EvidenceTable)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
