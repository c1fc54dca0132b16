// Package load makes studies and sends them, for the benchmarks of servers.
package load

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run does n studies with a number of clients, each one after the other, and gives their times in ms.
func Run(ctx context.Context, clients, n int, study func(context.Context) error) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	todo := make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	times := make([]float64, n)
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			for i := range todo {
				start := time.Now()
				if err := study(ctx); err != nil {
					return err
				}
				times[i] = float64(time.Since(start).Microseconds()) / 1000
			}
			return nil
		})
	}
	return times, group.Wait()
}
