package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve/servetest"
)

func TestPolicy_Due(t *testing.T) {
	now := time.Now()
	p := Policy{MaxBatch: 10, Preferred: []int{4, 8}}
	for _, c := range []struct {
		name    string
		waiting int
		busy    bool
		first   time.Duration // from now
		n       int
		again   time.Duration
	}{
		{"an idle device waits for nobody", 1, false, time.Second, 1, 0},
		{"a busy one waits for others", 1, true, time.Second, 0, time.Second},
		{"as long as the first may", 3, true, 0, 3, 0},
		{"and no longer", 3, true, -time.Second, 3, 0},
		{"a preferred size goes at once", 4, true, time.Second, 4, 0},
		{"and takes no more", 7, true, time.Second, 4, 0},
		{"the largest of them", 9, true, -time.Second, 8, 0},
		{"a full batch", 10, true, time.Second, 10, 0},
		{"is never exceeded", 99, false, time.Second, 10, 0},
	} {
		if n, again := p.due(c.waiting, c.busy, now, now.Add(c.first)); n != c.n || again != c.again {
			t.Errorf("%s: run %d, look again after %v; want %d and %v", c.name, n, again, c.n, c.again)
		}
	}
}

func TestPolicy_WhatIsNotSetIsTheDevices(t *testing.T) {
	got := Policy{MaxBatch: 4, Instances: 3}.or(DefaultPolicy(ort.CUDA, 0))
	want := DefaultPolicy(ort.CUDA, 0)
	want.MaxBatch, want.Instances = 4, 3
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if cpu := DefaultPolicy(ort.CPU, 1<<20); cpu.Instances != 1 || cpu.MaxBatch != 1 || cpu.MaxDelay != 0 {
		t.Errorf("CPU: %+v", cpu)
	}
}

// batching is a batcher before a device that does what the test says. Its model gives back each image's first value.
type batching struct {
	*batcher
	*fakeModel
	heard
}

func newBatching(t *testing.T, p Policy, during func(ctx context.Context) error) *batching {
	t.Helper()
	b := &batching{fakeModel: &fakeModel{during: during}}
	var err error
	if b.batcher, err = newBatcher(p, b.fakeModel, 32*32, &b.heard); err != nil {
		t.Fatal(err)
	}
	return b
}

// ask has an image run whose first value is v, and says how the wait ended.
func (b *batching) ask(ctx context.Context, v float32) chan error {
	answer := make(chan error, 1)
	go func() {
		image := make([]float32, 32*32)
		image[0] = v
		j, err := b.batcher.run(ctx, image, 0)
		if err == nil && j.out.Embedding[0][0] != 100*v {
			err = fmt.Errorf("image %g got the answer of %g", v, j.out.Embedding[0][0]/100)
		}
		answer <- err
	}()
	synctest.Wait()
	return answer
}

// Every test below is about time, which is synctest's.
func TestBatcher_GathersWhileTheDeviceIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatching(t, Policy{MaxBatch: 8, MaxDelay: time.Minute, Instances: 1}, func(context.Context) error {
			<-time.After(time.Second)
			return nil
		})
		start := time.Now()
		var answers []chan error
		for i := range 12 {
			answers = append(answers, b.ask(t.Context(), float32(i)))
		}
		for _, a := range answers {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		// One at once, eight when that is done, and the rest when those are: nobody waits on an idle device.
		if !slices.Equal(b.batches, []int{1, 8, 3}) || time.Since(start) != 3*time.Second {
			t.Errorf("batches of %v in %v", b.batches, time.Since(start))
		}
		b.close()
	})
}

func TestBatcher_WaitsNoLongerThanItMay(t *testing.T) {
	for _, c := range []struct {
		name     string
		deadline time.Duration // of the request that waits; 0 is none
		stat     bool
		want     time.Duration
	}{
		{"the delay", 0, false, 10 * time.Second},
		{"a deadline less the time of a run and a half", 5 * time.Second, false, 3500 * time.Millisecond},
		{"a far deadline changes nothing", time.Hour, false, 10 * time.Second},
		{"urgent", 0, true, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var runs atomic.Int32
			b := newBatching(t, Policy{MaxBatch: 8, MaxDelay: 10 * time.Second, Instances: 2}, func(context.Context) error {
				if runs.Add(1) == 2 { // keeps one of the two instances busy
					<-time.After(time.Hour)
				} else {
					<-time.After(time.Second)
				}
				return nil
			})
			first := b.ask(t.Context(), 1) // from it the batcher knows how long a run takes
			if err := <-first; err != nil {
				t.Fatal(err)
			}
			long := b.ask(t.Context(), 2)
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if c.deadline > 0 {
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
			}
			if c.stat {
				ctx = Stat(ctx)
			}
			start := time.Now()
			err := <-b.ask(ctx, 3)
			if took := time.Since(start); err != nil || took != c.want+time.Second {
				t.Errorf("%s: %v after %v, want a wait of %v and a second's run", c.name, err, took, c.want)
			}
			cancel()
			if err := <-long; err != nil {
				t.Error(err)
			}
			b.close()
		})
	}
}

func TestBatcher_StatGoesIntoTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []float32
		var mu sync.Mutex
		b := newBatching(t, Policy{MaxBatch: 2, Instances: 1}, func(context.Context) error {
			<-time.After(time.Second)
			return nil
		})
		var all sync.WaitGroup
		for _, c := range []struct {
			ctx context.Context
			v   float32
		}{{t.Context(), 1}, {t.Context(), 2}, {t.Context(), 3}, {Stat(t.Context()), 4}, {Stat(t.Context()), 5}, {t.Context(), 6}} {
			answer := b.ask(c.ctx, c.v)
			all.Go(func() {
				if err := <-answer; err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, c.v)
			})
		}
		all.Wait()
		slices.Sort(order[1:3]) // of one batch
		slices.Sort(order[3:5])
		if !slices.Equal(order, []float32{1, 4, 5, 2, 3, 6}) {
			t.Errorf("answered in the order %v", order)
		}
		b.close()
	})
}

func TestBatcher_FailureIsOneImagesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		b := newBatching(t, Policy{MaxBatch: 8, Instances: 1}, nil)
		b.fakeModel.during = func(context.Context) error {
			<-time.After(time.Second)
			return nil
		}
		b.fakeModel.refuse = func(images []float32, n int) error {
			sizes = append(sizes, n)
			for i := range n {
				if images[i*32*32] == 3 {
					return errors.New("a number that cannot be")
				}
			}
			return nil
		}
		var answers []chan error
		for i := range 4 {
			answers = append(answers, b.ask(t.Context(), float32(i+1)))
		}
		for i, a := range answers {
			if err := <-a; (err != nil) != (i == 2) {
				t.Errorf("image %d: %v", i+1, err)
			}
		}
		if !slices.Equal(sizes, []int{1, 3, 1, 1, 1}) {
			t.Errorf("runs of %v", sizes)
		}
		b.close()
	})
}

func TestBatcher_WarmUpThatFailsIsTheEnd(t *testing.T) {
	broken := errors.New("out of memory")
	f := &fakeModel{refuse: func(_ []float32, n int) error {
		if n == 8 {
			return broken
		}
		return nil
	}}
	if _, err := newBatcher(Policy{MaxBatch: 8, Instances: 2}, f, 32*32, unobserved{}, 1, 8); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// The policy of CUDA, by ONNX Runtime on the CPU: the same findings as one Run per image, for every study, whoever it shared
// its batches with.
func TestClassify_BatchesChangeNoFinding(t *testing.T) {
	path := modelFile(t, nil)
	open := func(p Policy, o Observer) *Engine {
		e, err := Open(path, Options{Policy: p, Observe: func(ModelID, string) Observer { return o }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e
	}
	h := &heard{}
	alone, together := open(Policy{}, &heard{}), open(Policy{MaxBatch: 8, Preferred: []int{4, 8}, MaxDelay: 50 * time.Millisecond, Instances: 2}, h)
	if alone.batches != nil || together.batches == nil {
		t.Fatal("the policies are not what this test is about")
	}
	const n = 12
	var studies sync.WaitGroup
	for i := range n {
		studies.Go(func() {
			list := files(t, servetest.Study(fmt.Sprint("1.", i), uint64(i))...)
			got, err := together.Classify(t.Context(), Uploads(list...))
			if err != nil {
				t.Error(err)
				return
			}
			want, err := alone.Classify(t.Context(), Uploads(list...))
			if err != nil {
				t.Error(err)
				return
			}
			// float32 sums in another order
			if diff := cmp.Diff(want, got, ignoreTimings, cmpopts.EquateApprox(0, 1e-5)); diff != "" {
				t.Errorf("study %d (-alone +in batches)\n%s", i, diff)
			}
		})
	}
	studies.Wait()
	images := 0
	for _, size := range h.batches {
		images += size
	}
	if images != 2*n || h.stages[StageRun] != 2*n || slices.Max(h.batches) > 8 {
		t.Errorf("batches %v, %d images were run", h.batches, h.stages[StageRun])
	}
}

// The statistics are the model file's own: made so that one picture lies where the training images did, and another does not.
func TestClassify_FarFromTrainingByTheStatisticsOfTheFile(t *testing.T) {
	near, far := servetest.Object{Seed: 1}.Bytes(t), servetest.Object{Seed: 3}.Bytes(t)
	m, err := ort.Open(modelFile(t, nil), ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	read, err := cxr.FromDICOM(near, cxr.Mimic, dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	input := make([]float32, 32*32)
	cxr.Input(read.Stored, 32, input)
	out, err := m.Run(t.Context(), input, []int64{int64(read.View)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(modelFile(t, func(m *model.Metadata) {
		m.Embedding = model.EmbeddingStats{Mean: out.Embedding[0], Std: slices.Repeat([]float32{1e-3}, len(out.Embedding[0])), DistanceP99: 1}
	}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, c := range []struct {
		object []byte
		want   bool
	}{{near, false}, {far, true}} {
		r, err := e.Classify(t.Context(), Uploads(Upload{Name: "a", Data: c.object}))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(r.Views[0].Flags, FlagFarFromTraining); got != c.want {
			t.Errorf("flags %v: want far_from_training %v", r.Views[0].Flags, c.want)
		}
	}
}

// modelFile writes a nano model with random weights, of metadata changed by edit, and returns its path.
func modelFile(t testing.TB, edit func(m *model.Metadata)) string {
	t.Helper()
	libs.ForTests(t)
	spec := exporttest.Spec(t, "nano")
	metadata := exporttest.Metadata(spec)
	metadata.Calibration = []byte(`{"kind":"none"}`)
	if edit != nil {
		edit(&metadata)
	}
	file, err := export.Graph{Attention: metadata.Attention}.Build(metadata, exporttest.Weights(spec))
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
