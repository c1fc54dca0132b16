package serve

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
)

// watched is what some files say. They are looked at whenever it is asked for, and read again when one has changed; what cannot
// be read leaves the value as it was.
type watched[T any] struct {
	paths []string
	read  func(old T) (T, error)

	mu    sync.Mutex
	seen  []os.FileInfo
	value T
}

// watch reads files for the first time.
func watch[T any](read func(old T) (T, error), paths ...string) (*watched[T], error) {
	w := &watched[T]{paths: slices.DeleteFunc(paths, func(p string) bool { return p == "" }), read: read}
	w.seen = w.look()
	var none T
	var err error
	w.value, err = read(none)
	return w, err
}

func (w *watched[T]) look() []os.FileInfo {
	infos := make([]os.FileInfo, len(w.paths))
	for i, path := range w.paths {
		if info, err := os.Stat(path); err == nil {
			infos[i] = info
		}
	}
	return infos
}

// get returns what the files say now.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.look()
	if slices.EqualFunc(now, w.seen, unchanged) {
		return w.value
	}
	w.seen = now
	value, err := w.read(w.value)
	if err != nil {
		slog.Error("read again", "files", strings.Join(w.paths, ", "), "error", err)
		return w.value
	}
	slog.Info("read again", "files", strings.Join(w.paths, ", "))
	w.value = value
	return w.value
}
