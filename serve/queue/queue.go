package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mvmae/mvmae/internal/hint"
)

// Options say where the queue is. Zero values mean the defaults.
type Options struct {
	Dir string // of the queue inside this process
	URL string // of the cluster's servers, separated by commas; "" is inside this process
	// Replicas is how many servers of the cluster hold each task. Default 3; 1 inside this process.
	Replicas int
	// AckWait is how long after the last heartbeat of a worker its task is handed to another. Default 10 s.
	AckWait time.Duration
	// Namespace is the beginning of all names in the cluster, so that several installations can share it. Default mvmae.
	Namespace string
}

const (
	maxTaskBytes = 4 << 10
	// duplicates is how long a task that was published is refused, also when it was done meanwhile.
	duplicates = 2 * time.Minute
	startLimit = 30 * time.Second
)

// Queue is a connection to the queue. Its methods may be called from many goroutines.
type Queue struct {
	opts     Options
	lock     *flock.Flock   // nil with a cluster
	embedded *server.Server // nil with a cluster
	conn     *nats.Conn
	stream   jetstream.JetStream
}

// ErrInUse is the error of Open for a folder in which another process has its queue.
var ErrInUse = errors.New("another server has its queue here")

// Open opens the queue.
func Open(ctx context.Context, opts Options) (*Queue, error) {
	opts.AckWait = cmp.Or(opts.AckWait, 10*time.Second)
	opts.Namespace = cmp.Or(opts.Namespace, "mvmae")
	q := &Queue{opts: opts}
	if err := q.open(ctx); err != nil {
		q.Close()
		return nil, fmt.Errorf("open queue: %w", err)
	}
	return q, nil
}

func (q *Queue) open(ctx context.Context) (err error) {
	if q.opts.URL == "" {
		err = q.embed()
	} else {
		err = q.connect()
	}
	if err != nil {
		return err
	}
	if q.stream, err = jetstream.New(q.conn); err != nil {
		return err
	}
	err = persist(ctx, func(ctx context.Context) error {
		_, err := q.stream.CreateOrUpdateStream(ctx, q.config())
		return err
	})
	if err != nil && !q.conn.IsConnected() {
		return hint.Wrap(errors.New("none of the NATS servers answers"), "--nats takes their addresses, like nats://host:4222,nats://other:4222")
	}
	return hint.Wrap(err, "a cluster needs JetStream and as many servers as --nats-replicas says; a single server needs --nats-replicas 1")
}

// tryLimit is how long a cluster may take to answer. While it elects a leader it does not: what was asked then is lost.
const tryLimit = 3 * time.Second

// persist asks until there is an answer, for as long as a cluster may take to get ready.
func persist(ctx context.Context, ask func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, tryLimit)
		err := ask(try)
		cancel()
		if err == nil || !pause(ctx, askAgain) {
			return err
		}
	}
}

func (q *Queue) config() jetstream.StreamConfig {
	replicas := 1
	if q.embedded == nil {
		replicas = cmp.Or(q.opts.Replicas, 3)
	}
	return jetstream.StreamConfig{
		Name: strings.ToUpper(q.opts.Namespace) + "_TASKS", Subjects: []string{q.subject(">")},
		Description: "references to studies that wait to be worked on", Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.WorkQueuePolicy, MaxMsgSize: maxTaskBytes, Duplicates: duplicates,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
	}
}

func (q *Queue) subject(rest string) string { return q.opts.Namespace + ".task." + rest }

// embed starts a server inside the process, which only this process can reach.
func (q *Queue) embed() error {
	if err := os.MkdirAll(q.opts.Dir, 0o700); err != nil {
		return err
	}
	q.lock = flock.New(filepath.Join(q.opts.Dir, "lock"))
	if locked, err := q.lock.TryLock(); err != nil || !locked {
		return errors.Join(err, hint.Wrap(fmt.Errorf("%s: %w", q.opts.Dir, ErrInUse),
			"give each server a folder of its own, or let them share one over a cluster with --nats"))
	}
	var err error
	q.embedded, err = server.NewServer(&server.Options{
		ServerName: "embedded", DontListen: true, NoLog: true, NoSigs: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: q.opts.Dir, SyncAlways: true, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30,
	})
	if err != nil {
		return err
	}
	q.embedded.Start()
	if !q.embedded.ReadyForConnections(startLimit) {
		return errors.New("the server inside the process did not start")
	}
	q.conn, err = nats.Connect("", nats.InProcessServer(q.embedded), nats.MaxReconnects(-1))
	return err
}

func (q *Queue) connect() (err error) {
	q.conn, err = nats.Connect(q.opts.URL, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(askAgain),
		nats.Name("mvmae-serve"))
	return err
}

// Close ends the connection, and the server inside the process.
func (q *Queue) Close() {
	if q.conn != nil {
		q.conn.Close()
	}
	if q.embedded != nil {
		q.embedded.Shutdown()
		q.embedded.WaitForShutdown()
	}
	if q.lock != nil {
		q.lock.Unlock()
	}
}

// Task is a piece of work: a reference to one version of a study.
type Task struct {
	Kind    string `json:"kind"` // what is to be done: classify, or the name of a receiver of outcomes
	Study   string `json:"study"`
	Version string `json:"version"`
	// Stat tasks do not stand in line behind the others: they have workers of their own.
	Stat bool `json:"stat,omitempty"`
}

// lane is the line that a task stands in, of its kind's two. No kind has a name that ends in statLane.
func (t Task) lane() string {
	if t.Stat {
		return t.Kind + statLane
	}
	return t.Kind
}

const statLane = "_stat"

// storeFailed is JetStream's error code for a message that a limit of the stream forbids.
const storeFailed = 10077

// Publish adds a task, and returns when it is durable. One that is in the queue already is left as it is. So is one that was
// published less than two minutes ago, unless it is to be done again.
func (q *Queue) Publish(ctx context.Context, t Task, again bool) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("publish task: %w", err)
	}
	id := t.lane() + "/" + t.Version
	if again {
		id += "/" + time.Now().Format(time.RFC3339Nano)
	}
	_, err = q.stream.Publish(ctx, q.subject(t.lane()+"."+t.Version), data, jetstream.WithMsgID(id))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == storeFailed && strings.Contains(api.Description, "per subject") {
		return nil // it is there
	}
	if err != nil {
		return fmt.Errorf("publish task: %w", err)
	}
	return nil
}

// Waiting is the number of tasks in the queue, those being worked on included.
func (q *Queue) Waiting(ctx context.Context) (uint64, error) {
	s, err := q.stream.Stream(ctx, q.config().Name)
	if err != nil {
		return 0, err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Msgs, nil
}

// Announce tells all servers of something that passed. Who is not there does not hear it.
func (q *Queue) Announce(message []byte) error {
	return q.conn.Publish(q.opts.Namespace+".event", message)
}

// Listen calls heard for each message that any server announces, this one too, until the queue is closed.
func (q *Queue) Listen(heard func(message []byte)) error {
	_, err := q.conn.Subscribe(q.opts.Namespace+".event", func(m *nats.Msg) { heard(m.Data) })
	if err == nil {
		err = q.conn.FlushTimeout(tryLimit) // what is announced from here on is heard
	}
	if err != nil {
		return fmt.Errorf("listen to events: %w", err)
	}
	return nil
}
