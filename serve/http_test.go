package serve

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/serve/api"
	"github.com/mvmae/mvmae/serve/servetest"
)

var quiet = slog.New(slog.DiscardHandler)

// readyServer answers with a fake model.
func readyServer(t testing.TB, f *fakeModel, opts ServerOptions) *Server {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	s := NewServer(opts)
	ready(s, fakeEngine(t, f, Options{}))
	return s
}

// post sends a body to the handler itself.
func post(s *Server, contentType string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, pathClassify, body)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func formOf(t testing.TB, list []Upload) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range list {
		part, err := w.CreateFormFile("file", f.Name)
		if err != nil {
			t.Fatal(err)
		}
		part.Write(f.Data)
	}
	w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func relatedOf(t testing.TB, list []Upload) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range list {
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/dicom"}})
		if err != nil {
			t.Fatal(err)
		}
		part.Write(f.Data)
	}
	w.Close()
	return fmt.Sprintf(`multipart/related; type="application/dicom"; boundary=%q`, w.Boundary()), b.Bytes()
}

func zipOf(t testing.TB, list []Upload) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range list {
		entry, err := w.Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		entry.Write(f.Data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func resultOf(t testing.TB, w *httptest.ResponseRecorder) *Result {
	t.Helper()
	var r Result
	if err := json.Unmarshal(w.Body.Bytes(), &r); w.Code != http.StatusOK || err != nil {
		t.Fatalf("status %d, %v: %s", w.Code, err, w.Body)
	}
	return &r
}

// problemOf checks what holds for every problem.
func problemOf(t testing.TB, w *httptest.ResponseRecorder) *Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("status %d, %v: %s", w.Code, err, w.Body)
	}
	if media := w.Header().Get("Content-Type"); media != "application/problem+json" || p.Status != w.Code ||
		p.Type != api.PathErrors+"#"+p.Code || p.Title == "" || p.Code == "" || p.Detail == "" {
		t.Errorf("status %d, %s: %s", w.Code, media, w.Body)
	}
	return &p
}

func TestHTTP_EveryWayToSendGivesTheSameAnswer(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	list := files(t, servetest.Study("1.2.3", 1)...)
	want, err := engineOf(t, s).Classify(t.Context(), Uploads(list...))
	if err != nil {
		t.Fatal(err)
	}
	form, formBody := formOf(t, list)
	related, relatedBody := relatedOf(t, list)
	for _, c := range []struct {
		contentType string
		body        []byte
	}{
		{form, formBody}, {related, relatedBody},
		{"application/zip", zipOf(t, append(list, Upload{Name: "__MACOSX/a.dcm"}, Upload{Name: ".DS_Store"}, Upload{Name: "d/DICOMDIR"}, Upload{Name: "folder/"}))},
	} {
		got := resultOf(t, post(s, c.contentType, bytes.NewReader(c.body)))
		if diff := cmp.Diff(want, got, ignoreTimings); diff != "" {
			t.Errorf("%s (-engine +http)\n%s", c.contentType, diff)
		}
	}
	want, err = engineOf(t, s).Classify(t.Context(), Uploads(list[0]))
	if err != nil {
		t.Fatal(err)
	}
	got := resultOf(t, post(s, "application/dicom", bytes.NewReader(list[0].Data)))
	if diff := cmp.Diff(want, got, ignoreTimings); diff != "" {
		t.Errorf("application/dicom (-engine +http)\n%s", diff)
	}
}

// endless is a body that never ends and counts what is taken of it.
type endless struct{ taken int }

func (e *endless) Read(p []byte) (int, error) {
	e.taken += len(p)
	return len(p), nil
}

func TestHTTP_Problems(t *testing.T) {
	const kib = 1 << 10
	object := servetest.Object{}.Bytes(t) // some 9 kB
	small := Limits{RequestBytes: 100 * kib, FileBytes: 40 * kib, Files: 3}
	zeros := func(n int) []byte { return make([]byte, n) }
	form, formBody := formOf(t, []Upload{{Name: "a", Data: object}})
	_, manyBody := formOf(t, []Upload{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}})
	encrypted := zipOf(t, []Upload{{Name: "a", Data: object}})
	encrypted[bytes.LastIndex(encrypted, []byte("PK\x01\x02"))+8] |= 1 // general purpose flags of the directory
	damaged := zipOf(t, []Upload{{Name: "a", Data: object}})
	damaged[200] ^= 0xff
	for _, c := range []struct {
		name, contentType string
		body              []byte
		status            int
		code, detail      string
	}{
		{"no content type", "", object, 415, "unsupported_media_type", "no Content-Type"},
		{"wrong content type", "image/png", object, 415, "unsupported_media_type", "image/png"},
		{"unreadable content type", "a/b/c", object, 415, "unsupported_media_type", "a/b/c"},
		{"related of another type", `multipart/related; type="image/jpeg"; boundary=b`, object, 415, "unsupported_media_type", "image/jpeg"},
		{"no boundary", "multipart/form-data", formBody, 400, "malformed_multipart", "boundary"},
		{"other boundary", "multipart/form-data; boundary=x", formBody, 400, "malformed_multipart", "body"},
		{"cut-off form", form, formBody[:len(formBody)-20], 400, "malformed_multipart", "file a"},
		{"too many files", multipartType(t, manyBody), manyBody, 413, "too_many_files", "more than 3"},
		{"empty", "application/dicom", nil, 422, "no_usable_view", "objects rejected: 1"},
		{"no part", "multipart/form-data; boundary=x", []byte("--x--\r\n"), 422, "no_usable_view", "no object"},
		{"request too large", form, append(zeros(110*kib), formBody...), 413, "request_too_large", "102400 bytes"},
		{"file too large", "application/dicom", zeros(50 * kib), 413, "file_too_large", "40960 bytes"},
		{"not a zip", "application/zip", object, 400, "malformed_zip", "the body"},
		{"zip bomb", "application/zip", zipOf(t, []Upload{{Name: "bomb", Data: zeros(10 << 20)}}), 413, "file_too_large", "bomb"},
		{"zip of many small bombs", "application/zip", zipOf(t, []Upload{
			{Name: "a", Data: zeros(39 * kib)}, {Name: "b", Data: zeros(39 * kib)}, {Name: "c", Data: zeros(39 * kib)},
		}), 413, "request_too_large", "102400 bytes"},
		{"zip of too many", "application/zip", zipOf(t, []Upload{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}), 413, "too_many_files", "more than 3"},
		{"encrypted zip", "application/zip", encrypted, 400, "malformed_zip", "file a is encrypted"},
		{"damaged zip", "application/zip", damaged, 400, "malformed_zip", "file a"},
		{"two studies", "application/zip", zipOf(t, []Upload{{Name: "a", Data: object}, {Name: "b", Data: servetest.Object{Study: "9"}.Bytes(t)}}),
			422, "two_studies", HashUID("9")},
	} {
		f := &fakeModel{}
		p := problemOf(t, post(readyServer(t, f, ServerOptions{Limits: small}), c.contentType, bytes.NewReader(c.body)))
		if p.Status != c.status || p.Code != c.code || !strings.Contains(p.Detail, c.detail) || f.runs != 0 {
			t.Errorf("%s: %+v after %d runs", c.name, p, f.runs)
		}
	}
}

// multipartType is the content type of a body that package multipart wrote.
func multipartType(t testing.TB, body []byte) string {
	t.Helper()
	line, _, found := bytes.Cut(body, []byte("\r\n"))
	if !found {
		t.Fatal("no multipart body")
	}
	return "multipart/form-data; boundary=" + strings.TrimPrefix(string(line), "--")
}

func TestHTTP_DirectoryOfAZipIsBounded(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range 30_000 {
		if _, err := w.Create(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Without the bound it would be refused for the number of its files, but only after all were looked at.
	p := problemOf(t, post(readyServer(t, &fakeModel{}, ServerOptions{}), "application/zip", &b))
	if p.Code != "too_many_files" || !strings.Contains(p.Detail, "directory") {
		t.Errorf("%+v", p)
	}
}

func TestHTTP_OneGigabyte(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	t.Run("declared", func(t *testing.T) {
		body := &endless{}
		r := httptest.NewRequest(http.MethodPost, pathClassify, body)
		r.Header.Set("Content-Type", "application/dicom")
		r.ContentLength = 1 << 30
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if p := problemOf(t, w); p.Code != "request_too_large" || p.Status != 413 || body.taken != 0 {
			t.Errorf("%+v after reading %d bytes", p, body.taken)
		}
	})
	t.Run("streamed", func(t *testing.T) {
		const limit = 1 << 20
		s := readyServer(t, &fakeModel{}, ServerOptions{Limits: Limits{RequestBytes: limit}})
		server := httptest.NewServer(s.Handler())
		defer server.Close()
		response, err := http.Post(server.URL+pathClassify, "application/zip", io.LimitReader(&endless{}, 1<<30))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != 413 {
			t.Errorf("status %d", response.StatusCode)
		}
		body := &endless{}
		if p := problemOf(t, post(s, "application/zip", body)); p.Code != "request_too_large" || body.taken > 2*limit {
			t.Errorf("%+v after reading %d bytes", p, body.taken)
		}
	})
}

// memory is what a function allocates in all.
func memory(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHTTP_DeclaredSizeCostsNothing(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	for _, media := range []string{"application/dicom", "application/zip"} {
		r := httptest.NewRequest(http.MethodPost, pathClassify, strings.NewReader("little"))
		r.Header.Set("Content-Type", media)
		r.ContentLength = 100 << 20
		w := httptest.NewRecorder()
		used := memory(func() { s.Handler().ServeHTTP(w, r) })
		if problemOf(t, w); used > 4<<20 {
			t.Errorf("%s: %d MiB allocated for 6 bytes", media, used>>20)
		}
	}
}

// A zip archive is on disk while it is read, and nowhere afterwards.
func TestHTTP_ZipIsNotHeldInMemory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, data := range map[string][]byte{".hidden": make([]byte, 64<<20), "a": servetest.Object{}.Bytes(t)} {
		entry, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		entry.Write(data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	var answer *httptest.ResponseRecorder
	if used := memory(func() { answer = post(s, "application/zip", &b) }); used > 8<<20 {
		t.Errorf("%d MiB allocated", used>>20)
	}
	resultOf(t, answer)
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestHTTP_NoRoomForAZipIsNotTheCallersFault(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "nowhere"))
	p := problemOf(t, post(readyServer(t, &fakeModel{}, ServerOptions{}), "application/zip", strings.NewReader("zip")))
	if p.Status != 500 || p.Code != "internal" || strings.Contains(p.Detail, "nowhere") {
		t.Errorf("%+v", p)
	}
}

func TestHTTP_AttentionIsRefused(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	object := servetest.Object{}.Bytes(t)
	for query, refused := range map[string]bool{"": false, "?attention=false": false, "?attention=true": true, "?attention": true, "?attention=1": true} {
		body := &endless{}
		r := httptest.NewRequest(http.MethodPost, pathClassify+query, body)
		if !refused {
			r = httptest.NewRequest(http.MethodPost, pathClassify+query, bytes.NewReader(object))
		}
		r.Header.Set("Content-Type", "application/dicom")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if !refused {
			resultOf(t, w)
		} else if p := problemOf(t, w); p.Status != 422 || p.Code != "no_attention" || body.taken != 0 {
			t.Errorf("%s: %+v after %d bytes", query, p, body.taken)
		}
	}
}

func TestHTTP_AttentionIsShownWhenAsked(t *testing.T) {
	s := readyServer(t, &fakeModel{attend: true}, ServerOptions{})
	for query, want := range map[string][][]float32{
		"": nil, "?attention=false": nil, "?attention=true": {{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}, {12, 13, 14, 15}},
	} {
		r := httptest.NewRequest(http.MethodPost, pathClassify+query, bytes.NewReader(servetest.Object{}.Bytes(t)))
		r.Header.Set("Content-Type", "application/dicom")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if diff := cmp.Diff(want, resultOf(t, w).Views[0].Attention); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}

func TestHTTP_Routes(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	object := servetest.Object{}.Bytes(t)
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"POST", "/v1/studies:classify", 200, ""},
		{"POST", "/v1/studies%3Aclassify", 200, ""},
		{"POST", "/v1/studiesXclassify", 404, "not_found"},
		{"POST", "/v1/studies:classifyX", 404, "not_found"},
		{"POST", "/v1/studiesX", 404, "not_found"},
		{"POST", `/v1/studies\:classify`, 404, "not_found"},
		{"POST", "/v1/studies", 501, "no_store"},
		{"GET", "/v1/studies/1.2", 501, "no_store"},
		{"GET", "/v1/events", 501, "no_store"},
		{"DELETE", "/v1/studies", 405, "method_not_allowed"},
		{"POST", "/v1/studies:classify/", 404, "not_found"},
		{"GET", "/v1/studies:classify", 405, "method_not_allowed"},
		{"GET", "/livez", 200, ""},
		{"GET", "/readyz", 200, ""},
		{"GET", "/openapi.json", 200, ""},
		{"GET", "/docs", 200, ""},
		{"GET", "/docs/errors", 200, ""},
		{"GET", "/", 404, "not_found"},
	} {
		r := httptest.NewRequest(c.method, strings.ReplaceAll(c.path, `\`, "%5C"), bytes.NewReader(object))
		r.Header.Set("Content-Type", "application/dicom")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s %s: status %d, want %d: %s", c.method, c.path, w.Code, c.status, w.Body)
		} else if c.code != "" {
			if p := problemOf(t, w); p.Code != c.code {
				t.Errorf("%s %s: %+v", c.method, c.path, p)
			}
		}
	}
}

func TestHTTP_CompressedBodyIsRefused(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, pathClassify, &endless{})
	r.Header.Set("Content-Type", "application/dicom")
	r.Header.Set("Content-Encoding", "gzip")
	w := httptest.NewRecorder()
	readyServer(t, &fakeModel{}, ServerOptions{}).Handler().ServeHTTP(w, r)
	if p := problemOf(t, w); p.Status != 415 || !strings.Contains(p.Detail, "gzip") {
		t.Errorf("%+v", p)
	}
}

func TestHTTP_PanicIsAProblem(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	p := problemOf(t, post(s, "application/dicom", panicking{}))
	if p.Status != 500 || p.Code != "internal" || strings.Contains(p.Detail, "DOE") {
		t.Errorf("%+v", p)
	}
	if len(s.house) != 0 {
		t.Error("the study is still in the house")
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic(errors.New("DOE^JANE")) }

func TestLog_HasHashesAndNoPatientData(t *testing.T) {
	var log bytes.Buffer
	s := readyServer(t, &fakeModel{}, ServerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	form, body := formOf(t, []Upload{{Name: "DOE_JANE.dcm", Data: servetest.Object{Study: "1.2.345", Patient: "P77"}.Bytes(t)}})
	resultOf(t, post(s, form, bytes.NewReader(body)))
	form, body = formOf(t, []Upload{{Name: "DOE_JANE.txt", Data: []byte("DOE")}})
	problemOf(t, post(s, form, bytes.NewReader(body)))
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("DOE", "/DOE", nil))
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for i, want := range [][]string{
		{"method=POST", "route=" + pathClassify, "status=200", "duration=", "study=" + HashUID("1.2.345")},
		{"status=422", "code=no_usable_view"},
		{"method=_OTHER", `route=""`, "status=404", "code=not_found"},
	} {
		for _, part := range want {
			if len(lines) != 3 || !strings.Contains(lines[i], part) {
				t.Errorf("line %d lacks %q:\n%s", i, part, log.String())
			}
		}
	}
	for _, secret := range []string{"DOE", "1.2.345", "P77"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, log.String())
		}
	}
}
