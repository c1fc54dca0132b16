package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/dicom/pacs"
)

// Config says what is done to the server.
type Config struct {
	Program string // mvmae-serve
	Model   string // a small one
	Dir     string // an empty folder
	Kills   int
	Clients int    // that send studies, each one after the other; default 3
	Seed    uint64 // of studies and moments
	// MaxLife is how long a process lives at most before it is killed, from its start; default 1.5 s.
	MaxLife time.Duration
	// NATS is the nats-server program. If it is named, two servers share the work over a cluster of three of these, and all five
	// are killed, one at a time.
	NATS string
	// DICOM has two studies of three sent by C-STORE and by STOW-RS.
	DICOM bool
	Log   func(format string, args ...any)
}

// Report says what came of it.
type Report struct {
	Kills      map[string]int // by process
	Studies    int            // of which at least one object was accepted
	Accepted   int            // objects
	Stored     int            // objects on disk: some were stored when the answer was lost
	Superseded int            // results that a later one took the place of
	Refused    int            // requests that met a dead server
	Seconds    float64        // from the first to the last kill
	Drain      float64        // seconds from then until every study had its result
}

// Run sends studies while it kills processes at random moments and starts them again, then waits until all is done, and checks.
func Run(ctx context.Context, c Config) (*Report, error) {
	if c.Clients == 0 {
		c.Clients = 3
	}
	if c.MaxLife == 0 {
		c.MaxLife = 1500 * time.Millisecond
	}
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &world{Config: c, accepted: map[string]map[string]bool{}, report: Report{Kills: map[string]int{}}}
	if err := w.build(); err != nil {
		return nil, err
	}
	defer func() {
		for _, p := range w.all() {
			p.kill()
		}
	}()
	for _, p := range w.all() {
		if err := p.up(ctx); err != nil {
			return nil, err
		}
	}
	for _, p := range w.servers {
		if err := p.ready(ctx, p); err != nil {
			return nil, err
		}
	}
	sending, stop := context.WithCancel(ctx)
	clients, sending := errgroup.WithContext(sending)
	for i := range c.Clients {
		clients.Go(func() error { return w.send(sending, i) })
	}
	start := time.Now()
	err := w.killAll(ctx, sending)
	w.report.Seconds = time.Since(start).Seconds()
	stop()
	if err = errors.Join(err, clients.Wait()); err != nil {
		return nil, err
	}
	start = time.Now()
	if err := w.settle(ctx); err != nil {
		return nil, err
	}
	w.report.Drain = time.Since(start).Seconds()
	return &w.report, w.check(ctx)
}

// world is all that a run has.
type world struct {
	Config
	nats, servers []*process
	nodes         []pacs.Node // the servers' DICOM addresses
	data          string

	mu       sync.Mutex
	accepted map[string]map[string]bool // study to SOP Instance UIDs
	report   Report
	refused  atomic.Int64
}

func (w *world) all() []*process { return append(append([]*process{}, w.nats...), w.servers...) }

func (w *world) build() error {
	w.data = filepath.Join(w.Dir, "data")
	args := []string{"--model", w.Model, "--data", w.data, "--quiet", "300ms", "--complete-within", "10s", "--sweep", "3s", "--drain-delay", "0s"}
	servers := 1
	if w.NATS != "" {
		urls, err := w.cluster()
		if err != nil {
			return err
		}
		args, servers = append(args, "--nats", urls), 2
	}
	ports, err := freePorts(servers)
	if err != nil {
		return err
	}
	for i, port := range ports {
		own := args[:len(args):len(args)]
		if w.DICOM {
			own = append(own, "--dicom", fmt.Sprintf("127.0.0.1:%d", port))
			w.nodes = append(w.nodes, pacs.Node{AE: pacs.DefaultAE, Host: "127.0.0.1", Port: port})
		}
		w.servers = append(w.servers, server(fmt.Sprintf("mvmae-serve %d", i), w.Program, own))
	}
	return nil
}

// killAll kills one process after the other, each after a random part of MaxLife, and starts it again.
// Processes last as long as ctx; when sending ends, so does the killing.
func (w *world) killAll(ctx, sending context.Context) error {
	rng := rand.New(rand.NewPCG(w.Seed, 0))
	for i := range w.Kills {
		all := w.all()
		p := all[rng.IntN(len(all))]
		if !pause(sending, time.Duration(rng.Int64N(int64(w.MaxLife)))) {
			return context.Cause(sending)
		}
		p.kill()
		w.report.Kills[p.name]++
		if err := p.up(ctx); err != nil {
			return err
		}
		// Between two kills something must be accepted, or nothing is tested.
		if i%4 == 3 {
			for _, p := range w.servers {
				if err := p.ready(ctx, p); err != nil {
					return err
				}
			}
		}
		if (i+1)%10 == 0 {
			w.mu.Lock()
			w.Log("%d kills, %d studies accepted", i+1, len(w.accepted))
			w.mu.Unlock()
		}
	}
	return nil
}

// send sends studies, one after the other: at once, in two requests, or twice.
func (w *world) send(ctx context.Context, client int) error {
	rng := rand.New(rand.NewPCG(w.Seed, uint64(client+1)))
	for i := 0; ctx.Err() == nil; i++ {
		study := fmt.Sprintf("1.2.826.0.1.%d.%d.%d", w.Seed, client+1, i+1)
		var objects []object
		for n := range 1 + rng.IntN(3) {
			objects = append(objects, newObject(study, n+1, smallSide, rng))
		}
		requests := [][]object{objects}
		switch rng.IntN(3) {
		case 0:
			requests = [][]object{objects[:1], objects[1:]}
		case 1:
			requests = [][]object{objects, objects}
		}
		for n, objects := range requests {
			if len(objects) == 0 {
				continue
			}
			if n > 0 && rng.IntN(2) == 0 { // late: the study may have a result by then
				pause(ctx, time.Duration(rng.Int64N(int64(time.Second))))
			}
			var err error
			switch {
			case w.DICOM && i%3 == 0:
				err = w.store(ctx, rng, objects)
			case w.DICOM && i%3 == 1:
				err = w.post(ctx, rng, "/dicom-web/studies", http.StatusOK, objects, related)
			default:
				err = w.post(ctx, rng, "/v1/studies", http.StatusAccepted, objects, form)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// post sends a request until it is accepted, which a status says; now and then it gives up after the first try, as senders do.
func (w *world) post(ctx context.Context, rng *rand.Rand, path string, accepted int, objects []object, write func([]object) (string, []byte, error)) error {
	query := ""
	if rng.IntN(4) == 0 {
		query = "?complete=false"
	}
	media, body, err := write(objects)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		p := w.servers[rng.IntN(len(w.servers))]
		url := p.address()
		if url == "" {
			pause(ctx, look)
			continue
		}
		status, answer, err := call(ctx, http.MethodPost, url+path+query, media, string(body))
		switch {
		case err != nil:
			w.refused.Add(1)
			if rng.IntN(5) == 0 {
				return nil
			}
		case status == accepted:
			w.accept(objects...)
			return nil
		case status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
			return fmt.Errorf("%s: status %d: %s", p.name, status, answer)
		}
	}
	return nil
}

// accept notes that a server has accepted objects.
func (w *world) accept(objects ...object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range objects {
		if w.accepted[o.study] == nil {
			w.accepted[o.study] = map[string]bool{}
		}
		w.accepted[o.study][o.sop] = true
	}
}

// store sends objects by C-STORE, each until it is accepted; now and then it gives up after the first try.
func (w *world) store(ctx context.Context, rng *rand.Rand, objects []object) error {
	for len(objects) > 0 && ctx.Err() == nil {
		client, err := pacs.Dial(ctx, w.nodes[rng.IntN(len(w.nodes))], pacs.ClientOptions{AETitle: "FAULTS"}, pacs.Proposal{SOPClass: digitalXRay})
		for err == nil && len(objects) > 0 {
			if err = client.Store(ctx, bytes.NewReader(objects[0].data)); err == nil {
				w.accept(objects[0])
				objects = objects[1:]
			}
		}
		var status *pacs.StatusError
		if errors.As(err, &status) {
			return fmt.Errorf("C-STORE: %w", err)
		}
		if client != nil {
			_ = client.Close(ctx) // it may be dead
		}
		if err != nil {
			w.refused.Add(1)
			if rng.IntN(5) == 0 {
				return nil
			}
			pause(ctx, look)
		}
	}
	return nil
}

// call asks a server.
func call(ctx context.Context, method, url, media, body string) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// mkdir makes a folder in Dir.
func (w *world) mkdir(name string) (string, error) {
	dir := filepath.Join(w.Dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}
