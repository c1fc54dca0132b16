package serve

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve/servetest"
)

// fakeModel stands in for ONNX Runtime where a test is about queues, limits and order: its logits depend on picture and
// view, and what happens during a Run is the test's to say.
type fakeModel struct {
	during func(ctx context.Context) error
	refuse func(images []float32, n int) error // of each Run's input
	add    float32                             // to the first logit
	attend bool                                // has the output attention

	mu            sync.Mutex
	running, most int
	runs          int
	closed        bool
}

func (f *fakeModel) Run(ctx context.Context, images []float32, views []int64) (*ort.Output, error) {
	f.mu.Lock()
	f.runs++
	f.running++
	f.most = max(f.most, f.running)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.running--
		f.mu.Unlock()
	}()
	if f.during != nil {
		if err := f.during(ctx); err != nil {
			return nil, err
		}
	}
	n := len(views)
	if f.refuse != nil {
		if err := f.refuse(images, n); err != nil {
			return nil, err
		}
	}
	out := &ort.Output{Logits: make([][model.NumLabels]float32, n), Probability: make([][model.NumLabels]float32, n)}
	for row, image := range slices.Collect(slices.Chunk(images, len(images)/n)) {
		for i, v := range image {
			out.Logits[row][i%model.NumLabels] += (v - 0.5) * float32(i%5)
		}
		out.Logits[row][0] += float32(views[row]) + f.add
		out.Embedding = append(out.Embedding, make([]float32, 32))
		out.Embedding[row][0] = image[0] * 100
		if f.attend {
			out.Attention = append(out.Attention, make([]float32, 16)) // the nano preset's 4x4 patches
			for i := range out.Attention[row] {
				out.Attention[row][i] = float32(i)
			}
		}
	}
	return out, nil
}

func (f *fakeModel) Device() string { return ort.CPU }

func (f *fakeModel) Images(n int) ([]float32, func()) { return make([]float32, n*32*32), func() {} }

func (f *fakeModel) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func fakeMetadata(t testing.TB) model.Metadata {
	t.Helper()
	spec, err := model.Preset("nano")
	if err != nil {
		t.Fatal(err)
	}
	m := model.Metadata{
		FormatVersion: 1, Name: "fake", Version: "7", Spec: spec, Labels: model.Labels[:], Preprocessing: "mimic",
		Fusion: "mean_probability", Thresholds: make([]float64, model.NumLabels), Calibration: json.RawMessage(`{"kind":"none"}`),
		ViewEvidence: []string{string(cxr.EvidenceViewPosition)},
		Embedding:    model.EmbeddingStats{Mean: make([]float32, spec.Width), Std: slices.Repeat([]float32{1}, spec.Width)},
	}
	for i := range m.Thresholds {
		m.Thresholds[i] = 0.5
	}
	return m
}

func fakeEngine(t testing.TB, f *fakeModel, opts Options) *Engine {
	t.Helper()
	meta := fakeMetadata(t)
	meta.Attention = f.attend
	e, err := newEngine(f, meta, "0123", opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The correction is of the fused probability and of the number of views: a view by itself gets that of one view.
func TestClassify_CalibratesAsTheFileSays(t *testing.T) {
	c := fuse.Calibration{Kind: fuse.Platt, ByViews: make([]fuse.Correction, 2)}
	for l := range model.NumLabels {
		c.ByViews[0].Scale[l], c.ByViews[0].Shift[l] = 0.5, 1
		c.ByViews[1].Scale[l], c.ByViews[1].Shift[l] = 2, -1
	}
	doc, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	meta := fakeMetadata(t)
	answers := map[string]*Result{}
	for _, calibration := range []string{`{"kind":"none"}`, string(doc)} {
		meta.Calibration = json.RawMessage(calibration)
		e, err := newEngine(&fakeModel{}, meta, "0123", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if answers[calibration], err = e.Classify(t.Context(), Uploads(files(t, servetest.Study("1.2", 1)...)...)); err != nil {
			t.Fatal(err)
		}
	}
	plain, corrected := answers[`{"kind":"none"}`], answers[string(doc)]
	for l, name := range model.Labels {
		for what, pair := range map[string][2]float32{
			"study": {c.Apply(only(l, plain.Probabilities[name]), 2)[l], corrected.Probabilities[name]},
			"view":  {c.Apply(only(l, plain.Views[0].Probabilities[name]), 1)[l], corrected.Views[0].Probabilities[name]},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s, %s: %g, want %g", what, name, pair[1], pair[0])
			}
		}
		if f := corrected.Findings[l]; f.Probability != corrected.Probabilities[name] {
			t.Errorf("finding %+v: want %g", f, corrected.Probabilities[name])
		}
	}
}

// only is a vector with one number.
func only(l int, p float32) (v [model.NumLabels]float32) {
	v[l] = p
	return v
}

func files(t testing.TB, objects ...servetest.Object) []Upload {
	t.Helper()
	var list []Upload
	for i, o := range objects {
		list = append(list, Upload{Name: string(rune('a'+i)) + ".dcm", Data: o.Bytes(t)})
	}
	return list
}

var ignoreTimings = cmpopts.IgnoreFields(Result{}, "TimingsMS")

func codes(list []Rejection) []string {
	var c []string
	for _, r := range list {
		c = append(c, r.Name+" "+r.Code)
	}
	return c
}

func TestClassify_OrderOfFilesChangesNothing(t *testing.T) {
	e := fakeEngine(t, &fakeModel{}, Options{})
	list := files(t, append(servetest.Study("1.2.3", 1),
		servetest.Object{SOP: "1.2.3.3", Seed: 9}, servetest.Object{SOP: "1.2.3.1", Seed: 5}, servetest.Object{Modality: "CT"})...)
	list = append(list, Upload{Name: "z", Data: []byte("no")}, Upload{Name: "again", Data: list[0].Data})
	first, err := e.Classify(t.Context(), Uploads(list...))
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Views) != 4 || len(first.Rejected) != 3 {
		t.Fatalf("%d views and rejected %v", len(first.Views), first.Rejected)
	}
	slices.Reverse(list)
	second, err := e.Classify(t.Context(), Uploads(list...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second, ignoreTimings); diff != "" {
		t.Errorf("the reversed order gives another answer:\n%s", diff)
	}
}

func TestClassify_ResultIsWhole(t *testing.T) {
	e := fakeEngine(t, &fakeModel{}, Options{})
	e.metadata.Embedding.Std[0], e.metadata.Embedding.DistanceP99 = 1e-3, 1
	r, err := e.Classify(t.Context(), Uploads(files(t,
		servetest.Object{SOP: "1.1", View: "-", Seed: 3}, servetest.Object{SOP: "1.2", View: "LL", Seed: 4})...))
	if err != nil {
		t.Fatal(err)
	}
	if r.StudyInstanceUID != "1.2.3" || r.Model != (ModelID{Name: "fake", Version: "7", SHA256: "0123"}) {
		t.Errorf("study %s, model %v", r.StudyInstanceUID, r.Model)
	}
	for i, f := range r.Findings {
		mean := (r.Views[0].Probabilities[f.Label] + r.Views[1].Probabilities[f.Label]) / 2
		// The mean is taken in float64 of unrounded values.
		if f.Label != model.Labels[i] || math.Abs(float64(f.Probability-mean)) > 1e-7 || f.Probability != r.Probabilities[f.Label] ||
			f.Threshold != 0.5 || f.Positive != (f.Probability >= 0.5) {
			t.Errorf("finding %+v: views say %v, probabilities %v", f, mean, r.Probabilities[f.Label])
		}
	}
	var got []View
	for _, v := range r.Views {
		v.Probabilities, v.ChangeWithout = nil, nil // which have tests of their own
		got = append(got, v)
	}
	want := []View{
		{SOPInstanceUID: "1.1", View: "unknown", Evidence: "none", Flags: []string{cxr.FlagTiny, FlagEvidenceUntrained, FlagFarFromTraining}},
		{SOPInstanceUID: "1.2", View: "lateral", Evidence: "view_position", Flags: []string{cxr.FlagTiny, FlagFarFromTraining}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("views (-want +got)\n%s", diff)
	}
}

func TestClassify_TableEvidenceCoversViewPosition(t *testing.T) {
	e := fakeEngine(t, &fakeModel{}, Options{})
	for _, c := range []struct {
		trained  []string
		evidence cxr.Evidence
		want     bool
	}{
		{[]string{"table"}, cxr.EvidenceViewPosition, true},
		{[]string{"table"}, cxr.EvidenceViewCode, false},
		{[]string{"view_code"}, cxr.EvidenceViewPosition, false},
		{nil, cxr.EvidenceNone, false},
	} {
		e.metadata.ViewEvidence = c.trained
		if got := e.trainedWith(c.evidence); got != c.want {
			t.Errorf("trained with %v, view known by %s: %v, want %v", c.trained, c.evidence, got, c.want)
		}
	}
}

func TestClassify_Refusals(t *testing.T) {
	good := servetest.Object{}
	whole := good.Bytes(t)
	for _, c := range []struct {
		name     string
		uploads  []Upload
		code     string // of the problem; "" when the study is answered
		rejected []string
		detail   string // part of the problem's
	}{
		{"nothing", nil, "no_usable_view", nil, "no object"},
		{"not DICOM", []Upload{{Name: "x", Data: []byte("hello")}}, "no_usable_view", []string{"x not_dicom"}, "objects rejected: 1"},
		{"empty", []Upload{{Name: "x"}}, "no_usable_view", []string{"x not_dicom"}, "objects rejected: 1"},
		{"truncated", []Upload{{Name: "x", Data: whole[:len(whole)-100]}}, "no_usable_view", []string{"x truncated"}, ""},
		{"MPEG-2", files(t, servetest.Object{Syntax: "1.2.840.10008.1.2.4.100"}), "no_usable_view", []string{"a.dcm unsupported_transfer_syntax"}, ""},
		{"CT", files(t, servetest.Object{Modality: "CT"}), "no_usable_view", []string{"a.dcm wrong_modality"}, ""},
		{"knee", files(t, servetest.Object{BodyPart: "KNEE"}), "no_usable_view", []string{"a.dcm not_chest"}, ""},
		{"no study UID", files(t, servetest.Object{Study: "-"}), "no_usable_view", []string{"a.dcm no_study_instance_uid"}, ""},
		{"unreadable", []Upload{{Name: "x", Err: errors.New("disk on fire")}}, "no_usable_view", []string{"x unreadable"}, ""},
		{"one bad among good", append(files(t, good, servetest.Object{Modality: "CT"}), Upload{Name: "x"}), "",
			[]string{"b.dcm wrong_modality", "x not_dicom"}, ""},
		{"same object in two syntaxes", files(t, good, servetest.Object{Syntax: dicom.ImplicitVRLittleEndian}), "", []string{"b.dcm duplicate"}, ""},
		{"two studies", files(t, good, servetest.Object{Study: "9.9"}, servetest.Object{Study: "9.9", SOP: "9"}), "two_studies", nil,
			"1 of " + HashUID("1.2.3") + ", 2 of " + HashUID("9.9")},
		{"two patients", files(t, servetest.Object{Patient: "A"}, servetest.Object{SOP: "2", Patient: "B"}, servetest.Object{SOP: "3"}),
			"two_patients", nil, "study " + HashUID("1.2.3")},
	} {
		model := &fakeModel{}
		r, err := fakeEngine(t, model, Options{}).Classify(t.Context(), Uploads(c.uploads...))
		if c.code == "" {
			if err != nil || !slices.Equal(codes(r.Rejected), c.rejected) || len(r.Views) != 1 {
				t.Errorf("%s: %+v, %v", c.name, r, err)
			}
			continue
		}
		var p *Problem
		if !errors.As(err, &p) {
			t.Errorf("%s: result %v, error %v", c.name, r, err)
			continue
		}
		if p.Status != 422 || p.Code != c.code || !slices.Equal(codes(p.Rejected), c.rejected) || !strings.Contains(p.Detail, c.detail) || p.Cure == "" {
			t.Errorf("%s: %+v", c.name, p)
		}
		if strings.Contains(p.Detail, "1.2.3") || strings.Contains(p.Detail, "9.9") {
			t.Errorf("%s: the detail %q holds a UID", c.name, p.Detail)
		}
		if model.runs != 0 {
			t.Errorf("%s: %d views were classified", c.name, model.runs)
		}
	}
}

func TestClassify_SameUIDOtherPictureOrViewIsFlagged(t *testing.T) {
	r, err := fakeEngine(t, &fakeModel{}, Options{}).Classify(t.Context(), Uploads(files(t,
		servetest.Object{Seed: 1}, servetest.Object{Seed: 2}, servetest.Object{Seed: 1, View: "LL"}, servetest.Object{SOP: "1.2.3.2", Seed: 3})...))
	if err != nil {
		t.Fatal(err)
	}
	var flags [][]string
	for _, v := range r.Views {
		flags = append(flags, v.Flags)
	}
	if diff := cmp.Diff([][]string{{cxr.FlagTiny, FlagSharedUID}, {cxr.FlagTiny, FlagSharedUID}, {cxr.FlagTiny, FlagSharedUID}, {cxr.FlagTiny}}, flags); diff != "" {
		t.Errorf("flags (-want +got)\n%s", diff)
	}
}

func TestClassify_LateralOnlyIsAFlagOfTheStudy(t *testing.T) {
	for name, c := range map[string]struct {
		objects []servetest.Object
		want    []string
	}{
		"a lateral":                {[]servetest.Object{{View: "LL", Seed: 1}}, []string{FlagLateralOnly}},
		"two laterals":             {[]servetest.Object{{View: "LL", Seed: 1}, {SOP: "1.2.3.2", View: "RL", Seed: 2}}, []string{FlagLateralOnly}},
		"a frontal and a lateral":  {[]servetest.Object{{View: "PA", Seed: 1}, {SOP: "1.2.3.2", View: "LL", Seed: 2}}, []string{}},
		"a lateral and an oblique": {[]servetest.Object{{View: "LL", Seed: 1}, {SOP: "1.2.3.2", View: "RAO", Seed: 2}}, []string{}},
	} {
		r, err := fakeEngine(t, &fakeModel{}, Options{}).Classify(t.Context(), Uploads(files(t, c.objects...)...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, r.Flags); diff != "" {
			t.Errorf("%s: flags of the study (-want +got)\n%s", name, diff)
		}
	}
}

func TestClassifyAll_AnswersEachStudy(t *testing.T) {
	e := fakeEngine(t, &fakeModel{}, Options{})
	objects := append(servetest.Study("1.3", 1), servetest.Study("1.2", 5)...)
	objects = append(objects, servetest.Object{Study: "1.4", SOP: "7", Patient: "A"}, servetest.Object{Study: "1.4", SOP: "8", Patient: "B"},
		servetest.Object{Modality: "CT"})
	results, rejected, err := e.ClassifyAll(t.Context(), Uploads(files(t, objects...)...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"e.dcm two_patients", "f.dcm two_patients", "g.dcm wrong_modality"}, codes(rejected)); diff != "" {
		t.Errorf("rejected (-want +got)\n%s", diff)
	}
	if len(results) != 2 || results[0].StudyInstanceUID != "1.2" || results[1].StudyInstanceUID != "1.3" {
		t.Fatalf("results %+v", results)
	}
	alone, err := e.Classify(t.Context(), Uploads(files(t, servetest.Study("1.3", 1)...)...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(alone, results[1], ignoreTimings); diff != "" {
		t.Errorf("a study among others gets another answer:\n%s", diff)
	}
}

func TestClassifyAll_OneFailureLeavesTheOthersAlone(t *testing.T) {
	var runs atomic.Int32
	e := fakeEngine(t, &fakeModel{during: func(context.Context) error {
		if runs.Add(1) == 1 {
			return errors.New("out of memory")
		}
		return nil
	}}, Options{Workers: 1})
	results, rejected, err := e.ClassifyAll(t.Context(), Uploads(files(t,
		servetest.Object{Study: "1.2"}, servetest.Object{Study: "1.3"}, servetest.Object{Study: "1.4"})...))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 2 || len(rejected) != 1 || rejected[0].Code != CodeInternal || rejected[0].Detail != "run the model: out of memory" {
		t.Errorf("%d results, rejected %v", len(results), rejected)
	}
}

func TestClose_WaitsForTheStudiesInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, proceed := blocking()
		e := fakeEngine(t, f, Options{})
		answered, closed := make(chan error, 1), make(chan error, 1)
		list := files(t, servetest.Study("1.2", 1)...)
		go func() {
			_, err := e.Classify(t.Context(), Uploads(list...))
			answered <- err
		}()
		synctest.Wait()
		go func() { closed <- e.Close() }()
		synctest.Wait()
		if len(closed) != 0 || f.closed {
			t.Error("the model was closed under a study")
		}
		if _, err := e.Classify(t.Context(), Uploads(list...)); !errors.Is(err, ort.ErrClosed) {
			t.Errorf("a study after Close: %v", err)
		}
		if _, _, err := e.ClassifyAll(t.Context(), Uploads(list...)); !errors.Is(err, ort.ErrClosed) {
			t.Errorf("studies after Close: %v", err)
		}
		close(proceed)
		if err := errors.Join(<-answered, <-closed); err != nil || !f.closed {
			t.Errorf("%v, model closed %v", err, f.closed)
		}
	})
}

func TestClassify_WorkersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		f := &fakeModel{during: func(context.Context) error { <-proceed; return nil }}
		e := fakeEngine(t, f, Options{Workers: 3})
		var studies sync.WaitGroup
		for i := range 5 {
			list := files(t, servetest.Study("1.2", uint64(10*i))...)
			studies.Go(func() {
				if _, err := e.Classify(t.Context(), Uploads(list...)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if f.running != 3 {
			t.Errorf("%d views run at a time, want 3", f.running)
		}
		close(proceed)
		studies.Wait()
		if f.most != 3 || f.runs != 10 {
			t.Errorf("at most %d views ran at a time, %d in all; want 3 and 10", f.most, f.runs)
		}
	})
}

// While all workers are busy a request holds one file and asks for no more.
func TestClassify_ReadsNoFurtherThanItCanParse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fakeEngine(t, &fakeModel{}, Options{Workers: 1})
		if err := e.workers.acquire(t.Context()); err != nil { // somebody else's study
			t.Error(err)
		}
		list := files(t, servetest.Study("1.2", 1)...)
		taken := 0
		go func() {
			if _, err := e.Classify(t.Context(), func(yield func(Upload, error) bool) {
				for _, f := range list {
					taken++
					if !yield(f, nil) {
						return
					}
				}
			}); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if taken != 1 {
			t.Errorf("%d files were taken while no worker was free, want 1", taken)
		}
		e.workers.release()
		synctest.Wait()
		if taken != 2 {
			t.Errorf("%d files were taken in all, want 2", taken)
		}
	})
}

func TestClassify_FailureOfTheModelIsAnError(t *testing.T) {
	for name, c := range map[string]*struct {
		model fakeModel
		want  string
	}{
		"panic":    {fakeModel{during: func(context.Context) error { panic("PATIENT DOE") }}, "panic: string"},
		"error":    {fakeModel{during: func(context.Context) error { return errors.New("out of memory") }}, "run the model: out of memory"},
		"overflow": {fakeModel{add: float32(math.Inf(1))}, "run the model: it gave a logit that is not a finite number"},
	} {
		e := fakeEngine(t, &c.model, Options{})
		_, err := e.Classify(t.Context(), Uploads(files(t, servetest.Object{})...))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}
