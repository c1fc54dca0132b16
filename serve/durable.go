package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/serve/queue"
	"github.com/mvmae/mvmae/serve/studies"
)

// DurableOptions say how studies are kept and worked on. Zero values mean the defaults.
type DurableOptions struct {
	Quiet time.Duration // with nothing of a study arriving it is complete; default 10 s
	Limit time.Duration // a study is complete so long after its first object at the latest; default 10 minutes
	// CompleteOnRelease takes the end of a DICOM association for the sender's word that its studies are complete.
	CompleteOnRelease bool
	Conflicts         studies.Conflicts // default studies.UseBoth
	Attempts          int               // how often a study is tried before it is a dead letter; default 5
	Workers           int               // studies worked on at a time; default one per core; negative is none
	Retain            time.Duration     // finished studies are removed so long after; 0 is never
	Sinks             []Sink            // the receivers of outcomes
	Audit             *Audit            // notes every outcome; nothing is classified that cannot be noted. nil is none
	UIDKey            UIDKey            // names studies in the log, the audit log and spans
	MaxBytes          int64             // of one object; default that of studies.Options
	DiskHigh, DiskLow int               // watermarks in percent; defaults those of studies.Options
	NATS              string            // addresses of a cluster; "" is the queue inside this process
	Replicas          int               // of the cluster, that hold each task; default 3
	Namespace         string            // of this installation's names in the cluster; default mvmae
	Server            string            // this server's name in journals; default the host's name and the process's number
	Sweep             time.Duration     // how often the folder is looked through for what was forgotten; default 30 s
	// Fetch, where it is set, is called when a study seems complete. It has what is missing of it sent here, and says how many
	// objects that were.
	Fetch     func(ctx context.Context, studyUID string) (objects int, err error)
	Telemetry *Telemetry   // counts and traces what becomes of studies; nil is nobody
	Logger    *slog.Logger // default slog.Default()
}

func (o DurableOptions) withDefaults() DurableOptions {
	o.Quiet = cmp.Or(o.Quiet, 10*time.Second)
	o.Limit = cmp.Or(o.Limit, 10*time.Minute)
	o.Conflicts = cmp.Or(o.Conflicts, studies.UseBoth)
	o.Attempts = cmp.Or(o.Attempts, 5)
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	o.Sweep = cmp.Or(o.Sweep, 30*time.Second)
	if o.Server == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "server"
		}
		o.Server = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	if o.Telemetry == nil {
		o.Telemetry = newMetrics()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Sink receives outcomes: a webhook, a PACS. Each outcome is offered until Deliver has returned nil for it, so it may come
// twice; those of urgent studies come beside the others, not behind them.
type Sink interface {
	// Name is the sink's name in file names and in the queue: small letters, digits and dashes.
	Name() string
	Deliver(ctx context.Context, st *studies.Study, o *studies.Outcome) error
}

// Durable takes studies in for good: what it has accepted is classified, whatever becomes of this process. Its parts: a store
// of files, which is the truth; a gate that says when a study is complete; a queue of references to complete studies; workers
// that take from the queue, on this server or another; sinks that are told the outcome.
type Durable struct {
	opts  DurableOptions
	store *studies.Store
	gate  *studies.Gate
	queue *queue.Queue
	hub   hub

	mu       sync.Mutex
	versions map[string]progress // of the versions without an outcome that this server heard of
	states   map[string]int      // studies by state at the last sweep
}

// progress is what a server knows of a version. None of it needs to survive.
type progress struct {
	published time.Time // by this server into the queue
	queued    time.Time // when any server said that it puts it there
	running   time.Time // since
}

// taskClassify is the kind of task of classifying a study that is complete.
const taskClassify = "classify"

// taskDeliver is the kind of task of bringing an outcome to a sink.
func taskDeliver(sink string) string { return "deliver-" + sink }

// OpenDurable opens the studies in a folder. Nothing is worked on until Run.
func OpenDurable(ctx context.Context, dir string, opts DurableOptions) (*Durable, error) {
	d := &Durable{opts: opts.withDefaults(), versions: map[string]progress{}}
	var names []string
	for _, s := range opts.Sinks {
		names = append(names, s.Name())
	}
	var err error
	d.queue, err = queue.Open(ctx, queue.Options{
		Dir: filepath.Join(dir, "queue"), URL: opts.NATS, Replicas: opts.Replicas, Namespace: opts.Namespace,
	})
	if err != nil {
		return nil, err
	}
	d.store, err = studies.Open(dir, studies.Options{MaxBytes: opts.MaxBytes, High: opts.DiskHigh, Low: opts.DiskLow, Sinks: names})
	if err != nil {
		d.queue.Close()
		return nil, err
	}
	d.gate = studies.NewGate(d.opts.Quiet, d.opts.Limit)
	if err := d.queue.Listen(d.heard); err != nil {
		d.queue.Close()
		return nil, err
	}
	return d, nil
}

// Close closes the queue. Call it when Run has returned and nothing more is taken in.
func (d *Durable) Close() { d.queue.Close() }

// Store is where the studies lie.
func (d *Durable) Store() *studies.Store { return d.store }

// Archive is the store as DIMSE sees it.
func (d *Durable) Archive() *studies.Archive {
	return &studies.Archive{Store: d.store, Gate: d.gate, CompleteOnRelease: d.opts.CompleteOnRelease}
}

// Run works on studies with the default model until ctx ends, and finishes what it has begun. The models stay the caller's to
// close.
func (d *Durable) Run(ctx context.Context, models *Models) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var fetching sync.WaitGroup
		defer fetching.Wait()
		turn := make(chan struct{}, fetches)
		d.gate.Run(ctx, func(ctx context.Context, uid string) {
			if d.opts.Fetch == nil {
				d.complete(ctx, uid)
				return
			}
			fetching.Go(func() {
				turn <- struct{}{}
				d.fetch(ctx, uid)
				<-turn
			})
		})
		return nil
	})
	group.Go(func() error { d.sweepAll(ctx); return nil })
	group.Go(func() error {
		if d.opts.Workers < 0 {
			return nil
		}
		return d.queue.Work(ctx, taskClassify, d.opts.Workers, func(ctx context.Context, t queue.Task) error {
			return d.classify(ctx, models, t)
		})
	})
	for _, sink := range d.opts.Sinks {
		group.Go(func() error {
			return d.queue.Work(ctx, taskDeliver(sink.Name()), 1, func(ctx context.Context, t queue.Task) error {
				return d.deliver(ctx, sink, t)
			})
		})
	}
	return group.Wait()
}

// fetches is how many studies are fetched at a time: a PACS has few associations to give.
const fetches = 4

// fetch has what is missing of a study sent here. What comes then opens the gate again; where nothing does the study is
// complete.
func (d *Durable) fetch(ctx context.Context, uid string) {
	n, err := d.opts.Fetch(ctx, uid)
	if err != nil {
		d.opts.Logger.Error("fetch what is missing of a study", "study", d.opts.UIDKey.Hash(uid), "error", err)
	}
	if n == 0 || err != nil {
		d.complete(ctx, uid)
	}
}

// complete puts a study that is complete into the queue. What goes wrong is made good by the next sweep.
func (d *Durable) complete(ctx context.Context, uid string) {
	st, err := d.store.Study(uid)
	if err == nil && st != nil && st.Current() == nil {
		err = d.publish(ctx, classifying(st), false)
	}
	if err != nil {
		d.opts.Logger.Error("put a study into the queue", "study", d.opts.UIDKey.Hash(uid), "error", err)
	}
}

// classifying is the task of a study as it is now.
func classifying(st *studies.Study) queue.Task {
	return queue.Task{Kind: taskClassify, Study: st.UID, Version: st.Version(), Stat: st.Stat()}
}

// publishLimit is how long the queue may take to accept a task. It is tried again later.
const publishLimit = 5 * time.Second

func (d *Durable) publish(ctx context.Context, t queue.Task, again bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishLimit)
	defer cancel()
	if t.Kind == taskClassify { // first, or a worker might announce before us that it works on it
		d.announce(Event{StudyInstanceUID: t.Study, Version: t.Version, State: StateQueued})
	}
	if err := d.queue.Publish(ctx, t, again); err != nil {
		return err
	}
	if t.Kind == taskClassify {
		d.update(t.Version, func(p *progress) { p.published = time.Now() })
	}
	return nil
}

// update changes what is known of a version.
func (d *Durable) update(version string, change func(p *progress)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.versions[version]
	change(&p)
	d.versions[version] = p
}

// sweepAll sweeps now and then.
func (d *Durable) sweepAll(ctx context.Context) {
	ticker := time.NewTicker(d.opts.Sweep)
	defer ticker.Stop()
	for {
		if err := d.sweep(ctx); err != nil && ctx.Err() == nil {
			d.opts.Logger.Error("sweep", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// publishAgain is how long a task is believed to be in the queue. One that is there is not put there twice.
const publishAgain = 5 * time.Minute

// sweep finds what was forgotten, by this server or by one that died: studies without an outcome, outcomes that a sink has not
// confirmed, studies that may go.
func (d *Durable) sweep(ctx context.Context) error {
	if err := d.store.Refresh(ctx); err != nil {
		return err
	}
	alive := map[string]bool{}
	states := map[string]int{}
	for _, s := range studyStates() {
		states[s.(string)] = 0
	}
	for _, st := range d.store.All() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		version := st.Version()
		states[d.state(st)]++
		if st.Current() == nil {
			alive[version] = true
			if err := d.remind(ctx, st); err != nil {
				return err
			}
		}
		for i := range st.Outcomes {
			if err := d.send(ctx, st, &st.Outcomes[i], false); err != nil {
				return err
			}
		}
	}
	d.mu.Lock()
	d.states = states
	for version := range d.versions {
		if !alive[version] {
			delete(d.versions, version)
		}
	}
	d.mu.Unlock()
	if d.opts.Retain <= 0 {
		return nil
	}
	n, err := d.store.Retain(d.opts.Retain)
	if n > 0 {
		d.opts.Logger.Info("removed finished studies", "studies", n)
	}
	return err
}

// tally is how many studies were in each state at the last sweep; nil before the first. Nobody changes it.
func (d *Durable) tally() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.states
}

// remind puts a study without outcome into the queue, or before the gate if objects of it came only now.
func (d *Durable) remind(ctx context.Context, st *studies.Study) error {
	if d.gate.Waiting(st.UID) {
		return nil
	}
	version := st.Version()
	d.mu.Lock()
	p := d.versions[version]
	d.mu.Unlock()
	switch {
	case time.Since(p.published) < publishAgain, time.Since(p.queued) < 2*publishLimit: // it is there, or on its way
		return nil
	case p.queued.IsZero() && time.Since(st.LastReceived()) < d.opts.Quiet:
		d.gate.Arrived(st.UID, "")
		return nil
	}
	return d.publish(ctx, classifying(st), false)
}

// send puts an outcome into the queues of the sinks that have not confirmed it. A version may have another outcome than a
// moment ago: after a retry.
func (d *Durable) send(ctx context.Context, st *studies.Study, o *studies.Outcome, again bool) error {
	for _, sink := range d.store.Unsent(o) {
		if err := d.publish(ctx, queue.Task{Kind: taskDeliver(sink), Study: st.UID, Version: o.Version, Stat: st.Stat()}, again); err != nil {
			return err
		}
	}
	return nil
}

// ErrNotDead is the error of Retry and Discard for a study that is no dead letter.
var ErrNotDead = errors.New("the study is no dead letter")

// Retry puts a dead letter into the queue again, as if it were new.
func (d *Durable) Retry(ctx context.Context, uid string) error {
	return d.dead(uid, func(st *studies.Study) error {
		if err := d.store.Reopen(uid, st.Version()); err != nil {
			return err
		}
		return d.publish(ctx, classifying(st), true)
	})
}

// Discard gives a dead letter up.
func (d *Durable) Discard(uid string) error {
	return d.dead(uid, func(st *studies.Study) error {
		version := st.Version()
		if err := d.store.Discard(uid, version); err != nil {
			return err
		}
		d.announce(Event{StudyInstanceUID: uid, Version: version, State: string(studies.Discarded)})
		return nil
	})
}

func (d *Durable) dead(uid string, do func(st *studies.Study) error) error {
	st, err := d.store.Study(uid)
	if err != nil {
		return err
	}
	if st == nil {
		return studies.ErrGone
	}
	if o := st.Current(); o == nil || o.State != studies.Dead {
		return ErrNotDead
	}
	err = do(st)
	if errors.Is(err, studies.ErrGone) {
		return ErrNotDead // another was faster
	}
	return err
}

// The states of a study beside those of studies.State.
const (
	StateReceiving = "receiving" // objects may still come
	StateQueued    = "queued"    // complete, and waiting for a worker
	StateRunning   = "running"   // being classified
)

// studyStates are all states of a study, as strings.
func studyStates() []any {
	return []any{StateReceiving, StateQueued, StateRunning, string(studies.Done), string(studies.Refused), string(studies.Dead), string(studies.Discarded)}
}

// runningFor is how long a server is believed that it works on a study: it may have died.
const runningFor = time.Minute

// state says where a study is.
func (d *Durable) state(st *studies.Study) string {
	if o := st.Current(); o != nil {
		return string(o.State)
	}
	d.mu.Lock()
	p := d.versions[st.Version()]
	d.mu.Unlock()
	switch {
	case time.Since(p.running) < runningFor:
		return StateRunning
	case d.gate.Waiting(st.UID), p.queued.IsZero() && time.Since(st.LastReceived()) < d.opts.Quiet:
		return StateReceiving
	}
	return StateQueued
}

// announce tells all servers, and who listens to them, what became of a study.
func (d *Durable) announce(e Event) {
	e.At = time.Now().UTC()
	data, err := json.Marshal(e)
	if err == nil {
		err = d.queue.Announce(data)
	}
	if err != nil {
		d.opts.Logger.Warn("announce", "error", err)
	}
}

// heard notes what any server announced.
func (d *Durable) heard(message []byte) {
	var e Event
	if err := json.Unmarshal(message, &e); err != nil {
		d.opts.Logger.Warn("hear", "error", err)
		return
	}
	switch e.State {
	case StateQueued:
		d.update(e.Version, func(p *progress) { p.queued, p.running = e.At, time.Time{} })
	case StateRunning:
		d.update(e.Version, func(p *progress) { p.queued, p.running = e.At, e.At })
	}
	d.hub.tell(e)
}
