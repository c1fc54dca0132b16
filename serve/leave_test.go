package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve/servetest"
)

// A caller that has gone costs nothing any more, wherever its study is: in the tests of this file.

func TestHTTP_CallerThatLeavesStopsItsRun(t *testing.T) {
	object := servetest.Object{}.Bytes(t)
	form, formBody := formOf(t, []Upload{{Name: "a", Data: object}})
	for contentType, body := range map[string][]byte{"application/dicom": object, form: formBody} {
		synctest.Test(t, func(t *testing.T) {
			f, proceed := blocking()
			s := readyServer(t, f, ServerOptions{})
			network, stop, stopped := running(t, s)
			ctx, leave := context.WithCancel(t.Context())
			answered := make(chan error, 1)
			go func() { answered <- network.ask(ctx, contentType, body) }()
			synctest.Wait()
			if f.running != 1 {
				t.Fatalf("%s: %d views run", contentType, f.running)
			}
			leave()
			synctest.Wait()
			if f.running != 0 || len(s.house) != 0 {
				t.Errorf("%s: %d views run for nobody, %d studies are in the house", contentType, f.running, len(s.house))
			}
			if err := <-answered; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the caller got %v", contentType, err)
			}
			close(proceed) // a run that went on may end now
			stop()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// A caller that leaves while its study waits for a core leaves the line. Where its body is not wholly read the server cannot know before
// it reads on: it parses the object at hand, and no more.
func TestHTTP_CallerThatLeavesLeavesTheLine(t *testing.T) {
	form, body := formOf(t, files(t, servetest.Study("1.2", 1)...))
	synctest.Test(t, func(t *testing.T) {
		f := &fakeModel{}
		s := readyServer(t, f, ServerOptions{})
		e := fakeEngine(t, f, Options{Workers: 1})
		ready(s, e)
		if err := e.workers.acquire(t.Context()); err != nil { // somebody else's study has the core
			t.Error(err)
		}
		network, stop, stopped := running(t, s)
		ctx, leave := context.WithCancel(t.Context())
		answered := make(chan error, 1)
		go func() { answered <- network.ask(ctx, typeDICOM, servetest.Object{}.Bytes(t)) }()
		go func() { answered <- network.ask(ctx, form, body) }()
		synctest.Wait()
		if e.Waiting() != 2 || len(s.house) != 2 {
			t.Fatalf("%d objects wait, %d studies are in the house", e.Waiting(), len(s.house))
		}
		leave()
		for range 2 {
			if err := <-answered; !errors.Is(err, context.Canceled) {
				t.Errorf("the caller got %v", err)
			}
		}
		synctest.Wait()
		if e.Waiting() != 1 || len(s.house) != 1 {
			t.Errorf("%d objects wait, %d studies are in the house: one whose end was not read", e.Waiting(), len(s.house))
		}
		e.workers.release()
		synctest.Wait()
		if e.Waiting() != 0 || len(s.house) != 0 || f.runs != 0 {
			t.Errorf("%d objects wait for nobody, %d studies are in the house, %d views were run", e.Waiting(), len(s.house), f.runs)
		}
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// The decoder is a program that says that it has begun, and never ends.
func TestClassify_DecoderEndsWithItsCaller(t *testing.T) {
	dir := t.TempDir()
	begun, program := filepath.Join(dir, "begun"), filepath.Join(dir, "silent")
	if err := syscall.Mkfifo(begun, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\necho $$ > %s\nexec sleep 100000\n", begun), 0o755); err != nil {
		t.Fatal(err)
	}
	pool := external.NewPool(external.Options{Program: program, Timeout: time.Hour})
	defer pool.Close()
	e := fakeEngine(t, &fakeModel{}, Options{Workers: 1, Codecs: pool})
	ctx, leave := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	list := files(t, servetest.Object{Syntax: dicom.JPEGLSLossless})
	go func() {
		_, err := e.Classify(ctx, Uploads(list...))
		answered <- err
	}()
	text, err := os.ReadFile(begun) // waits for the program to write
	var pid int
	if _, scan := fmt.Sscan(string(text), &pid); err != nil || scan != nil {
		t.Fatal(err, scan)
	}
	leave()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the decoder is still there: %v", err)
	}
	if e.workers.free != 1 {
		t.Error("the worker is still held")
	}
}

// Nobody hears of an image of a failed batch whose caller has gone; should somebody ask, there is no answer without an error.
func TestBatcher_NoAnswerWithoutAnError(t *testing.T) {
	f := &fakeModel{refuse: func([]float32, int) error { return errors.New("no luck") }}
	b := &batcher{policy: Policy{MaxBatch: 8}, model: f, size: 32 * 32, observer: unobserved{}}
	gone, leave := context.WithCancel(t.Context())
	leave()
	jobs := []*job{
		{ctx: gone, image: make([]float32, b.size), done: make(chan struct{})}, {ctx: t.Context(), image: make([]float32, b.size), done: make(chan struct{})},
	}
	b.execute(jobs, make([]float32, 8*b.size))
	for i, j := range jobs {
		<-j.done
		if j.err == nil {
			t.Errorf("image %d: output %v and no error", i, j.out)
		}
	}
}

func TestClassify_CancelStopsAtOnce(t *testing.T) {
	gone := errors.New("caller left")
	list := files(t, servetest.Study("1.2", 1)...)
	for _, when := range []string{"while reading", "during a run", "between runs"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		f := &fakeModel{during: func(ctx context.Context) error {
			cancel(gone)
			if when == "between runs" {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}}
		e := fakeEngine(t, f, Options{Workers: 1})
		_, err := e.Classify(ctx, func(yield func(Upload, error) bool) {
			if when == "while reading" {
				cancel(gone)
			}
			Uploads(list...)(yield)
		})
		if !errors.Is(err, gone) || f.runs > 1 {
			t.Errorf("%s: error %v after %d runs", when, err, f.runs)
		}
		if held := e.cores - e.workers.free; held != 0 {
			t.Errorf("%s: %d workers are still held", when, held)
		}
	}
}

func TestBatcher_WhoLeavesCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{}, 10)
		proceed := make(chan struct{})
		b := newBatching(t, Policy{MaxBatch: 8, Instances: 1}, func(ctx context.Context) error {
			select {
			case <-proceed:
				return nil
			case <-ctx.Done():
				ended <- struct{}{}
				return context.Cause(ctx)
			}
		})
		one, leaveOne := context.WithCancel(t.Context())
		two, leaveTwo := context.WithCancel(t.Context())
		alone := b.ask(one, 1)                        // runs
		first, second := b.ask(one, 2), b.ask(two, 3) // wait
		leaveOne()                                    // its run ends, and the other study's begins
		if err := <-alone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if len(ended) != 1 || b.running != 1 || b.waiting() != 0 {
			t.Errorf("%d runs were ended, %d run, %d wait", len(ended), b.running, b.waiting())
		}
		third := b.ask(t.Context(), 4)
		leaveTwo()
		synctest.Wait()
		close(proceed)
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := <-third; err != nil {
			t.Error(err)
		}
		b.close()
	})
}

// A study's departure leaves the others of its batch alone.
func TestBatcher_RunGoesOnForThoseWhoStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		b := newBatching(t, Policy{MaxBatch: 8, Instances: 1}, func(ctx context.Context) error {
			runs.Add(1)
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		ctx, leave := context.WithCancel(t.Context())
		before := b.ask(t.Context(), 1)
		leaving, staying := b.ask(ctx, 2), b.ask(t.Context(), 3)
		if err := <-before; err != nil {
			t.Error(err)
		}
		synctest.Wait() // the two run
		leave()
		if err := <-leaving; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := <-staying; err != nil || runs.Load() != 2 {
			t.Errorf("%v after %d runs", err, runs.Load())
		}
		b.close()
	})
}

// runningModel is a model that ends its request as soon as a Run of it has begun.
type runningModel struct {
	*ort.Model
	leave context.CancelFunc
}

func (m runningModel) Run(ctx context.Context, images []float32, views []int64) (*ort.Output, error) {
	if views[0] == 0 {
		return m.Model.Run(ctx, images, views)
	}
	return m.Model.Run(begun{ctx, m.leave}, images, views)
}

// begun is a context that calls f when a Run begins to watch it, which is after it has looked whether it has ended already.
type begun struct {
	context.Context
	f func()
}

// AfterFunc is what context.AfterFunc calls of a context that is not of its own making.
func (b begun) AfterFunc(f func()) (stop func() bool) {
	b.f()
	return context.AfterFunc(b.Context, f)
}

// Value hides that there is a context of its own making inside.
func (b begun) Value(any) any { return nil }

// The model never comes to an end with a lateral view, unless ONNX Runtime is told to stop.
func TestClassify_RunInProgressEndsWithItsCaller(t *testing.T) {
	libs.ForTests(t)
	spec := exporttest.Spec(t, "nano")
	metadata := exporttest.Metadata(spec)
	metadata.Calibration = []byte(`{"kind":"none"}`)
	graph, err := export.Build(metadata, exporttest.Weights(spec))
	if err != nil {
		t.Fatal(err)
	}
	exporttest.Endless(graph)
	data, err := proto.Marshal(graph)
	if err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]Policy{"one image a Run": {}, "in batches": {MaxBatch: 4, Instances: 1}} {
		m, err := ort.OpenBytes("endless.onnx", data, ort.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		e, err := newEngine(runningModel{m, leave}, metadata, "0123", Options{Policy: policy, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Classify(ctx, Uploads(files(t, servetest.Object{View: "LL"})...)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", name, err)
		}
		// The only worker, or instance, is free again.
		if _, err := e.Classify(t.Context(), Uploads(files(t, servetest.Object{View: "PA"})...)); err != nil {
			t.Errorf("%s: the next study: %v", name, err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestClassifyAll_EndsWithItsCaller(t *testing.T) {
	gone := errors.New("caller left")
	ctx, cancel := context.WithCancelCause(t.Context())
	e := fakeEngine(t, &fakeModel{during: func(context.Context) error { cancel(gone); return nil }}, Options{Workers: 1})
	_, _, err := e.ClassifyAll(ctx, Uploads(files(t, servetest.Object{Study: "1.2"}, servetest.Object{Study: "1.3"})...))
	if !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
}
