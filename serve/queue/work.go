package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// The pauses after which a task that failed is tried again: the first, and the longest.
const (
	firstPause = time.Second
	maxPause   = 10 * time.Minute
)

// askAgain is how long a worker waits when the queue cannot be asked.
const askAgain = 500 * time.Millisecond

// Work takes tasks of a kind until ctx ends, n of the urgent ones and n of the others at a time, so that an urgent one waits for
// urgent ones alone; what was begun is done to its end. do is given a context that outlives ctx. A task is finished when do returns nil; after an error it is handed out again, to whoever has room for it,
// after a pause that grows. A task may be handed out twice, so do must bear that.
func (q *Queue) Work(ctx context.Context, kind string, n int, do func(ctx context.Context, t Task) error) error {
	var lanes errgroup.Group
	for _, stat := range []bool{true, false} {
		lanes.Go(func() error { return q.work(ctx, Task{Kind: kind, Stat: stat}.lane(), n, do) })
	}
	return lanes.Wait()
}

func (q *Queue) work(ctx context.Context, lane string, n int, do func(ctx context.Context, t Task) error) error {
	var consumer jetstream.Consumer
	err := persist(ctx, func(ctx context.Context) (err error) {
		consumer, err = q.stream.CreateOrUpdateConsumer(ctx, q.config().Name, jetstream.ConsumerConfig{
			Durable: lane, FilterSubject: q.subject(lane + ".>"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: q.opts.AckWait,
			MaxDeliver: -1, MaxAckPending: -1,
		})
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("work on %s: %w", lane, err)
	}
	var group errgroup.Group
	for range n {
		group.Go(func() error {
			for ctx.Err() == nil {
				if err := q.next(ctx, consumer, do); err != nil && ctx.Err() == nil {
					slog.Warn("ask the queue", "lane", lane, "error", err)
					pause(ctx, askAgain)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// next does one task. Tasks are fetched one by one: none waits here while another server has room for it.
func (q *Queue) next(ctx context.Context, consumer jetstream.Consumer, do func(ctx context.Context, t Task) error) error {
	wait, cancel := context.WithTimeout(ctx, q.opts.AckWait)
	defer cancel()
	message, err := consumer.Next(jetstream.FetchContext(wait))
	switch {
	case errors.Is(err, nats.ErrTimeout), wait.Err() != nil:
		return nil // there was nothing to do
	case err != nil:
		return err
	}
	lasting := context.WithoutCancel(ctx)
	var t Task
	if err := json.Unmarshal(message.Data(), &t); err != nil {
		return message.TermWithReason("not a task")
	}
	stop := q.heartbeat(message)
	err = do(lasting, t)
	stop()
	if err != nil {
		return message.NakWithDelay(backoff(message))
	}
	// The queue's own word that it will not hand the task out again.
	confirm, cancel := context.WithTimeout(lasting, startLimit)
	defer cancel()
	return message.DoubleAck(confirm)
}

// heartbeat keeps a task from being handed to another while it is worked on.
func (q *Queue) heartbeat(message jetstream.Msg) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, q.opts.AckWait/3) {
			if err := message.InProgress(); err != nil {
				slog.Warn("tell the queue that work goes on", "error", err)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// backoff doubles with each delivery, give or take a quarter, so that what failed together does not come back together.
func backoff(message jetstream.Msg) time.Duration {
	d := maxPause
	if meta, err := message.Metadata(); err == nil && meta.NumDelivered < 10 {
		d = min(firstPause<<(meta.NumDelivered-1), maxPause)
	}
	return d*3/4 + rand.N(d/2)
}

// pause waits and says whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
