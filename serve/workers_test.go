package serve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/serve/servetest"
)

func TestWorkers_StatGoesFirstAndOthersInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &workers{}
		var mu sync.Mutex
		var order []string
		wait := func(ctx context.Context, name string) {
			go func() {
				err := w.acquire(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					name += " left"
				}
				order = append(order, name)
			}()
			synctest.Wait()
		}
		leaving, leave := context.WithCancel(t.Context())
		wait(t.Context(), "a")
		wait(leaving, "b")
		wait(Stat(leaving), "c")
		wait(t.Context(), "d")
		wait(Stat(t.Context()), "e")
		wait(Stat(t.Context()), "f")
		leave()
		synctest.Wait()
		slices.Sort(order) // the two leave in any order
		if w.waiting() != 4 {
			t.Errorf("%d wait, want 4", w.waiting())
		}
		for range 5 {
			w.release()
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"b left", "c left", "e", "f", "a", "d"}, order); diff != "" || w.free != 1 {
			t.Errorf("%d free, order (-want +got)\n%s", w.free, diff)
		}
	})
}

func TestWorkers_PlaceOfOneWhoLeftGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &workers{}
		ctx, leave := context.WithCancel(t.Context())
		left, next := make(chan error, 1), make(chan error, 1)
		go func() { left <- w.acquire(ctx) }()
		synctest.Wait()
		go func() { next <- w.acquire(t.Context()) }()
		synctest.Wait()
		// The first has its turn and the end of its context at once: whichever it sees, one place is left for the other.
		w.release()
		leave()
		if err := <-left; err == nil {
			w.release()
		}
		if err := <-next; err != nil || w.free != 0 {
			t.Errorf("the next got %v, %d places are free", err, w.free)
		}
	})
}

// heard is an Observer that counts.
type heard struct {
	mu       sync.Mutex
	stages   map[Stage]int
	batches  []int
	rejected []string
	foreign  int // calls with another request's context
}

type requestKey struct{}

func (h *heard) Stage(ctx context.Context, s Stage, _ time.Time, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Value(requestKey{}) != "mine" || took < 0 {
		h.foreign++
	}
	if h.stages == nil {
		h.stages = map[Stage]int{}
	}
	h.stages[s]++
}

func (h *heard) Batch(images int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batches = append(h.batches, images)
}

func (h *heard) Rejected(code string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rejected = append(h.rejected, code)
}

func TestObserver_HearsOfEachStageOfEachObject(t *testing.T) {
	h := &heard{}
	e := fakeEngine(t, &fakeModel{}, Options{Observe: func(ModelID, string) Observer { return h }})
	ctx := context.WithValue(t.Context(), requestKey{}, "mine")
	broken := Upload{Name: "x", Data: []byte("no")}
	r, err := e.Classify(ctx, Uploads(append(files(t, servetest.Study("1.2", 1)...), broken)...))
	if err != nil {
		t.Fatal(err)
	}
	want := map[Stage]int{StageRead: 1, StageQueue: 5, StageParse: 2, StageDecode: 2, StagePreprocess: 4, StageRun: 2, StageFuse: 1}
	if diff := cmp.Diff(want, h.stages); diff != "" || h.foreign != 0 || !slices.Equal(h.batches, []int{1, 1}) || len(h.rejected) != 1 {
		t.Errorf("batches %v, rejected %v, %d calls that were wrong, stages (-want +got)\n%s", h.batches, h.rejected, h.foreign, diff)
	}
	if r.TimingsMS.Decode < 0 || r.TimingsMS.Parse < 0 {
		t.Errorf("timings %+v", r.TimingsMS)
	}
	h.stages = nil
	failing := fakeEngine(t, &fakeModel{during: func(context.Context) error { return errors.New("out of memory") }}, Options{Observe: func(ModelID, string) Observer { return h }})
	if _, err := failing.Classify(ctx, Uploads(files(t, servetest.Object{})...)); err == nil || h.stages[StageRun] != 0 || h.stages[StageFuse] != 0 {
		t.Errorf("error %v, stages %v", err, h.stages)
	}
}
