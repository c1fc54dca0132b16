package studies

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// incomingAge is how long a file may be on its way. Objects arrive in minutes; what is older was left by a crash.
const incomingAge = time.Hour

func (s *Store) cleanIncoming() error {
	dir := filepath.Join(s.dir, incomingDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > incomingAge {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// finished says whether nothing is left to do for a study, and since when.
func (s *Store) finished(st *Study) (since time.Time, ok bool) {
	current := st.Current()
	if current == nil || current.State == Dead {
		return since, false
	}
	for i := range st.Outcomes {
		if len(s.Unsent(&st.Outcomes[i])) > 0 {
			return since, false
		}
	}
	return current.Finished, true
}

// Retain removes the studies that have been finished, their outcomes confirmed by every sink, for longer than age; while the
// disk is above the low watermark also younger ones, the one finished first before the others. Dead letters are never removed.
// It returns how many it removed.
func (s *Store) Retain(age time.Duration) (removed int, err error) {
	type candidate struct {
		uid   string
		since time.Time
	}
	var list []candidate
	for _, st := range s.All() {
		if since, ok := s.finished(st); ok {
			list = append(list, candidate{st.UID, since})
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.uid, b.uid)) })
	for _, c := range list {
		if time.Since(c.since) <= age {
			total, free, err := s.opts.Disk()
			if err != nil {
				return removed, fmt.Errorf("ask for free space: %w", err)
			}
			if percentUsed(total, free) <= float64(s.opts.Low) {
				return removed, nil
			}
		}
		done, err := s.remove(c.uid)
		if err != nil {
			return removed, fmt.Errorf("remove study: %w", err)
		}
		if done {
			removed++
		}
	}
	return removed, nil
}

// remove takes a finished study away: first out of sight as a whole, then from the disk.
func (s *Store) remove(uid string) (bool, error) {
	e := s.locked(uid)
	defer e.mu.Unlock()
	folder := s.folder(uid)
	if err := s.reread(folder, e); err != nil || e.study == nil {
		return false, err
	}
	if _, ok := s.finished(e.study); !ok {
		return false, nil // something came in between
	}
	away := filepath.Join(s.dir, removedDir, filepath.Base(folder))
	if err := os.Rename(folder, away); err != nil {
		return false, err
	}
	if err := errors.Join(syncDir(filepath.Dir(folder)), s.finishRemoval(away)); err != nil {
		return false, err
	}
	return true, s.reread(folder, e)
}

// finishRemovals ends what a crash interrupted.
func (s *Store) finishRemovals() error {
	dir := filepath.Join(s.dir, removedDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.finishRemoval(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("finish a removal: %w", err)
		}
	}
	return nil
}

// finishRemoval deletes a folder that was moved away, but for the objects that no outcome knows of: another server has
// accepted them in the moment of the move. They go back, as a study of their own time.
func (s *Store) finishRemoval(away string) error {
	st, err := s.readFolder(away)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, o := range st.Outcomes {
		full, err := readOutcome(filepath.Join(away, o.Version+outcomeExt))
		if err != nil {
			return err
		}
		for _, digest := range full.Objects {
			known[digest] = true
		}
	}
	for _, o := range st.Objects {
		if known[o.Digest] || len(known) == 0 { // without an outcome it was already being deleted
			continue
		}
		folder := s.folder(o.StudyInstanceUID)
		if _, err := ensureFolder(folder); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(away, o.Digest+objectExt), filepath.Join(folder, o.Digest+objectExt)); err != nil {
			return err
		}
		if err := errors.Join(syncDir(filepath.Dir(folder)), syncDir(folder)); err != nil {
			return err
		}
	}
	return deleteFolder(away)
}

// deleteFolder deletes objects before outcomes, so that an interrupted deletion can go on.
func deleteFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), objectExt) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}
