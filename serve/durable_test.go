package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/serve/studies"
)

// durable is a server that keeps studies, in one process with its test.
type durable struct {
	*Server
	d      *Durable
	events <-chan Event
	stop   func() // ends its work, then closes it
}

// openDurable opens the studies of a folder. Work begins when run is called.
func openDurable(t *testing.T, dir string, opts DurableOptions) *durable {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	d, err := OpenDurable(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	events, _ := d.hub.listen()
	one := &durable{Server: NewServer(ServerOptions{Logger: quiet, Durable: d}), d: d, events: events}
	one.stop = sync.OnceFunc(d.Close)
	t.Cleanup(func() { one.stop() })
	return one
}

func (d *durable) run(t *testing.T, f *fakeModel) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.d.Run(ctx, single(fakeEngine(t, f, Options{}))) }()
	closeQueue := d.stop
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		closeQueue()
	})
}

// wait returns when a study has come to a state.
func (d *durable) wait(t *testing.T, uid, state string) {
	t.Helper()
	for e := range d.events {
		if e.StudyInstanceUID == uid && e.State == state {
			return
		}
	}
	t.Fatal("the events ended")
}

// waitAll returns when every one of some studies has come to a state.
func (d *durable) waitAll(t *testing.T, state string, uids ...string) {
	t.Helper()
	for e := range d.events {
		if uids = slices.DeleteFunc(uids, func(uid string) bool { return e.State == state && e.StudyInstanceUID == uid }); len(uids) == 0 {
			return
		}
	}
	t.Fatal("the events ended")
}

// call asks the handler itself; a body is sent as a form.
func (d *durable) call(t *testing.T, method, path string, objects ...servetest.Object) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	if objects != nil {
		media, body := formOf(t, files(t, objects...))
		r = httptest.NewRequest(method, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", media)
	}
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	return w
}

// decoded is the document of an answer of the wanted status.
func decoded[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (doc T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &doc); w.Code != status || err != nil {
		t.Fatalf("status %d, want %d, %v: %s", w.Code, status, err, w.Body)
	}
	return doc
}

// studyDoc is StudyStatus as a caller reads it.
type studyDoc struct {
	StudyInstanceUID, State, Version, Reason string
	Instances, Attempts                      int
	Objects                                  []struct {
		SOP      string `json:"sop_instance_uid"`
		Conflict bool
	}
	Outcomes []struct {
		Version, State, Supersedes, Location string
		SupersededBy                         string `json:"superseded_by"`
		Instances                            int
		Unsent                               []string
	}
	Rejected []Rejection
	Result   *Result
	Problem  *Problem
}

func (d *durable) study(t *testing.T, uid string) studyDoc {
	t.Helper()
	return decoded[studyDoc](t, d.call(t, "GET", "/v1/studies/"+uid), 200)
}

func TestDurable_StudyIsClassified(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	views := servetest.Study("1.2", 1)
	w := d.call(t, "POST", "/v1/studies", append(views, servetest.Object{Study: "-"})...)
	doc := decoded[studyDoc](t, w, 202)
	if at := w.Header().Get("Location"); at != "/v1/studies/1.2" || doc.State != StateReceiving || len(doc.Objects) != 2 {
		t.Errorf("at %s: %+v", at, doc)
	}
	if len(doc.Rejected) != 1 || doc.Rejected[0].Name != "c.dcm" || doc.Rejected[0].Code != CodeMisplaced {
		t.Errorf("rejected: %+v", doc.Rejected)
	}
	d.run(t, &fakeModel{})
	d.wait(t, "1.2", "done")
	want, err := fakeEngine(t, &fakeModel{}, Options{}).Classify(t.Context(), Uploads(files(t, views...)...))
	if err != nil {
		t.Fatal(err)
	}
	doc = d.study(t, "1.2")
	if diff := cmp.Diff(want, doc.Result, ignoreTimings); diff != "" || doc.State != "done" || doc.Attempts != 1 {
		t.Errorf("%+v\n(-engine +durable)\n%s", doc, diff)
	}
}

func TestDurable_LateObjectSupersedes(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Millisecond})
	d.run(t, &fakeModel{})
	views := servetest.Study("1.2", 1)
	first := decoded[studyDoc](t, d.call(t, "POST", "/v1/studies", views[0]), 202)
	d.wait(t, "1.2", "done")
	// That more is to come only means that the quiet period is waited for.
	decoded[studyDoc](t, d.call(t, "POST", "/v1/studies?complete=false", views[1]), 202)
	d.wait(t, "1.2", "done")
	doc := d.study(t, "1.2")
	if doc.State != "done" || len(doc.Result.Views) != 2 || len(doc.Outcomes) != 2 ||
		doc.Outcomes[0].SupersededBy != doc.Version || doc.Outcomes[1].Supersedes != first.Version {
		t.Fatalf("%+v", doc)
	}
	early := decoded[studies.Outcome](t, d.call(t, "GET", doc.Outcomes[0].Location), 200)
	if early.Version != first.Version || !strings.Contains(string(early.Result), `"sop_instance_uid":"1.2.1"`) ||
		strings.Contains(string(early.Result), `"sop_instance_uid":"1.2.2"`) {
		t.Errorf("the first version: %+v", early)
	}
}

func TestDurable_SlowSenderDoesNotSplitAStudy(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Millisecond})
	d.run(t, &fakeModel{})
	views := servetest.Study("1.2", 1)
	data := views[0].Bytes(t)
	body, sender := io.Pipe()
	r := httptest.NewRequest("POST", "/v1/studies", body)
	r.Header.Set("Content-Type", "application/dicom")
	slow := httptest.NewRecorder()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		d.Handler().ServeHTTP(slow, r)
	}()
	// What follows the header is read when it is known whose object this is.
	for _, part := range [][]byte{data[:5000], data[5000:5001]} {
		if _, err := sender.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	decoded[studyDoc](t, d.call(t, "POST", "/v1/studies", views[1]), 202)
	if doc := d.study(t, "1.2"); doc.State != StateReceiving {
		t.Errorf("while an object is on its way: %s", doc.State)
	}
	if _, err := sender.Write(data[5001:]); err != nil {
		t.Fatal(err)
	}
	sender.Close()
	<-answered
	decoded[studyDoc](t, slow, 202)
	d.wait(t, "1.2", "done")
	if doc := d.study(t, "1.2"); len(doc.Outcomes) != 1 || len(doc.Result.Views) != 2 {
		t.Errorf("%+v", doc)
	}
}

func TestDurable_ConflictingObjects(t *testing.T) {
	for rule, want := range map[studies.Conflicts]int{studies.UseBoth: 2, studies.UseFirst: 1, studies.UseLast: 1} {
		d := openDurable(t, t.TempDir(), DurableOptions{Conflicts: rule})
		d.run(t, &fakeModel{})
		d.call(t, "POST", "/v1/studies", servetest.Object{Study: "1.2", Seed: 1}, servetest.Object{Study: "1.2", Seed: 2})
		d.wait(t, "1.2", "done")
		doc := d.study(t, "1.2")
		if len(doc.Objects) != 2 || !doc.Objects[0].Conflict || len(doc.Result.Views) != want {
			t.Fatalf("%s: %+v", rule, doc)
		}
		for _, v := range doc.Result.Views {
			if !strings.Contains(strings.Join(v.Flags, " "), FlagSharedUID) {
				t.Errorf("%s: flags %q", rule, v.Flags)
			}
		}
	}
}

func TestDurable_RefusedStudy(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	d.run(t, &fakeModel{})
	d.call(t, "POST", "/v1/studies", servetest.Object{Study: "1.2", Modality: "MR"})
	d.wait(t, "1.2", "refused")
	if doc := d.study(t, "1.2"); doc.State != "refused" || doc.Result != nil || doc.Problem.Code != "no_usable_view" || len(doc.Problem.Rejected) != 1 {
		t.Errorf("%+v", doc)
	}
}

func TestDurable_DeadLetters(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	f := &fakeModel{during: func(context.Context) error {
		if broken.Load() {
			return errors.New("the device is gone")
		}
		return nil
	}}
	d := openDurable(t, t.TempDir(), DurableOptions{Attempts: 2})
	d.run(t, f)
	for _, uid := range []string{"1.2", "1.3"} {
		d.call(t, "POST", "/v1/studies", servetest.Object{Study: uid, SOP: uid + ".1"})
		d.wait(t, uid, "dead")
	}
	doc := d.study(t, "1.2")
	if doc.State != "dead" || doc.Attempts != 2 || !strings.Contains(doc.Reason, "the device is gone") {
		t.Errorf("%+v", doc)
	}
	if list := decoded[StudyList](t, d.call(t, "GET", "/v1/studies?state=dead"), 200); len(list.Studies) != 2 {
		t.Errorf("dead letters: %+v", list)
	}
	broken.Store(false)
	if doc := decoded[studyDoc](t, d.call(t, "POST", "/v1/studies/1.2/retry"), 200); doc.State == "dead" {
		t.Errorf("after retry: %+v", doc)
	}
	d.wait(t, "1.2", "done")
	if doc := d.study(t, "1.2"); doc.State != "done" || doc.Attempts != 1 {
		t.Errorf("%+v", doc)
	}
	if doc := decoded[studyDoc](t, d.call(t, "POST", "/v1/studies/1.3/discard"), 200); doc.State != "discarded" {
		t.Errorf("after discard: %+v", doc)
	}
	for path, code := range map[string]string{"/v1/studies/1.2/retry": "not_dead", "/v1/studies/1.3/discard": "not_dead", "/v1/studies/9/retry": "no_such_study"} {
		if p := problemOf(t, d.call(t, "POST", path)); p.Code != code {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// TestDurable_WhatWasAcceptedOutlivesTheServer ends the server after it has accepted studies, and as if it had died at work.
func TestDurable_WhatWasAcceptedOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	d := openDurable(t, dir, DurableOptions{Quiet: time.Millisecond})
	for _, uid := range []string{"1.2", "1.3"} {
		decoded[studyDoc](t, d.call(t, "POST", "/v1/studies", servetest.Object{Study: uid, SOP: uid + ".1"}), 202)
	}
	poison := d.study(t, "1.3")
	for range 5 {
		if err := d.d.store.Note("1.3", poison.Version, studies.Began, "here", ""); err != nil {
			t.Fatal(err)
		}
	}
	d.stop()
	d = openDurable(t, dir, DurableOptions{Quiet: time.Millisecond})
	d.run(t, &fakeModel{})
	d.wait(t, "1.3", "dead")
	if doc := d.study(t, "1.3"); !strings.Contains(doc.Reason, "5 times") {
		t.Errorf("%+v", doc)
	}
	for d.study(t, "1.2").State != "done" {
		d.wait(t, "1.2", "done")
	}
}

// TestDurable_TwoServersShareTheWork runs two servers on one folder and one NATS server.
func TestDurable_TwoServersShareTheWork(t *testing.T) {
	n, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() })
	if !n.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server did not start")
	}
	dir, f := t.TempDir(), &fakeModel{}
	opts := DurableOptions{NATS: n.ClientURL(), Replicas: 1, Workers: 1}
	a, b := openDurable(t, dir, opts), openDurable(t, dir, opts)
	a.run(t, f)
	b.run(t, f)
	const studiesEach = 10
	left := map[string]bool{}
	for i := range 2 * studiesEach {
		uid := fmt.Sprintf("1.2.%d", i)
		left[uid] = true
		decoded[studyDoc](t, []*durable{a, b}[i%2].call(t, "POST", "/v1/studies", servetest.Object{Study: uid, SOP: uid + ".1"}), 202)
	}
	for len(left) > 0 {
		if e := <-a.events; e.State == "done" {
			if !left[e.StudyInstanceUID] {
				t.Errorf("%s is done twice", e.StudyInstanceUID)
			}
			delete(left, e.StudyInstanceUID)
		}
	}
	if f.runs != 2*studiesEach {
		t.Errorf("the model ran %d times, want %d", f.runs, 2*studiesEach)
	}
	for i := range 2 * studiesEach {
		if doc := b.study(t, fmt.Sprintf("1.2.%d", i)); doc.State != "done" || len(doc.Outcomes) != 1 {
			t.Errorf("seen by the other server: %+v", doc)
		}
	}
}

func TestDurable_Problems(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{MaxBytes: 20 << 10})
	d.opts.Limits = Limits{RequestBytes: 100 << 10, FileBytes: 20 << 10, Files: 4}
	media, twoStudies := formOf(t, files(t, servetest.Object{Study: "1"}, servetest.Object{Study: "2"}))
	garbage, garbageBody := formOf(t, []Upload{{Name: "a", Data: []byte("hello")}})
	cut, cutBody := formOf(t, files(t, servetest.Object{}))
	large, largeBody := formOf(t, []Upload{{Name: "a", Data: append(servetest.Object{}.Bytes(t), make([]byte, 20<<10)...)}})
	for _, c := range []struct {
		name, media string
		body        []byte
		status      int
		code        string
	}{
		{"two studies", media, twoStudies, 422, "two_studies"},
		{"nothing to keep", garbage, garbageBody, 422, "nothing_stored"},
		{"cut off", cut, cutBody[:len(cutBody)-3000], 400, "malformed_multipart"},
		{"too large", large, largeBody, 413, "file_too_large"},
		{"no media type", "", nil, 415, "unsupported_media_type"},
	} {
		r := httptest.NewRequest("POST", "/v1/studies", bytes.NewReader(c.body))
		r.Header.Set("Content-Type", c.media)
		w := httptest.NewRecorder()
		d.Handler().ServeHTTP(w, r)
		if p := problemOf(t, w); p.Status != c.status || p.Code != c.code {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
	for path, code := range map[string]string{
		"/v1/studies/1": "no_such_study", "/v1/studies/1/versions/2": "no_such_study", "/v1/events?study=1": "no_such_study",
		"/v1/studies?limit=0": "bad_query", "/v1/studies?after=x": "bad_query",
	} {
		if p := problemOf(t, d.call(t, "GET", path)); p.Code != code {
			t.Errorf("%s: %+v", path, p)
		}
	}
	if n := len(d.d.store.All()); n != 0 || d.d.gate.Waiting("1") || d.d.gate.Waiting("1.2.3") {
		t.Errorf("%d studies are held", n)
	}
}

func TestDurable_FullDisk(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{DiskHigh: 1, DiskLow: 1})
	d.d.store = fullStore(t)
	w := d.call(t, "POST", "/v1/studies", servetest.Object{})
	if p := problemOf(t, w); p.Status != 507 || p.Code != "disk_full" || w.Header().Get("Retry-After") != "60" {
		t.Errorf("%+v", p)
	}
}

func fullStore(t *testing.T) *studies.Store {
	t.Helper()
	s, err := studies.Open(t.TempDir(), studies.Options{Disk: func() (uint64, uint64, error) { return 100, 1, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDurable_ListPages(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	for i := range 5 {
		uid := fmt.Sprintf("1.%d", i)
		d.call(t, "POST", "/v1/studies", servetest.Object{Study: uid, SOP: uid + ".1"})
	}
	var got []string
	for path := "/v1/studies?limit=2"; path != ""; {
		page := decoded[StudyList](t, d.call(t, "GET", path), 200)
		for _, st := range page.Studies {
			got = append(got, st.StudyInstanceUID)
		}
		path = page.Next
	}
	if diff := cmp.Diff([]string{"1.4", "1.3", "1.2", "1.1", "1.0"}, got); diff != "" {
		t.Errorf("the last first (-want +got)\n%s", diff)
	}
}

// One routine study holds the only worker and others stand in line: the urgent one is worked on all the same, and its runs go
// before theirs, by whatever way it came, and also after a restart that lost the queue.
func TestDurable_StatDoesNotStandInLine(t *testing.T) {
	object := servetest.Object{Study: "1.9", SOP: "1.9.1"}
	for name, send := range map[string]func(d *durable){
		"HTTP": func(d *durable) { decoded[studyDoc](t, d.call(t, "POST", "/v1/studies?priority=stat", object), 202) },
		"HTTP, in a second request": func(d *durable) {
			decoded[studyDoc](t, d.call(t, "POST", "/v1/studies", object), 202)
			decoded[studyDoc](t, d.call(t, "POST", "/v1/studies?priority=stat", object), 202)
		},
		"STOW-RS": func(d *durable) {
			if w := d.do(stow(t, "/studies?priority=stat", object.Bytes(t))); w.Code != 200 {
				t.Errorf("STOW-RS: status %d: %s", w.Code, w.Body)
			}
		},
		"C-STORE": func(d *durable) {
			o := pacs.Object{SOPClassUID: "1.2.840.10008.5.1.4.1.1.1.1", SOPInstanceUID: object.SOP, Urgent: true}
			if err := d.d.Archive().Keep(t.Context(), o, bytes.NewReader(object.Bytes(t))); err != nil {
				t.Error(err)
			}
		},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", name, restarted), func(t *testing.T) {
				dir, opts := t.TempDir(), DurableOptions{Workers: 1, Quiet: time.Millisecond}
				d := openDurable(t, dir, opts)
				for _, uid := range []string{"1.1", "1.2", "1.3"} {
					decoded[studyDoc](t, d.call(t, "POST", "/v1/studies", servetest.Object{Study: uid, SOP: uid + ".1"}), 202)
				}
				send(d)
				if restarted {
					d.stop()
					if err := os.RemoveAll(filepath.Join(dir, "queue")); err != nil {
						t.Fatal(err)
					}
					d = openDurable(t, dir, opts)
				}
				statGoesFirst(t, d)
			})
		}
	}
	d := openDurable(t, t.TempDir(), DurableOptions{})
	for _, p := range []*Problem{
		problemOf(t, d.call(t, "POST", "/v1/studies?priority=now", object)), problemOf(t, d.do(stow(t, "/studies?priority=now", object.Bytes(t)))),
	} {
		if p.Status != 400 || p.Code != "bad_query" {
			t.Errorf("%+v", p)
		}
	}
}

// statGoesFirst runs a server that holds the urgent study 1.9 and others, of which none comes to an end before it.
func statGoesFirst(t *testing.T, d *durable) {
	t.Helper()
	f, proceed := blocking()
	var stat, routine atomic.Int32
	block := f.during
	f.during = func(ctx context.Context) error {
		if isStat(ctx) {
			stat.Add(1)
			return nil
		}
		routine.Add(1)
		return block(ctx)
	}
	d.run(t, f)
	d.wait(t, "1.9", "done")
	if stat.Load() != 1 || routine.Load() > 1 {
		t.Errorf("%d urgent views and %d others were run", stat.Load(), routine.Load())
	}
	close(proceed)
	d.waitAll(t, "done", "1.1", "1.2", "1.3")
}
