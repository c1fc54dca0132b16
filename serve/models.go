package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve/api"
)

// ModelsOptions say where the models of a server are. Zero values mean the defaults.
type ModelsOptions struct {
	File string // the default model's; "" where it is one of Folder
	// Folder holds further models, each a file *.onnx that says its own name and version. Weights that do not lie in the file
	// itself lie beside it, and must be there first.
	Folder string
	// Default is NAME or NAME@VERSION of the default model in Folder; of a name the newest version is taken. It may be "" where
	// the models have one name.
	Default string
	Engine  Options
	Every   time.Duration // how often the files are looked at; default 2 s
	Logger  *slog.Logger  // default slog.Default()

	open func(path string) (*Engine, error) // in tests; nil is Open
}

// Models are the models that a server answers with. A file that changes is opened, verified and warmed up beside the model
// that is served, then takes its place; the old one is closed when the last study that has it is answered. A file that
// cannot be served leaves the one before in its place: List says why. The methods may be called from many goroutines.
type Models struct {
	opts     ModelsOptions
	retiring sync.WaitGroup // models that wait for their last study

	looking sync.Mutex // one look at a time: two models in memory are enough
	mu      sync.Mutex
	slots   map[string]*slot // by path
	name    string           // of the default model
	version string           // of the default model; "" is the newest
	loaded  bool             // Load has ended well
}

// slot is one model file.
type slot struct {
	seen, tried os.FileInfo // the file at the last look, and when it was opened last
	now         *served     // nil: nothing of this file was ever fit to be served
	failed      error       // why the file as it is now is not served
	gone        bool        // there is no such file any more
}

// served is a model in use.
type served struct {
	*Engine
	since time.Time
	users sync.WaitGroup
}

// NewModels makes a set that has no model until Load.
func NewModels(opts ModelsOptions) *Models {
	opts.Every = cmp.Or(opts.Every, 2*time.Second)
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.open == nil {
		opts.open = func(path string) (*Engine, error) { return Open(path, opts.Engine) }
	}
	m := &Models{opts: opts, slots: map[string]*slot{}}
	m.name, m.version, _ = strings.Cut(opts.Default, "@")
	return m
}

// Load opens all models. Its error is that there is no default model; what else cannot be served is in List and the log.
func (m *Models) Load() error {
	err := m.look(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && m.opts.File != "" {
		err = m.slots[m.opts.File].failed
	}
	if err != nil || m.standard() != nil {
		m.loaded = err == nil
		return err
	}
	names := map[string]bool{}
	for _, s := range m.slots {
		if s.now != nil {
			names[s.now.id.Name] = true
		}
		err = errors.Join(err, s.failed)
	}
	switch {
	case len(names) == 0:
		return cmp.Or(err, hint.Wrap(fmt.Errorf("no model in %s", m.opts.Folder), "put files there that mvmae-export made, named *.onnx"))
	case m.name != "":
		return hint.Wrap(fmt.Errorf("the default model, %s, is none of those in %s", m.opts.Default, m.opts.Folder),
			"name one of %s", strings.Join(slices.Sorted(maps.Keys(names)), ", "))
	case len(names) > 1:
		return hint.Wrap(fmt.Errorf("%s has models of several names, and none is the default", m.opts.Folder),
			"name one of %s with --default-model", strings.Join(slices.Sorted(maps.Keys(names)), ", "))
	}
	m.name, m.loaded = slices.Collect(maps.Keys(names))[0], true
	return nil
}

// Run looks at the files now and then, until ctx ends.
func (m *Models) Run(ctx context.Context) {
	ticker := time.NewTicker(m.opts.Every)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := m.look(false); err == nil {
			said = ""
		} else if err.Error() != said { // once, not every two seconds
			said = err.Error()
			m.opts.Logger.Error("look for models", "error", err)
		}
	}
}

// Reload looks at the files at once, and also tries those again that could not be served.
func (m *Models) Reload() error { return m.look(true) }

// look opens what has changed. A file counts as changed when it has been the same for two looks: it may be on its way. With
// force it is not waited for, and what failed is tried again.
func (m *Models) look(force bool) error {
	m.looking.Lock()
	defer m.looking.Unlock()
	paths, err := m.paths()
	if err != nil {
		return err
	}
	for _, path := range m.missing(paths) {
		m.drop(path)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil && m.opts.File != path {
			continue // gone in between
		}
		m.mu.Lock()
		s := m.slots[path]
		if s == nil {
			s = &slot{}
			m.slots[path] = s
		}
		settled := force || unchanged(info, s.seen)
		due := settled && (!unchanged(info, s.tried) || force && s.failed != nil || s.tried == nil && s.failed == nil)
		s.seen, s.gone = info, err != nil
		if due {
			s.tried = info
		}
		m.mu.Unlock()
		if due {
			m.replace(path, s)
		}
	}
	return nil
}

func unchanged(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// paths are the files that should be served: the default's first.
func (m *Models) paths() ([]string, error) {
	var paths []string
	if m.opts.File != "" {
		paths = append(paths, m.opts.File)
	}
	if m.opts.Folder == "" {
		return paths, nil
	}
	entries, err := os.ReadDir(m.opts.Folder)
	if err != nil {
		return nil, fmt.Errorf("models: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(m.opts.Folder, e.Name())
		if filepath.Ext(path) == ".onnx" && !api.Skip(e.Name()) && path != m.opts.File {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

func (m *Models) missing(paths []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.slots)), func(path string) bool { return slices.Contains(paths, path) })
}

// drop stops serving a model whose file was removed. The default model stays: there would be nothing to answer with.
func (m *Models) drop(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.slots[path]
	if s.now != nil && s.now == m.standard() {
		s.gone = true
		return
	}
	delete(m.slots, path)
	m.retire(s.now)
}

// replace opens a slot's file and serves it from here on, or keeps what is served and notes why.
func (m *Models) replace(path string, s *slot) {
	start := time.Now()
	engine, err := m.opts.open(path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		err = m.identify(path, s, engine.id)
	}
	s.failed = err
	if err != nil {
		if engine != nil {
			engine.Close()
		}
		m.opts.Logger.Error("model file is not served", "file", filepath.Base(path), "error", err, "still_serving", s.id().SHA256)
		return
	}
	if s.now != nil && s.now.id == engine.id { // written anew with the same bytes
		engine.Close()
		return
	}
	m.opts.Logger.Info("model", "file", filepath.Base(path), "name", engine.id.Name, "version", engine.id.Version, "sha256", engine.id.SHA256,
		"device", engine.device, "took", time.Since(start), "instead_of", s.id().SHA256)
	m.retire(s.now)
	s.now = &served{Engine: engine, since: time.Now()}
}

// id is that of the model in use; the zero value where none is.
func (s *slot) id() ModelID {
	if s.now == nil {
		return ModelID{}
	}
	return s.now.id
}

// identify refuses a name and version that another file has. One whose file is gone was renamed and gives way.
func (m *Models) identify(path string, s *slot, id ModelID) error {
	for _, other := range slices.Sorted(maps.Keys(m.slots)) {
		o := m.slots[other]
		if o == s || o.now == nil || o.now.id.Name != id.Name || o.now.id.Version != id.Version {
			continue
		}
		if !o.gone || other == m.opts.File {
			return hint.Wrap(fmt.Errorf("model %s: it has the name and version, %s %s, of %s", path, id.Name, id.Version, other), "remove one of the two")
		}
		delete(m.slots, other)
		m.retire(o.now)
	}
	return nil
}

// retire closes a model when nobody uses it any more. Nobody begins to: it is in no slot.
func (m *Models) retire(old *served) {
	if old == nil {
		return
	}
	m.retiring.Go(func() {
		old.users.Wait()
		if err := old.Close(); err != nil {
			m.opts.Logger.Error("close a model", "sha256", old.id.SHA256, "error", err)
		}
	})
}

// Use returns the model of a name and version, which stays open until release is called. Without a version it is the newest of the
// name, without a name the default model. Its error is a *Problem.
func (m *Models) Use(name, version string) (e *Engine, release func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	standard := m.standard()
	use := standard
	switch {
	case standard == nil || !m.loaded:
		return nil, nil, notReady()
	case name != "" && name != standard.id.Name, version != "" && version != standard.id.Version:
		use = m.find(cmp.Or(name, standard.id.Name), version)
	}
	if use == nil {
		return nil, nil, problem(http.StatusNotFound, "no_such_model", "GET /v1/models lists them", "the server has no such model or version of it")
	}
	use.users.Add(1)
	return use.Engine, use.users.Done, nil
}

func notReady() *Problem {
	return problem(http.StatusServiceUnavailable, "not_ready", "wait until /readyz answers 200", "the model is being loaded")
}

// Ready says whether there is a default model to answer with.
func (m *Models) Ready() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loaded && m.standard() != nil
}

// engines are the models that are served now.
func (m *Models) engines() (list []*Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(m.slots)) {
		if s := m.slots[path]; s.now != nil {
			list = append(list, s.now.Engine)
		}
	}
	return list
}

// standard is the default model, nil while there is none.
func (m *Models) standard() *served {
	if m.opts.File == "" {
		return m.find(m.name, m.version)
	}
	if s := m.slots[m.opts.File]; s != nil {
		return s.now
	}
	return nil
}

// find returns the model of a name and version, without a version the newest, or nil.
func (m *Models) find(name, version string) (found *served) {
	for _, s := range m.slots {
		if s.now == nil || s.now.id.Name != name || version != "" && s.now.id.Version != version {
			continue
		}
		if found == nil || natural(s.now.id.Version, found.id.Version) > 0 {
			found = s.now
		}
	}
	return found
}

// natural compares versions as people do: numbers in them by their value, so that v10 comes after v9.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := chunk(a), chunk(b)
		a, b = a[len(x):], b[len(y):]
		if digit(x[0]) && digit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Compare(len(x), len(y)); c != 0 {
				return c
			}
		}
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// chunk is the longest beginning of s, which is not empty, that is all digits or has none.
func chunk(s string) string {
	for i := range len(s) {
		if digit(s[i]) != digit(s[0]) {
			return s[:i]
		}
	}
	return s
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// Close closes all models, each when its studies are answered. Nothing may be asked of m then.
func (m *Models) Close() {
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	for _, s := range m.slots {
		m.retire(s.now)
	}
	clear(m.slots)
	m.mu.Unlock()
	m.retiring.Wait()
}
