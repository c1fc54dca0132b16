package queue

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, dir string) *Queue {
	t.Helper()
	q, err := Open(t.Context(), Options{Dir: dir, AckWait: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

func publish(t *testing.T, q *Queue, task Task, again bool) {
	t.Helper()
	if err := q.Publish(t.Context(), task, again); err != nil {
		t.Fatal(err)
	}
}

func waiting(t *testing.T, q *Queue, want uint64) {
	t.Helper()
	if n, err := q.Waiting(t.Context()); n != want || err != nil {
		t.Errorf("%d tasks wait, want %d, %v", n, want, err)
	}
}

// work does tasks until do says so, and returns when all workers have.
func work(t *testing.T, q *Queue, kind string, do func(stop func(), task Task) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := q.Work(ctx, kind, 2, func(_ context.Context, task Task) error { return do(stop, task) }); err != nil {
		t.Fatal(err)
	}
}

func TestQueue_EachTaskOnce(t *testing.T) {
	q := open(t, t.TempDir())
	one, other := Task{Kind: "classify", Study: "1.2", Version: "aa"}, Task{Kind: "deliver", Study: "1.2", Version: "aa"}
	publish(t, q, one, false)
	publish(t, q, one, false)
	publish(t, q, one, true) // it is still there
	publish(t, q, other, false)
	waiting(t, q, 2)
	work(t, q, "classify", func(stop func(), task Task) error {
		stop()
		if diff := cmp.Diff(one, task); diff != "" {
			t.Errorf("task (-published +taken)\n%s", diff)
		}
		return nil
	})
	waiting(t, q, 1)
	publish(t, q, one, false) // done a moment ago
	waiting(t, q, 1)
	publish(t, q, one, true)
	waiting(t, q, 2)
}

func TestWork_HandsOutAgainWhatFailed(t *testing.T) {
	q := open(t, t.TempDir())
	publish(t, q, Task{Kind: "classify", Study: "1.2", Version: "aa"}, false)
	var tries atomic.Int32
	work(t, q, "classify", func(stop func(), _ Task) error {
		if tries.Add(1) == 1 {
			return errors.New("no luck")
		}
		stop()
		return nil
	})
	if tries.Load() != 2 {
		t.Errorf("%d tries, want 2", tries.Load())
	}
	waiting(t, q, 0)
}

func TestWork_HeartbeatsKeepLongWorkHere(t *testing.T) {
	q := open(t, t.TempDir())
	publish(t, q, Task{Kind: "classify", Study: "1.2", Version: "aa"}, false)
	publish(t, q, Task{Kind: "classify", Study: "1.2", Version: "bb"}, false)
	var tries atomic.Int32
	later := make(chan struct{})
	work(t, q, "classify", func(stop func(), task Task) error {
		tries.Add(1)
		if task.Version == "aa" {
			<-later
			stop()
			return nil
		}
		// Two heartbeats of the other task later it has outlived AckWait, and nobody else was given it.
		go func() {
			defer close(later)
			for range 4 {
				pause(t.Context(), q.opts.AckWait/3)
			}
		}()
		return nil
	})
	if tries.Load() != 2 {
		t.Errorf("%d tasks handed out, want 2", tries.Load())
	}
	waiting(t, q, 0)
}

// Had the urgent task stood in line, both workers would wait for it for ever.
func TestWork_UrgentTasksDoNotStandInLine(t *testing.T) {
	q := open(t, t.TempDir())
	for _, version := range []string{"a", "b", "c", "d"} {
		publish(t, q, Task{Kind: "classify", Study: "1.2", Version: version}, false)
	}
	publish(t, q, Task{Kind: "classify", Study: "1.2", Version: "d", Stat: true}, false) // it has become urgent
	waiting(t, q, 5)
	var done atomic.Int32
	urgent := make(chan struct{})
	work(t, q, "classify", func(stop func(), task Task) error {
		if task.Stat {
			close(urgent)
		} else {
			<-urgent
		}
		if done.Add(1) == 5 {
			stop()
		}
		return nil
	})
	waiting(t, q, 0)
}

func TestQueue_SurvivesItsProcess(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	publish(t, q, Task{Kind: "classify", Study: "1.2", Version: "aa"}, false)
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second server in the same folder: %v", err)
	}
	q.Close()
	q = open(t, dir)
	waiting(t, q, 1)
	work(t, q, "classify", func(stop func(), task Task) error { stop(); return nil })
	waiting(t, q, 0)
}

func TestQueue_Announces(t *testing.T) {
	q := open(t, t.TempDir())
	heard := make(chan string, 1)
	if err := q.Listen(func(m []byte) { heard <- string(m) }); err != nil {
		t.Fatal(err)
	}
	if err := q.Announce([]byte("done")); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "done" {
		t.Errorf("heard %q", got)
	}
}
