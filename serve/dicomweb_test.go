package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/serve/studies"
)

// image is an object with the attributes that searches are about. Those of set take the place of its own.
func image(t testing.TB, syntax string, set map[tag.Tag]any) []byte {
	t.Helper()
	values := map[tag.Tag]any{
		tag.SOPClassUID: "1.2.840.10008.5.1.4.1.1.1.1", tag.SOPInstanceUID: "1.2.3.1", tag.StudyInstanceUID: "1.2.3", tag.SeriesInstanceUID: "1.2.3.4",
		tag.SpecificCharacterSet: "ISO_IR 192", tag.PatientID: "P1", tag.PatientName: "Müller^Jana", tag.PatientBirthDate: "19700101", tag.PatientSex: "F",
		tag.StudyDate: "20260102", tag.StudyTime: "101530.5", tag.AccessionNumber: "A1", tag.StudyID: "7", tag.StudyDescription: "CHEST 2V",
		tag.Modality: "DX", tag.SeriesNumber: "1", tag.InstanceNumber: "1", tag.BodyPartExamined: "CHEST", tag.ViewPosition: "PA",
		tag.Rows: 8, tag.Columns: 8, tag.BitsAllocated: 16, tag.BitsStored: 12, tag.HighBit: 11, tag.PixelRepresentation: 0, tag.SamplesPerPixel: 1,
		tag.PhotometricInterpretation: "MONOCHROME2", tag.PixelData: bytes.Repeat([]byte{1, 2}, 64),
	}
	maps.Copy(values, set)
	var elems []dicom.Element
	for key, value := range values {
		elems = append(elems, dicom.Element{Tag: key, Value: value})
	}
	var file bytes.Buffer
	if err := dicom.Write(&file, syntax, elems); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// explicit is an image in the transfer syntax that every caller takes.
func explicit(t testing.TB, set map[tag.Tag]any) []byte {
	return image(t, dicom.ExplicitVRLittleEndian, set)
}

// stow is a STOW-RS request.
func stow(t testing.TB, path string, objects ...[]byte) *http.Request {
	t.Helper()
	var list []Upload
	for _, o := range objects {
		list = append(list, Upload{Data: o})
	}
	media, body := relatedOf(t, list)
	r := httptest.NewRequest("POST", "/dicom-web"+path, bytes.NewReader(body))
	r.Header.Set("Content-Type", media)
	return r
}

func (d *durable) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	return w
}

func (d *durable) get(path, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/dicom-web"+path, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	return d.do(r)
}

// element is an attribute as a caller reads it.
type element struct {
	VR    string            `json:"vr"`
	Value []json.RawMessage `json:"Value"`
}

type dataset map[string]element

// text is the first value of an element, without quotes.
func (d dataset) text(name string) string {
	if e := d[name]; len(e.Value) > 0 {
		return strings.Trim(string(e.Value[0]), `"`)
	}
	return ""
}

func (d dataset) items(t testing.TB, name string) (list []dataset) {
	t.Helper()
	for _, raw := range d[name].Value {
		var item dataset
		if err := json.Unmarshal(raw, &item); err != nil {
			t.Fatal(err)
		}
		list = append(list, item)
	}
	return list
}

// stored is a STOW-RS answer in short: "UID" for what is kept, "UID w" for a warning, "UID f" for a failure.
func stored(t testing.TB, w *httptest.ResponseRecorder) (list []string) {
	t.Helper()
	var doc dataset
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Header().Get("Content-Type") != "application/dicom+json" {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	for _, item := range doc.items(t, "00081199") {
		uid := item.text("00081155")
		if at := item.text("00081190"); !strings.HasPrefix(at, "http://example.com/dicom-web/studies/") || !strings.HasSuffix(at, "/instances/"+uid) || item.text("00081150") == "" {
			t.Errorf("reference %v", item)
		}
		list = append(list, strings.TrimSpace(uid+" "+item.text("00081196")))
	}
	for _, item := range append(doc.items(t, "00081198"), doc.items(t, "0008119A")...) {
		list = append(list, strings.TrimSpace(item.text("00081155")+" f"+item.text("00081197")))
	}
	slices.Sort(list)
	return list
}

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

// discard is the answer to a caller who only counts.
type discard struct {
	header http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { d.bytes += len(b); return len(b), nil }

// Neither taking in nor handing out takes memory with the object.
func TestDicomweb_MemoryDoesNotGrowWithTheObject(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	const size = 24 << 20
	rq := stow(t, "/studies", explicit(t, map[tag.Tag]any{tag.PixelData: make([]byte, size)}))
	allocated := func(do func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	w := &discard{header: http.Header{}}
	if n := allocated(func() { d.Handler().ServeHTTP(w, rq) }); n > size/4 || w.status != 200 {
		t.Errorf("status %d, %d bytes allocated to store", w.status, n)
	}
	w = &discard{header: http.Header{}}
	get := httptest.NewRequest("GET", "/dicom-web/studies/1.2.3", nil)
	if n := allocated(func() { d.Handler().ServeHTTP(w, get) }); n > size/4 || w.status != 200 || w.bytes < size {
		t.Errorf("status %d, %d bytes allocated to hand out %d", w.status, n, w.bytes)
	}
	w = &discard{header: http.Header{}}
	get = httptest.NewRequest("GET", "/dicom-web/studies/1.2.3/metadata", nil)
	if n := allocated(func() { d.Handler().ServeHTTP(w, get) }); n > size/4 || w.status != 200 {
		t.Errorf("status %d, %d bytes allocated for metadata", w.status, n)
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
		if e.State == StateQueued && e.StudyInstanceUID == "1.5" {
			t.Fatal("a study is complete though its sender said that more is to come")
		}
		if e.State == StateQueued && e.StudyInstanceUID == "1.2.3" {
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

// retrieved is the objects of a WADO-RS answer.
func retrieved(t testing.TB, header http.Header, body io.Reader) (objects [][]byte, syntaxes []string) {
	t.Helper()
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || media != "multipart/related" || params["type"] != "application/dicom" {
		t.Fatalf("%s, %v", header.Get("Content-Type"), err)
	}
	for parts := multipart.NewReader(body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			return objects, syntaxes
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		_, params, err := mime.ParseMediaType(textproto.MIMEHeader(part.Header).Get("Content-Type"))
		if err != nil || part.Header.Get("Content-Length") != fmt.Sprint(len(data)) {
			t.Errorf("part %v of %d bytes, %v", part.Header, len(data), err)
		}
		objects, syntaxes = append(objects, data), append(syntaxes, params["transfer-syntax"])
	}
}

func TestWado_RetrievesWhatWasSent(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	sent := [][]byte{
		explicit(t, nil),
		image(t, dicom.JPEG2000Lossless, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"}),
		explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.3", tag.SeriesInstanceUID: "1.2.3.5"}),
	}
	stored(t, d.do(stow(t, "/studies", sent...)))
	for path, want := range map[string][][]byte{
		"/studies/1.2.3":                                      sent,
		"/studies/1.2.3/series/1.2.3.4":                       sent[:2],
		"/studies/1.2.3/series/1.2.3.4/instances/1.2.3.2":     sent[1:2],
		"/studies/1.2.3/series/1.2.3.5/instances/1.2.3.3":     sent[2:],
		"/studies/1.2.3?accept=multipart/*;transfer-syntax=*": sent,
	} {
		w := d.get(path, `multipart/related; type="application/dicom"; transfer-syntax=*`)
		length := w.Body.Len()
		got, syntaxes := retrieved(t, w.Header(), w.Body)
		if diff := cmp.Diff(want, got); diff != "" || w.Header().Get("Content-Length") != fmt.Sprint(length) {
			t.Errorf("%s: %s bytes, %s", path, w.Header().Get("Content-Length"), diff)
		}
		for i, o := range got {
			if m, _, err := dicom.ReadMeta(o); err != nil || m.TransferSyntaxUID != syntaxes[i] {
				t.Errorf("%s: %s is called %s, %v", path, m.TransferSyntaxUID, syntaxes[i], err)
			}
		}
	}
}

func TestWado_Negotiation(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	stored(t, d.do(stow(t, "/studies", explicit(t, nil), image(t, dicom.JPEG2000Lossless, map[tag.Tag]any{tag.StudyInstanceUID: "1.5", tag.SOPInstanceUID: "1.5.1"}))))
	for accept, want := range map[string][2]int{ // uncompressed, compressed
		"":    {200, 200},
		"*/*": {200, 200},
		`multipart/related; type="application/dicom"`:                                                  {200, 406},
		`multipart/related; type=application/dicom; transfer-syntax=*`:                                 {200, 200},
		`multipart/related;type="application/dicom";transfer-syntax=` + dicom.JPEG2000Lossless:         {406, 200},
		`multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50, */*;q=0`: {406, 406},
		`multipart/related; type="application/octet-stream"`:                                           {406, 406},
		`image/jpeg, multipart/related; type="application/dicom"; transfer-syntax=*;q=0.1`:             {200, 200},
		"application/dicom+json": {406, 406},
	} {
		for i, study := range []string{"1.2.3", "1.5"} {
			w := d.get("/studies/"+study, accept)
			if w.Code != want[i] {
				t.Errorf("Accept: %s: study %s: %d, want %d", accept, study, w.Code, want[i])
			}
			if w.Code == 406 {
				problemOf(t, w)
			}
		}
	}
	for path, code := range map[string]string{
		"/studies/1.7": "no_such_study", "/studies/1.2.3/series/1": "no_such_instance", "/studies/1.2.3/series/1.2.3.4/instances/9": "no_such_instance",
		"/studies/1.2.3/metadata/x": "not_found", "/studies/a": "malformed_uid", "/studies/1.2.3/series/..x": "malformed_uid",
		"/studies/1.2.3/rendered": "not_offered", "/studies/1.2.3/series/1.2.3.4/instances/1.2.3.1/frames/1": "not_offered",
		"/studies/1.7/metadata": "no_such_study",
	} {
		if p := problemOf(t, d.get(path, "")); p.Code != code {
			t.Errorf("%s: %+v", path, p)
		}
	}
	if p := problemOf(t, d.get("/studies/1.2.3/metadata", "application/dicom+xml")); p.Status != 406 {
		t.Errorf("metadata as XML: %+v", p)
	}
}

func TestWado_ConflictingObjects(t *testing.T) {
	first, last := explicit(t, nil), explicit(t, map[tag.Tag]any{tag.PatientID: "P2"})
	d := openDurable(t, t.TempDir(), DurableOptions{})
	stored(t, d.do(stow(t, "/studies", first)))
	stored(t, d.do(stow(t, "/studies", last)))
	for rule, want := range map[studies.Conflicts][][]byte{studies.UseBoth: {first}, studies.UseFirst: {first}, studies.UseLast: {last}} {
		d.d.opts.Conflicts = rule
		w := d.get("/studies/1.2.3", "")
		if got, _ := retrieved(t, w.Header(), w.Body); !cmp.Equal(got, want) {
			t.Errorf("%s: %d objects", rule, len(got))
		}
		if found := search(t, d, "/instances"); len(found) != 1 {
			t.Errorf("%s: %d instances", rule, len(found))
		}
	}
}

// A file that has lost its end must not look like a whole object.
func TestWado_DamagedFileBreaksOff(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	stored(t, d.do(stow(t, "/studies", explicit(t, nil))))
	found, err := d.d.store.Find(t.Context(), "1.2.3.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.d.store.Path(found[0]), found[0].Size-10); err != nil {
		t.Fatal(err)
	}
	network, stop, stopped := running(t, d.Server)
	client := http.Client{Transport: &http.Transport{DialContext: network.dial}}
	response, err := client.Get("http://server/dicom-web/studies/1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer ended with %v", err)
	}
	response.Body.Close()
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestWado_Metadata(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	// A header that is longer than what is read of a file at first.
	long := strings.Repeat("x", 2*headBytes)
	stored(t, d.do(stow(t, "/studies", explicit(t, nil), image(t, dicom.RLELossless, map[tag.Tag]any{
		tag.SOPInstanceUID: "1.2.3.2", tag.PatientName: "A^B=C", tag.TextValue: long,
	}))))
	w := d.get("/studies/1.2.3/series/1.2.3.4/metadata", "application/dicom+json")
	var docs []dataset
	if err := json.Unmarshal(w.Body.Bytes(), &docs); err != nil || w.Header().Get("Content-Type") != "application/dicom+json" || len(docs) != 2 {
		t.Fatalf("%v: %s", err, w.Body)
	}
	for i, want := range []map[string]string{
		{"00080018": "1.2.3.1", "00100010": `{"Alphabetic":"Müller^Jana"}`, "00280010": "8", "0040A160": ""},
		{"00080018": "1.2.3.2", "00100010": `{"Alphabetic":"A^B","Ideographic":"C"}`, "0040A160": long},
	} {
		for name, value := range want {
			if got := docs[i].text(name); got != value {
				t.Errorf("%s is %s, want %s", name, got, value)
			}
		}
		if _, ok := docs[i]["7FE00010"]; ok {
			t.Error("there are pixels")
		}
	}
}
