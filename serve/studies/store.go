package studies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
)

// Options say how a Store works. Zero values mean the defaults.
type Options struct {
	MaxBytes int64 // of one object; default 256 MiB
	// High and Low are the disk's watermarks, in percent of it: above High no object is taken in, above Low finished studies
	// are removed before their time, if they are removed at all. Defaults 90 and 80.
	High, Low int
	// Sinks are the receivers of outcomes. What one of them has not confirmed is never removed.
	Sinks []string
	// Disk returns the bytes of the disk and those free of it; the default asks the system about the store's folder.
	Disk func() (total, free uint64, err error)
	// Changed is called when a study has another object or outcome. It must not call the store.
	Changed func(uid string)
}

// Store is a folder of studies. Its methods may be called from many goroutines, and several processes may use one folder.
type Store struct {
	dir  string
	opts Options

	mu      sync.Mutex
	byUID   map[string]*entry
	bySOP   map[string]map[string]bool // SOP Instance UID to the UIDs of the studies that hold it
	refresh sync.Mutex                 // one at a time
	asked   time.Time                  // when the folders were last looked at for something that was not in the index
}

// entry is the index of one study.
type entry struct {
	mu      sync.Mutex // of the study's folder in this process
	study   *Study     // replaced, never changed; nil when the entry is no longer in the store
	modTime time.Time  // of the folder when it was read, zero if it may have changed in the same moment
	synced  bool       // whether this process has synced the folder's name: whoever made it may not have got there
}

// Open opens the store in a folder, which is made if it is not there, and reads its index.
func Open(dir string, opts Options) (*Store, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 256 << 20
	}
	opts.High, opts.Low = cmp.Or(opts.High, 90), cmp.Or(opts.Low, 80)
	if opts.Disk == nil {
		opts.Disk = func() (uint64, uint64, error) { return diskSpace(dir) }
	}
	if opts.Changed == nil {
		opts.Changed = func(string) {}
	}
	s := &Store{dir: dir, opts: opts, byUID: map[string]*entry{}, bySOP: map[string]map[string]bool{}}
	if err := makeFolders(dir); err != nil {
		return nil, hint.Wrap(fmt.Errorf("open store: %w", err), "the folder must be one that this user may write, on a disk with hard links")
	}
	if err := s.Refresh(context.Background()); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// Refresh reads what other servers have changed and throws away what they, or an earlier life of this one, left unfinished.
func (s *Store) Refresh(ctx context.Context) error {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	if err := errors.Join(s.cleanIncoming(), s.finishRemovals()); err != nil {
		return err
	}
	known := map[string]*entry{} // by folder
	s.mu.Lock()
	s.asked = time.Now()
	for uid, e := range s.byUID {
		known[s.folder(uid)] = e
	}
	s.mu.Unlock()
	shards, err := os.ReadDir(filepath.Join(s.dir, studiesDir))
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		dir := filepath.Join(s.dir, studiesDir, shard.Name())
		folders, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, f := range folders {
			folder := filepath.Join(dir, f.Name())
			e := known[folder]
			delete(known, folder)
			if err := s.reload(folder, e); err != nil {
				// One damaged study must not keep the others from being served.
				slog.Error("read study", "folder", filepath.Join(shard.Name(), f.Name()), "error", err)
			}
		}
	}
	for folder, e := range known { // no longer there, unless it came in this moment
		if err := s.reload(folder, e); err != nil {
			return err
		}
	}
	return nil
}

// reload reads a study's folder again if it has changed. The entry may be nil.
func (s *Store) reload(folder string, e *entry) error {
	if e == nil {
		st, at, err := s.read(folder)
		if err != nil || st.UID == "" {
			return err
		}
		e = s.locked(st.UID)
		defer e.mu.Unlock()
		if len(e.study.Objects) == 0 { // else another was faster
			s.replace(e, st, at)
		}
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.study == nil {
		return nil
	}
	if info, err := os.Stat(folder); err == nil && info.ModTime().Equal(e.modTime) {
		return nil
	}
	return s.reread(folder, e)
}

// reread reads a study's folder. The caller holds e.mu.
func (s *Store) reread(folder string, e *entry) error {
	st, at, err := s.read(folder)
	if err == nil {
		s.replace(e, st, at)
	}
	return err
}

// read reads a study's folder and the time by which a later change shows, zero if none would.
func (s *Store) read(folder string) (*Study, time.Time, error) {
	var at time.Time
	// The clock of a file system is coarse: a folder that changed just now may change again and look the same.
	if info, err := os.Stat(folder); err == nil && time.Since(info.ModTime()) > time.Second {
		at = info.ModTime()
	}
	st, err := s.readFolder(folder)
	return st, at, err
}

// replace puts a new index in place of that of a study, which may hold nothing any more. The caller holds e.mu.
func (s *Store) replace(e *entry, st *Study, at time.Time) {
	s.mu.Lock()
	uid := e.study.UID
	st.UID = uid
	changed := len(st.Objects) != len(e.study.Objects) || len(st.Outcomes) != len(e.study.Outcomes)
	for _, o := range e.study.Objects {
		if delete(s.bySOP[o.SOPInstanceUID], uid); len(s.bySOP[o.SOPInstanceUID]) == 0 {
			delete(s.bySOP, o.SOPInstanceUID)
		}
	}
	for _, o := range st.Objects {
		if s.bySOP[o.SOPInstanceUID] == nil {
			s.bySOP[o.SOPInstanceUID] = map[string]bool{}
		}
		s.bySOP[o.SOPInstanceUID][uid] = true
	}
	e.study, e.modTime = st, at
	if len(st.Objects) == 0 {
		delete(s.byUID, uid)
		e.study = nil
	}
	s.mu.Unlock()
	if changed {
		s.opts.Changed(uid)
	}
}

// locked returns the entry of a study, made if need be, with its lock held.
func (s *Store) locked(uid string) *entry {
	for {
		s.mu.Lock()
		e := s.byUID[uid]
		if e == nil {
			e = &entry{study: &Study{UID: uid}}
			s.byUID[uid] = e
		}
		s.mu.Unlock()
		e.mu.Lock()
		if e.study != nil {
			return e
		}
		e.mu.Unlock() // removed while we waited
	}
}

// Study returns what is held of a study, read from disk, or nil.
func (s *Store) Study(uid string) (*Study, error) {
	folder := s.folder(uid)
	s.mu.Lock()
	e := s.byUID[uid]
	s.mu.Unlock()
	if err := s.reload(folder, e); err != nil {
		return nil, fmt.Errorf("study: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e = s.byUID[uid]; e == nil || len(e.study.Objects) == 0 {
		return nil, nil
	}
	return e.study, nil
}

// All returns the index of every study, the one that was touched last first.
func (s *Store) All() []*Study {
	s.mu.Lock()
	list := make([]*Study, 0, len(s.byUID))
	for _, e := range s.byUID {
		if len(e.study.Objects) > 0 {
			list = append(list, e.study)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b *Study) int {
		return cmp.Or(b.LastReceived().Compare(a.LastReceived()), cmp.Compare(a.UID, b.UID))
	})
	return list
}

// lookAgain is how long the folders are believed to hold nothing of which the index does not know.
const lookAgain = time.Second

// Find returns the objects of a SOP Instance UID. Where the index has none, the folders are looked at, once in a second at
// most: another server may have received it.
func (s *Store) Find(ctx context.Context, sopInstanceUID string) ([]Object, error) {
	found := s.find(sopInstanceUID)
	s.mu.Lock()
	look := len(found) == 0 && time.Since(s.asked) > lookAgain
	s.mu.Unlock()
	if !look {
		return found, nil
	}
	if err := s.Refresh(ctx); err != nil {
		return nil, fmt.Errorf("find object: %w", err)
	}
	return s.find(sopInstanceUID), nil
}

func (s *Store) find(sopInstanceUID string) (found []Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid := range s.bySOP[sopInstanceUID] {
		for _, o := range s.byUID[uid].study.Objects {
			if o.SOPInstanceUID == sopInstanceUID {
				found = append(found, o)
			}
		}
	}
	sortObjects(found)
	return found
}

// Open opens the Part 10 file of an object.
func (s *Store) Open(o Object) (*os.File, error) {
	return os.Open(filepath.Join(s.folder(o.StudyInstanceUID), o.Digest+objectExt))
}

// Path is where an object's Part 10 file lies.
func (s *Store) Path(o Object) string {
	return filepath.Join(s.folder(o.StudyInstanceUID), o.Digest+objectExt)
}
