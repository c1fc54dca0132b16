package report

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/train"
)

// refresh is how often a watched page is made anew, and a new checkpoint looked for.
const refresh = 5 * time.Second

// Watch serves the page of a run on ln until ctx ends. reconstruct is called for every new checkpoint of a pretraining run; nil for a
// run that reconstructs nothing.
func Watch(ctx context.Context, ln net.Listener, run *train.Run, reconstruct func() (train.Reconstruction, error)) error {
	var rec atomic.Pointer[train.Reconstruction]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		var body bytes.Buffer
		if err := WritePage(&body, run, rec.Load(), refresh); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'unsafe-inline'")
		w.Write(body.Bytes()) // a browser that has gone needs no answer
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	working, ctx := errgroup.WithContext(ctx)
	working.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	working.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
	if reconstruct != nil {
		working.Go(func() error { return follow(ctx, run, reconstruct, &rec) })
	}
	return working.Wait()
}

// follow keeps rec at the run's last checkpoint.
func follow(ctx context.Context, run *train.Run, reconstruct func() (train.Reconstruction, error), rec *atomic.Pointer[train.Reconstruction]) error {
	var seen time.Time
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		written, err := run.CheckpointTime()
		if err != nil {
			return err
		}
		if written.After(seen) {
			seen = written
			if r, err := reconstruct(); err != nil {
				slog.Warn("no reconstruction", "error", err)
			} else {
				rec.Store(&r)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
