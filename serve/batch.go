package serve

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mvmae/mvmae/model/ort"
)

// batcher runs images together, of whatever study, as its policy says.
type batcher struct {
	policy   Policy
	model    runner
	size     int // values of an image
	observer Observer

	mu      sync.Mutex
	changed *sync.Cond
	lanes   lanes         // of *job
	busy    int           // instances that run
	typical time.Duration // that a Run takes
	timer   *time.Timer   // wakes an instance when a job must not wait any longer
	closed  bool

	instances sync.WaitGroup
}

// job is one image that wants to be run.
type job struct {
	ctx            context.Context
	image          []float32
	view           int64
	arrived, began time.Time
	done           chan struct{} // closed when what follows is set
	out            *ort.Output   // of one image
	took           time.Duration
	err            error
}

// newBatcher starts the instances. Each first runs batches of the sizes to warm up with, which CUDA needs: the first Run of a
// size on a thread takes far longer than the next.
func newBatcher(p Policy, model runner, size int, observer Observer, warm ...int) (*batcher, error) {
	b := &batcher{policy: p, model: model, size: size, observer: observer}
	b.changed = sync.NewCond(&b.mu)
	b.timer = time.AfterFunc(time.Hour, func() {
		b.mu.Lock() // whoever set it waits by now
		defer b.mu.Unlock()
		b.changed.Broadcast()
	})
	warmed := make(chan error, p.Instances)
	for range p.Instances {
		b.instances.Go(func() { b.instance(warm, warmed) })
	}
	var err error
	for range p.Instances {
		err = errors.Join(err, <-warmed)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// close ends the instances. Nobody may run anything any more.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.changed.Broadcast()
	b.instances.Wait()
}

// run has one image [size] run and returns what the model says of it. When ctx ends it returns at once; a Run in progress
// ends with the last of those whose images are in it.
func (b *batcher) run(ctx context.Context, image []float32, view int64) (*job, error) {
	j := &job{ctx: ctx, image: image, view: view, arrived: time.Now(), done: make(chan struct{})}
	b.mu.Lock()
	lane := b.lanes.of(ctx)
	place := lane.PushBack(j)
	b.mu.Unlock()
	b.changed.Broadcast()
	select {
	case <-j.done:
		return j, j.err
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	lane.Remove(place) // without effect on one that was taken
	return nil, context.Cause(ctx)
}

// instance does one batch after the other. It keeps its thread: CUDA has a stream and workspaces for each.
func (b *batcher) instance(warm []int, warmed chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	images, free := b.model.Images(b.policy.MaxBatch)
	defer free()
	var err error
	for _, n := range warm {
		if _, err = b.model.Run(context.Background(), images[:n*b.size], make([]int64, n)); err != nil {
			err = fmt.Errorf("warm up with %d images: %w", n, err)
			break
		}
	}
	warmed <- err
	for {
		jobs := b.next()
		if jobs == nil {
			return
		}
		b.execute(jobs, images)
		b.mu.Lock()
		b.busy--
		b.mu.Unlock()
		b.changed.Broadcast()
	}
}

// next waits for a batch, and returns nil after close.
func (b *batcher) next() []*job {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if waiting := b.lanes.len(); waiting > 0 {
			n, again := b.policy.due(waiting, b.busy > 0, time.Now(), b.first())
			if n > 0 {
				b.busy++
				return b.take(n)
			}
			b.timer.Reset(again)
		} else if b.closed {
			b.timer.Stop()
			return nil
		}
		b.changed.Wait()
	}
}

// first is the moment from which one of the jobs must not wait any longer.
func (b *batcher) first() (first time.Time) {
	for _, lane := range []*list.List{&b.lanes.stat, &b.lanes.routine} {
		for place := lane.Front(); place != nil; place = place.Next() {
			j := place.Value.(*job)
			at := j.arrived
			if lane != &b.lanes.stat {
				at = at.Add(b.policy.MaxDelay)
			}
			// A Run may take half as long again as the last one.
			if deadline, ok := j.ctx.Deadline(); ok && deadline.Add(-b.typical*3/2).Before(at) {
				at = deadline.Add(-b.typical * 3 / 2)
			}
			if first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}

func (b *batcher) take(n int) (jobs []*job) {
	for range n {
		lane := b.lanes.first()
		jobs = append(jobs, lane.Remove(lane.Front()).(*job))
	}
	return jobs
}

// execute runs jobs together. If that fails each is run by itself, so that none suffers for another.
func (b *batcher) execute(jobs []*job, images []float32) {
	out, err := b.runAll(jobs, images)
	if err != nil && len(jobs) > 1 {
		for _, j := range jobs {
			if j.ctx.Err() == nil {
				b.execute([]*job{j}, images)
			} else {
				j.err = context.Cause(j.ctx)
				close(j.done)
			}
		}
		return
	}
	for i, j := range jobs {
		if j.err = err; err == nil {
			j.out = out.Row(i)
		}
		close(j.done)
	}
}

func (b *batcher) runAll(jobs []*job, images []float32) (out *ort.Output, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var staying atomic.Int32
	staying.Store(int32(len(jobs)))
	views := make([]int64, len(jobs))
	for i, j := range jobs {
		copy(images[i*b.size:], j.image)
		views[i] = j.view
		defer context.AfterFunc(j.ctx, func() {
			if staying.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	start := time.Now()
	err = guard(func() (err error) {
		out, err = b.model.Run(ctx, images[:len(jobs)*b.size], views)
		return err
	})
	took := time.Since(start)
	for _, j := range jobs {
		j.began, j.took = start, took
	}
	if err == nil {
		b.observer.Batch(len(jobs))
		b.mu.Lock()
		b.typical = took // the last one's size is the likeliest of the next
		b.mu.Unlock()
	}
	return out, err
}

// waiting is how many images wait.
func (b *batcher) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lanes.len()
}
