package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/serve/studies"
)

func TestStow_AnswersForEachObject(t *testing.T) {
	good, second := explicit(t, nil), explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"})
	elsewhere := explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.9.1", tag.StudyInstanceUID: "1.9"})
	other := explicit(t, map[tag.Tag]any{tag.PatientID: "P2"})
	ct := explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.3", tag.SOPClassUID: "1.2.840.10008.5.1.4.1.1.2"})
	nowhere := explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.5", tag.StudyInstanceUID: ""})
	video := image(t, "1.2.840.10008.1.2.4.100", map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.6"})
	big := explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.7", tag.PixelData: make([]byte, 40<<10)})
	broken := slices.Concat(good[:132], []byte("nothing that could be an element"))
	for _, c := range []struct {
		name    string
		held    [][]byte
		path    string
		objects [][]byte
		status  int
		want    []string
	}{
		{"all", nil, "/studies", [][]byte{good, second, elsewhere}, 200, []string{"1.2.3.1", "1.2.3.2", "1.9.1"}},
		{"all of the study named", nil, "/studies/1.2.3", [][]byte{good, second}, 200, []string{"1.2.3.1", "1.2.3.2"}},
		{"again", [][]byte{good}, "/studies", [][]byte{good}, 200, []string{"1.2.3.1"}},
		{"one broken", nil, "/studies", [][]byte{good, broken, second}, 202, []string{"1.2.3.1", "1.2.3.2", "f49152"}},
		{"one of another study", nil, "/studies/1.2.3", [][]byte{elsewhere, good}, 202, []string{"1.2.3.1", "1.9.1 f49153"}},
		{"one of a class that is not taken", nil, "/studies", [][]byte{good, ct}, 202, []string{"1.2.3.1", "1.2.3.3 f290"}},
		{"one of no study", nil, "/studies", [][]byte{good, nowhere}, 202, []string{"1.2.3.1", "1.2.3.5 f49152"}},
		{"one that nobody decodes", nil, "/studies", [][]byte{good, video}, 202, []string{"1.2.3.1", "1.2.3.6 f49442"}},
		{"one too large", nil, "/studies", [][]byte{big, good}, 202, []string{"1.2.3.1", "1.2.3.7 f42752"}},
		{"same UID, other bytes", [][]byte{good}, "/studies", [][]byte{other}, 202, []string{"1.2.3.1 45057"}},
		{"none", nil, "/studies", [][]byte{broken, ct}, 409, []string{"1.2.3.3 f290", "f49152"}},
	} {
		d := openDurable(t, t.TempDir(), DurableOptions{})
		d.opts.Limits.FileBytes = 20 << 10
		for _, o := range c.held {
			stored(t, d.do(stow(t, "/studies", o)))
		}
		w := d.do(stow(t, c.path, c.objects...))
		if got := stored(t, w); w.Code != c.status || !cmp.Equal(got, c.want) {
			t.Errorf("%s: %d %q, want %d %q", c.name, w.Code, got, c.status, c.want)
		}
		// What is said to be kept can be had, and nothing else.
		kept := map[string]bool{}
		for _, st := range d.d.store.All() {
			for _, o := range st.Objects {
				kept[o.SOPInstanceUID] = o.Source.Via == "stow" && d.d.gate.Waiting(st.UID)
			}
		}
		for _, one := range c.want {
			uid, note, _ := strings.Cut(one, " ")
			if ok := !strings.HasPrefix(note, "f") && !strings.HasPrefix(uid, "f"); kept[uid] != ok {
				t.Errorf("%s: %s is kept: %v", c.name, uid, kept[uid])
			}
		}
		d.stop()
	}
}

func TestStow_Refusals(t *testing.T) {
	good := explicit(t, nil)
	with := func(header, value string) *http.Request {
		r := stow(t, "/studies", good)
		r.Header.Set(header, value)
		return r
	}
	cut := stow(t, "/studies", good, good)
	whole, err := io.ReadAll(cut.Body)
	if err != nil {
		t.Fatal(err)
	}
	cut.Body = io.NopCloser(bytes.NewReader(whole[:len(whole)-300]))
	d := openDurable(t, t.TempDir(), DurableOptions{})
	d.opts.Limits = Limits{RequestBytes: 100 << 10, FileBytes: 20 << 10, Files: 3}
	for _, c := range []struct {
		name   string
		r      *http.Request
		status int
		code   string
	}{
		{"broken off", cut, 400, "malformed_multipart"},
		{"no part", stow(t, "/studies"), 400, "nothing_sent"},
		{"no boundary", with("Content-Type", `multipart/related; type="application/dicom"`), 400, "malformed_multipart"},
		{"no UID in the path", stow(t, "/studies/x", good), 400, "malformed_uid"},
		{"metadata", with("Content-Type", `multipart/related; type="application/dicom+json"; boundary=a`), 415, "unsupported_media_type"},
		{"form", with("Content-Type", `multipart/form-data; boundary=a`), 415, "unsupported_media_type"},
		{"one object", with("Content-Type", `application/dicom`), 415, "unsupported_media_type"},
		{"no type", with("Content-Type", ""), 415, "unsupported_media_type"},
		{"compressed", with("Content-Encoding", "gzip"), 415, "unsupported_media_type"},
		{"XML wanted", with("Accept", "application/dicom+xml"), 406, "not_acceptable"},
		{"too large an object", stow(t, "/studies", explicit(t, map[tag.Tag]any{tag.PixelData: make([]byte, 40<<10)})), 413, "file_too_large"},
		{"too many objects", stow(t, "/studies", good, good, good, good), 413, "too_many_files"},
		{"too large a request", stow(t, "/studies", make([]byte, 200<<10)), 413, "request_too_large"},
	} {
		if p := problemOf(t, d.do(c.r)); p.Status != c.status || p.Code != c.code {
			t.Errorf("%s: %+v", c.name, p)
		}
		if n := len(d.d.store.All()); n > 0 || d.d.gate.Waiting("1.2.3") {
			t.Errorf("%s: %d studies are held", c.name, n)
		}
	}
	if p := problemOf(t, (&durable{Server: NewServer(ServerOptions{Logger: quiet})}).do(stow(t, "/studies", good))); p.Code != "no_store" {
		t.Errorf("without a store: %+v", p)
	}
	for range cap(d.intake) {
		d.intake <- struct{}{}
	}
	if w := d.do(stow(t, "/studies", good)); problemOf(t, w).Code != "busy" || w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("busy: %d %s", w.Code, w.Body)
	}
}

func TestStow_TypeWithoutQuotes(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	r := stow(t, "/studies", explicit(t, nil))
	quoted := r.Header.Get("Content-Type")
	r.Header.Set("Content-Type", strings.Replace(quoted, `"application/dicom"`, "application/dicom", 1))
	if r.Header.Get("Content-Type") == quoted {
		t.Fatalf("%s has no quotes", quoted)
	}
	if got := stored(t, d.do(r)); len(got) != 1 {
		t.Errorf("stored %q", got)
	}
}

func TestStow_HostileMultipart(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	d.opts.Limits = Limits{RequestBytes: 1 << 20, FileBytes: 20 << 10, Files: 3}
	good := string(explicit(t, nil))
	const head = "Content-Type: application/dicom\r\n"
	for name, body := range map[string]string{
		"no boundary":                strings.Repeat("x", 100<<10),
		"lines and no boundary":      strings.Repeat("x\r\n", 100<<10),
		"nothing":                    "",
		"boundary alone":             "--b",
		"head that does not end":     "--b\r\n" + head,
		"head without a colon":       "--b\r\nhello\r\n\r\n" + good + "\r\n--b--\r\n",
		"head of many lines":         "--b\r\n" + strings.Repeat("A: b\r\n", 50_000) + "\r\n" + good + "\r\n--b--\r\n",
		"head of one long line":      "--b\r\nA: " + strings.Repeat("x", 1<<20) + "\r\n\r\n" + good + "\r\n--b--\r\n",
		"parts without end":          strings.Repeat("--b\r\n"+head+"\r\n\r\n", 1000),
		"good object, no end":        "--b\r\n" + head + "\r\n" + good,
		"good object, wrong end":     "--b\r\n" + head + "\r\n" + good + "\r\n--c--\r\n",
		"good object, then too much": "--b\r\n" + head + "\r\n" + good + "\r\n--b--\r\n" + strings.Repeat("x", 1<<20),
	} {
		r := httptest.NewRequest("POST", "/dicom-web/studies", strings.NewReader(body))
		r.Header.Set("Content-Type", `multipart/related; type="application/dicom"; boundary=b`)
		if p := problemOf(t, d.do(r)); p.Status != 400 && p.Status != 413 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if n := len(d.d.store.All()); n > 0 {
		t.Errorf("%d studies are held", n)
	}
}

func TestStow_DiskFillsUp(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	for _, c := range []struct {
		room   int // objects
		status int
		want   []string
	}{
		{0, 503, nil},
		{1, 202, []string{"1.2.3.1", "1.2.3.2 f42752"}},
		{2, 200, []string{"1.2.3.1", "1.2.3.2"}},
	} {
		left := c.room
		var err error
		d.d.store, err = studies.Open(t.TempDir(), studies.Options{Disk: func() (uint64, uint64, error) {
			if left--; left < 0 {
				return 100, 5, nil
			}
			return 100, 50, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		w := d.do(stow(t, "/studies", explicit(t, nil), explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"})))
		if c.want == nil {
			if p := problemOf(t, w); w.Code != c.status || p.Code != "disk_full" || w.Header().Get("Retry-After") != "1" {
				t.Errorf("room for %d: %+v", c.room, p)
			}
		} else if got := stored(t, w); w.Code != c.status || !cmp.Equal(got, c.want) {
			t.Errorf("room for %d: %d %q", c.room, w.Code, got)
		}
	}
}

func TestStow_EndOfRequestCompletes(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Hour, Limit: time.Hour})
	d.run(t, &fakeModel{})
	first := explicit(t, map[tag.Tag]any{tag.StudyInstanceUID: "1.5"})
	stored(t, d.do(stow(t, "/studies?complete=false", first)))
	again := stow(t, "/studies", first)
	again.Header.Set("Study-Complete", "false")
	stored(t, d.do(again))
	stored(t, d.do(stow(t, "/studies", explicit(t, nil))))
	// Both pass the same gate: what comes out of it first is the study that was closed.
	for e := range d.events {
		if e.StudyInstanceUID == "1.5" {
			t.Fatalf("a study is %s though its sender said that more is to come", e.State)
		}
		if e.State == "done" {
			break
		}
	}
	if state := d.study(t, "1.5").State; state != StateReceiving {
		t.Errorf("the study of which more is to come is %s", state)
	}
}

// A sender that stops in the middle of an object is told so, and nothing of its request is kept.
func TestStow_SlowSender(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	d.opts.ReadTimeout = 50 * time.Millisecond
	network, stop, stopped := running(t, d.Server)
	client := http.Client{Transport: &http.Transport{DialContext: network.dial}}
	r := stow(t, "/studies", explicit(t, nil), explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"}))
	whole, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, sender := io.Pipe()
	go sender.Write(whole[:len(whole)-200]) // and then nothing more
	rq, err := http.NewRequestWithContext(t.Context(), "POST", "http://server/dicom-web/studies", body)
	if err != nil {
		t.Fatal(err)
	}
	rq.Header = r.Header
	response, err := client.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	var p Problem
	if err := errors.Join(json.NewDecoder(response.Body).Decode(&p), response.Body.Close()); err != nil || p.Status != 408 {
		t.Errorf("%v: %+v", err, p)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := len(d.d.store.All()); n > 0 || d.d.gate.Waiting("1.2.3") {
		t.Errorf("%d studies are held", n)
	}
}

// While a request is on its way its study is not complete, however long its sender pauses.
func TestStow_SlowSenderDoesNotSplitAStudy(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Millisecond})
	d.run(t, &fakeModel{})
	network, stop, stopped := running(t, d.Server)
	client := http.Client{Transport: &http.Transport{DialContext: network.dial}}
	views := servetest.Study("1.2", 1)
	r := stow(t, "/studies", views[0].Bytes(t), views[1].Bytes(t))
	whole, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, sender := io.Pipe()
	go func() {
		sender.Write(whole[:len(whole)-200])
		// Another study comes and is classified: that takes longer than the quiet period.
		if w := d.do(stow(t, "/studies", servetest.Object{Study: "1.9"}.Bytes(t))); w.Code != 200 {
			t.Errorf("the other study: %d %s", w.Code, w.Body)
		}
		d.wait(t, "1.9", "done")
		sender.Write(whole[len(whole)-200:])
		sender.Close()
	}()
	rq, err := http.NewRequestWithContext(t.Context(), "POST", "http://server/dicom-web/studies", body)
	if err != nil {
		t.Fatal(err)
	}
	rq.Header = r.Header
	response, err := client.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	d.wait(t, "1.2", "done")
	if doc := d.study(t, "1.2"); len(doc.Outcomes) != 1 || len(doc.Result.Views) != 2 {
		t.Errorf("%+v", doc)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
