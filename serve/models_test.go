package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve/servetest"
)

// single is a set of one model that is loaded.
func single(e *Engine) *Models {
	m := NewModels(ModelsOptions{File: "model.onnx", Logger: quiet, open: func(string) (*Engine, error) { return e, nil }})
	if err := m.Load(); err != nil {
		panic(err)
	}
	return m
}

// ready gives a server its one model.
func ready(s *Server, e *Engine) { s.opts.Models = single(e) }

func engineOf(t testing.TB, s *Server) *Engine {
	t.Helper()
	e, release, err := s.opts.Models.Use("", "")
	if err != nil {
		t.Fatal(err)
	}
	release()
	return e
}

// folder is a folder of model files whose content is "NAME VERSION", or a fault.
type folder struct {
	t      *testing.T
	dir    string
	models map[string]*fakeModel // by content, as opened last
	opened int
	during func(ctx context.Context) error
}

func newFolder(t *testing.T, files map[string]string) *folder {
	f := &folder{t: t, dir: t.TempDir(), models: map[string]*fakeModel{}}
	for name, content := range files {
		f.write(name, content)
	}
	return f
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// write puts a file in place as a careful person does.
func (f *folder) write(name, content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path("new"), []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.path("new"), f.path(name)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) open(path string) (*Engine, error) {
	f.opened++
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	content := string(data)
	name, version, found := strings.Cut(content, " ")
	if !found {
		return nil, errors.New("not an ONNX file: " + content)
	}
	e := fakeEngine(f.t, &fakeModel{during: f.during}, Options{})
	f.models[content] = e.model.(*fakeModel)
	version, _, _ = strings.Cut(version, "#") // what follows makes other bytes of the same version
	e.id = ModelID{Name: name, Version: version, SHA256: content}
	return e, nil
}

func (f *folder) load(opts ModelsOptions) (*Models, error) {
	if opts.File == "" {
		opts.Folder = f.dir
	}
	opts.Logger, opts.open = quiet, f.open
	m := NewModels(opts)
	f.t.Cleanup(m.Close)
	return m, m.Load()
}

// uses returns the digest of the model that a request gets, or the problem's code.
func uses(m *Models, name, version string) string {
	e, release, err := m.Use(name, version)
	if p := (*Problem)(nil); errors.As(err, &p) {
		return p.Code
	}
	release()
	return e.Model().SHA256
}

func TestModels_WhichAnswers(t *testing.T) {
	files := map[string]string{"a.onnx": "chest v9", "b.onnx": "chest v10", "c.onnx": "lung 1", "d.onnx": "bad", "e.txt": "no model", ".f.onnx": "hidden 1"}
	for _, c := range []struct {
		standard string
		want     []string // for "", chest, chest v9, lung, "" v9, lung 2, hidden 1
	}{
		{"chest", []string{"chest v10", "chest v10", "chest v9", "lung 1", "chest v9", "no_such_model", "no_such_model"}},
		{"chest@v9", []string{"chest v9", "chest v9", "chest v9", "lung 1", "chest v9", "no_such_model", "no_such_model"}},
		{"lung", []string{"lung 1", "chest v10", "chest v9", "lung 1", "no_such_model", "no_such_model", "no_such_model"}},
	} {
		m, err := newFolder(t, files).load(ModelsOptions{Default: c.standard})
		if err != nil {
			t.Fatal(err)
		}
		got := []string{uses(m, "", ""), uses(m, "chest", ""), uses(m, "chest", "v9"), uses(m, "lung", ""), uses(m, "", "v9"), uses(m, "lung", "2"), uses(m, "hidden", "1")}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("default %s (-want +got)\n%s", c.standard, diff)
		}
	}
}

func TestModels_LoadSaysWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name       string
		files      map[string]string
		standard   string
		want, hint string
	}{
		{"nothing", nil, "", "no model in ", "*.onnx"},
		{"only a bad one", map[string]string{"a.onnx": "bad"}, "", "not an ONNX file: bad", ""},
		{"two names", map[string]string{"a.onnx": "a 1", "b.onnx": "b 1"}, "", "none is the default", "name one of a, b with --default-model"},
		{"another name", map[string]string{"a.onnx": "a 1", "b.onnx": "b 1"}, "c", "the default model, c,", "name one of a, b"},
		{"another version", map[string]string{"a.onnx": "a 1"}, "a@2", "the default model, a@2,", "name one of a"},
	} {
		m, err := newFolder(t, c.files).load(ModelsOptions{Default: c.standard})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%s: error %v, hint %q", c.name, err, hint.Of(err))
		}
		if m.Ready() || uses(m, "a", "1") != "not_ready" {
			t.Errorf("%s: ready", c.name)
		}
	}
	f := newFolder(t, nil)
	if m, err := f.load(ModelsOptions{File: f.path("none.onnx")}); !errors.Is(err, os.ErrNotExist) || m.Ready() {
		t.Errorf("no file: %v", err)
	}
}

// states are the files with their states and models.
func states(m *Models) (list []string) {
	for _, s := range m.List() {
		list = append(list, strings.TrimSpace(fmt.Sprint(s.File, " ", s.State, " ", s.SHA256)))
	}
	return list
}

func TestModels_FollowTheirFiles(t *testing.T) {
	f := newFolder(t, map[string]string{"a.onnx": "chest 1"})
	m, err := f.load(ModelsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	step := func(when string, force bool, want ...string) {
		t.Helper()
		if err := m.look(force); err != nil {
			t.Error(err)
		}
		m.retiring.Wait() // nobody uses what was replaced
		if diff := cmp.Diff(want, states(m)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", when, diff)
		}
	}
	step("nothing happened", false, "a.onnx ready chest 1")
	f.write("b.onnx", "chest 2")
	step("a file on its way", false, "a.onnx ready chest 1", "b.onnx ready")
	step("a file that is there", false, "a.onnx ready chest 1", "b.onnx ready chest 2")
	if got := uses(m, "", ""); got != "chest 2" {
		t.Errorf("the newest version is the default: got %s", got)
	}
	f.write("b.onnx", "chest 2#again")
	step("other bytes", true, "a.onnx ready chest 1", "b.onnx ready chest 2#again")
	if !f.models["chest 2"].closed || f.models["chest 1"].closed {
		t.Error("the old model is not closed, or another one is")
	}
	f.write("b.onnx", "broken")
	step("a bad file", true, "a.onnx ready chest 1", "b.onnx stale chest 2#again")
	opened := f.opened
	step("later", false, "a.onnx ready chest 1", "b.onnx stale chest 2#again")
	if f.opened != opened {
		t.Error("a bad file is tried again though it is the same")
	}
	step("told to", true, "a.onnx ready chest 1", "b.onnx stale chest 2#again")
	if f.opened != opened+1 {
		t.Errorf("tried %d times when told to", f.opened-opened)
	}
	f.write("c.onnx", "chest 1")
	step("the same name and version twice", true, "a.onnx ready chest 1", "b.onnx stale chest 2#again", "c.onnx failed")
	if err := errors.Join(os.Remove(f.path("c.onnx")), os.Remove(f.path("a.onnx")), os.Remove(f.path("b.onnx"))); err != nil {
		t.Fatal(err)
	}
	step("all removed", false, "b.onnx stale chest 2#again")
	if !f.models["chest 1"].closed || f.models["chest 2#again"].closed {
		t.Error("removed models are closed, but for the default")
	}
	f.write("d.onnx", "chest 2#moved")
	step("renamed", true, "d.onnx ready chest 2#moved")
	if !f.models["chest 2#again"].closed {
		t.Error("a model that gave way is closed")
	}
}

// Time is synctest's.
func TestModels_OldOneIsDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"a.onnx": "chest 1"})
		proceed := make(chan struct{})
		f.during = func(context.Context) error { <-proceed; return nil }
		m, err := f.load(ModelsOptions{File: f.path("a.onnx"), Every: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(ServerOptions{Logger: quiet, Models: m})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { m.Run(ctx); close(ended) }()
		object := string(servetest.Object{}.Bytes(t))
		ask := func() chan *httptest.ResponseRecorder {
			answer := make(chan *httptest.ResponseRecorder, 1)
			go func() { answer <- post(s, "application/dicom", strings.NewReader(object)) }()
			synctest.Wait()
			return answer
		}
		first := ask()
		f.write("a.onnx", "chest 2")
		<-time.After(5 * time.Second)
		second := ask()
		if f.models["chest 2"] == nil || f.models["chest 1"].closed {
			t.Error("the new model is not there, or the old one is closed under its study")
		}
		close(proceed)
		if r := resultOf(t, <-first); r.Model.Version != "1" {
			t.Errorf("the study in progress was answered by %+v", r.Model)
		}
		if r := resultOf(t, <-second); r.Model.Version != "2" {
			t.Errorf("a later study was answered by %+v", r.Model)
		}
		synctest.Wait()
		if !f.models["chest 1"].closed {
			t.Error("the old model is not closed")
		}
		stop()
		<-ended
		m.Close()
		if !f.models["chest 2"].closed {
			t.Error("Close leaves a model open")
		}
	})
}

func TestHTTP_RequestNamesItsModel(t *testing.T) {
	f := newFolder(t, map[string]string{"a.onnx": "chest 1", "b.onnx": "chest 2", "c.onnx": "bad"})
	m, err := f.load(ModelsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ServerOptions{Logger: quiet, Models: m})
	object := string(servetest.Object{}.Bytes(t))
	for query, want := range map[string]string{"": "2", "?version=1": "1", "?model=chest&version=1": "1", "?model=chest": "2"} {
		r := httptest.NewRequest(http.MethodPost, pathClassify+query, strings.NewReader(object))
		r.Header.Set("Content-Type", typeDICOM)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if got := resultOf(t, w).Model.Version; got != want {
			t.Errorf("%s: version %s, want %s", query, got, want)
		}
	}
	body := &endless{}
	r := httptest.NewRequest(http.MethodPost, pathClassify+"?model=knee", body)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if p := problemOf(t, w); p.Status != 404 || p.Code != "no_such_model" || body.taken != 0 {
		t.Errorf("%+v, %d bytes taken", p, body.taken)
	}
	list := get(s, pathModels).Body.String()
	for _, part := range []string{`"name":"chest","version":"2"`, `"default":true`, `"state":"failed"`, `"detail":"not an ONNX file: bad"`} {
		if !strings.Contains(list, part) {
			t.Errorf("the list lacks %s: %s", part, list)
		}
	}
}

func TestNatural_NumbersByValue(t *testing.T) {
	order := []string{"", "1", "1.2", "1.10", "2", "v9", "v010", "v11", "w"}
	shuffled := slices.Clone(order)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, natural)
	if diff := cmp.Diff(order, shuffled); diff != "" {
		t.Error(diff)
	}
}
