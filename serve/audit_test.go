package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/serve/servetest"
)

func auditIn(t *testing.T, dir string) (a *Audit, path string) {
	t.Helper()
	path = filepath.Join(dir, "audit.jsonl")
	a, err := OpenAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, path
}

// records reads a log. Every line must be whole.
func records(t *testing.T, path string) (list []AuditRecord) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var r AuditRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%v: %q", err, line)
		}
		list = append(list, r)
	}
	return list
}

func TestAudit_WhoAskedWhat(t *testing.T) {
	a, path := auditIn(t, t.TempDir())
	tokens, _ := tokensOf(t, "pacs "+tokenA)
	s := readyServer(t, &fakeModel{}, ServerOptions{Audit: a, Tokens: tokens})
	ask := func(object []byte, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", pathClassify, bytes.NewReader(object))
		r.Header.Set("Content-Type", typeDICOM)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	answer := ask(servetest.Object{Study: "1.2.345"}.Bytes(t), tokenA)
	ask([]byte("not DICOM"), tokenA)
	ask(nil, "another")
	get(s, pathLive)
	list := records(t, path)
	for i := range list {
		if list[i].Time.IsZero() || list[i].LatencyMS <= 0 || list[i].Remote != "192.0.2.1" {
			t.Errorf("%+v", list[i])
		}
		list[i].Time, list[i].LatencyMS, list[i].Remote = list[0].Time, 0, ""
	}
	r := AuditRecord{Time: list[0].Time, Event: AuditRequest, Method: "POST", Route: pathClassify, Caller: "pacs", Model: "0123"}
	good, bad, unknown := r, r, r
	good.Status, good.Study, good.Result = 200, HashUID("1.2.345"), fmt.Sprintf("%x", sha256.Sum256(answer.Body.Bytes()))
	bad.Status, bad.Code = 422, "no_usable_view"
	unknown.Status, unknown.Code, unknown.Caller, unknown.Model = 401, "unauthenticated", "", ""
	if diff := cmp.Diff([]AuditRecord{good, bad, unknown}, list); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What a rotation does, while requests are noted: no line is lost, torn or written twice.
func TestAudit_SurvivesRotation(t *testing.T) {
	dir := t.TempDir()
	a, path := auditIn(t, dir)
	const writers, lines = 4, 200
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range lines {
				if err := a.Write(AuditRecord{Event: AuditRequest, Study: fmt.Sprint(w, "/", i)}); err != nil {
					t.Error(err)
				}
				if w == 0 && i%20 == 10 {
					if err := os.Rename(path, fmt.Sprint(path, ".", i)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	seen := map[string]int{}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, r := range records(t, f) {
			seen[r.Study]++
		}
	}
	if len(seen) != writers*lines {
		t.Errorf("%d lines in %d files, want %d", len(seen), len(files), writers*lines)
	}
	for study, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", study, n)
		}
	}
	if len(files) != lines/20+1 {
		t.Errorf("%d files", len(files))
	}
}

func TestAudit_TornLineEndsBeforeTheNext(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	if err := os.WriteFile(path, []byte("{}\n{\"torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := auditIn(t, dir)
	for range 2 {
		if err := a.Write(AuditRecord{Event: AuditRequest}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(string(data), "\n"); len(lines) != 5 || lines[1] != `{"torn` || !strings.HasPrefix(lines[2], `{"time":`) {
		t.Errorf("%q", lines)
	}
}

// A server that cannot note what it answers does not answer, says so, and goes on when it can.
func TestAudit_NothingIsAnsweredThatCannotBeNoted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a, path := auditIn(t, dir)
	s := readyServer(t, &fakeModel{}, ServerOptions{Audit: a})
	if err := os.RemoveAll(dir); err != nil { // as good as a disk that is full
		t.Fatal(err)
	}
	object := servetest.Object{}.Bytes(t)
	for name, w := range map[string]*httptest.ResponseRecorder{"classify": post(s, typeDICOM, bytes.NewReader(object)), "ready": get(s, pathReady)} {
		if p := problemOf(t, w); p.Status != 503 || p.Code != "no_audit" || strings.Contains(w.Body.String(), "probabilit") {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if w := get(s, pathReady); w.Code != 200 {
		t.Errorf("ready: %s", w.Body)
	}
	resultOf(t, post(s, typeDICOM, bytes.NewReader(object)))
	var events []string
	for _, r := range records(t, path) {
		events = append(events, fmt.Sprint(r.Event, " ", r.Status))
	}
	if diff := cmp.Diff([]string{"resumed 0", "request 200"}, events); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAudit_KeptStudiesAreNoted(t *testing.T) {
	a, path := auditIn(t, t.TempDir())
	d := openDurable(t, t.TempDir(), DurableOptions{Audit: a})
	d.Server.opts.Audit = a
	d.run(t, &fakeModel{})
	if w := d.call(t, "POST", pathStudies, servetest.Object{Study: "1.2.345"}); w.Code != 202 {
		t.Fatal(w.Body)
	}
	d.wait(t, "1.2.345", "done")
	st, err := d.d.Store().Study("1.2.345")
	if err != nil {
		t.Fatal(err)
	}
	o, err := d.d.Store().Outcome(st.UID, st.Version())
	if err != nil {
		t.Fatal(err)
	}
	var outcome AuditRecord
	for _, r := range records(t, path) {
		if r.Event == AuditOutcome {
			outcome = r
		}
	}
	if outcome.Study != HashUID(st.UID) || outcome.Version != st.Version() || outcome.State != "done" || outcome.Model != "0123" ||
		outcome.Result != fmt.Sprintf("%x", sha256.Sum256(o.Result)) || outcome.Remote == "" {
		t.Errorf("%+v, result %x", outcome, sha256.Sum256(o.Result))
	}
}

// cpu is the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What it costs to know who asks, and to note it.
func BenchmarkHTTP_Guards(b *testing.B) {
	path := filepath.Join(b.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("pacs "+tokenA), 0o600); err != nil {
		b.Fatal(err)
	}
	tokens, err := OpenTokens(path)
	if err != nil {
		b.Fatal(err)
	}
	audit, err := OpenAudit(filepath.Join(b.TempDir(), "audit.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	defer audit.Close()
	for _, c := range []struct {
		name   string
		guards ServerOptions
	}{{"none", ServerOptions{}}, {"tokens", ServerOptions{Tokens: tokens}}, {"tokens and audit", ServerOptions{Tokens: tokens, Audit: audit}}} {
		b.Run(c.name, func(b *testing.B) {
			s := readyServer(b, &fakeModel{}, c.guards)
			before := cpu(b)
			for b.Loop() {
				if w := asked(s, "GET", pathModels, tokenA); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// With a key nothing that is written down is what anybody makes of a UID without it: neither of a study that is answered at once, nor of one
// that is kept.
func TestUIDKey_NamesStudiesInLogAndAudit(t *testing.T) {
	const uid = "1.2.345"
	key := UIDKey("a secret of a server")
	if key.Hash(uid) == HashUID(uid) || key.Hash("") != "" || UIDKey(nil).Hash(uid) != HashUID(uid) {
		t.Errorf("with a key %q and %q, without %q", key.Hash(uid), key.Hash(""), UIDKey(nil).Hash(uid))
	}
	// openssl dgst -sha256 -hmac, the first twelve digits
	if got := key.Hash(uid); got != "86f94ad90e31" {
		t.Errorf("%s", got)
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	a, path := auditIn(t, t.TempDir())
	d := openDurable(t, t.TempDir(), DurableOptions{Audit: a, Logger: logger, UIDKey: key})
	d.Server = readyServer(t, &fakeModel{}, ServerOptions{Audit: a, Logger: logger, UIDKey: key, Durable: d.d})
	d.run(t, &fakeModel{})
	object := servetest.Object{Study: uid}
	resultOf(t, post(d.Server, typeDICOM, bytes.NewReader(object.Bytes(t))))
	decoded[studyDoc](t, d.call(t, "POST", pathStudies, object), 202)
	d.wait(t, uid, "done")
	for _, path := range []string{pathStudies + "/" + uid, pathWeb + "/studies/" + uid + "/metadata"} {
		if w := d.call(t, "GET", path); w.Code != 200 {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	d.stop()
	audit, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"log": log.String(), "audit log": string(audit)} {
		if n := strings.Count(text, key.Hash(uid)); n != 5 || strings.Contains(text, HashUID(uid)) {
			t.Errorf("%s: the study is named %d times by the key:\n%s", name, n, text)
		}
	}
}
