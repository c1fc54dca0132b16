package queue

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkTask is a task through the queue inside the process: published by eight, each synced to disk, and done by eight.
func BenchmarkTask(b *testing.B) {
	q, err := Open(b.Context(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	const many = 400 // a round
	for b.Loop() {
		b.StopTimer()
		run := fmt.Sprint(b.Elapsed().Nanoseconds())
		b.StartTimer()
		var publishing sync.WaitGroup
		for p := range 8 {
			publishing.Go(func() {
				for i := range many / 8 {
					if err := q.Publish(b.Context(), Task{Kind: "classify", Study: "1.2", Version: fmt.Sprintf("%s-%d-%d", run, p, i)}, false); err != nil {
						b.Error(err)
					}
				}
			})
		}
		publishing.Wait()
		ctx, stop := context.WithCancel(b.Context())
		var done atomic.Int32
		if err := q.Work(ctx, "classify", 8, func(context.Context, Task) error {
			if done.Add(1) == many {
				stop()
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
		stop()
	}
	b.ReportMetric(many*float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
