package studies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// PutOutcome makes what became of a version durable, and says whether it did: of two servers that come to the same end only one
// does. It fills in the study, the objects and the time.
func (s *Store) PutOutcome(st *Study, o Outcome) (made bool, err error) {
	o.StudyInstanceUID, o.Version, o.Objects, o.Finished = st.UID, st.Version(), st.digests(), time.Now().UTC()
	data, err := json.Marshal(o)
	if err != nil {
		return false, fmt.Errorf("encode outcome: %w", err)
	}
	e := s.locked(st.UID)
	defer e.mu.Unlock()
	folder := s.folder(st.UID)
	made, err = s.writeOnce(filepath.Join(folder, o.Version+outcomeExt), data)
	if errors.Is(err, fs.ErrNotExist) {
		return false, errors.Join(ErrGone, s.reread(folder, e))
	}
	if err != nil {
		return false, diskError(fmt.Errorf("write outcome: %w", err))
	}
	return made, s.reread(folder, e)
}

// ErrGone is the error for a study or an outcome that is not there, or no longer.
var ErrGone = errors.New("it is not there")

// Outcome reads an outcome with its result.
func (s *Store) Outcome(uid, version string) (*Outcome, error) {
	st, err := s.Study(uid)
	if err != nil {
		return nil, err
	}
	if st == nil || st.outcome(version) == nil {
		return nil, ErrGone
	}
	full, err := readOutcome(filepath.Join(s.folder(uid), version+outcomeExt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	o := *st.outcome(version)
	o.Result, o.Problem = full.Result, full.Problem
	return &o, nil
}

// Reopen takes a dead letter's outcome back, so that the version can be tried again, and forgets the attempts and who was told
// of it. Any other outcome is left as it is, with ErrGone.
func (s *Store) Reopen(uid, version string) error {
	return s.bury(uid, version, func(folder string, o *Outcome) error {
		names := []string{attemptsExt}
		for _, sink := range s.opts.Sinks {
			names = append(names, sentMark+sink)
		}
		for _, name := range names {
			if err := os.Remove(filepath.Join(folder, version+name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return os.Remove(filepath.Join(folder, version+outcomeExt))
	})
}

// Discard gives a dead letter up: its study counts as finished. Any other outcome is left as it is, with ErrGone.
func (s *Store) Discard(uid, version string) error {
	return s.bury(uid, version, func(folder string, o *Outcome) error {
		o.State = Discarded
		return s.writeOver(filepath.Join(folder, version+outcomeExt), o, true)
	})
}

// bury does something with a dead letter.
func (s *Store) bury(uid, version string, do func(folder string, o *Outcome) error) error {
	e := s.locked(uid)
	defer e.mu.Unlock()
	folder := s.folder(uid)
	if err := s.reread(folder, e); err != nil {
		return err
	}
	if e.study == nil {
		return ErrGone
	}
	if o := e.study.outcome(version); o == nil || o.State != Dead {
		return ErrGone
	}
	o, err := readOutcome(filepath.Join(folder, version+outcomeExt))
	if err == nil {
		err = do(folder, o)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return ErrGone // another server was faster
	}
	if err != nil {
		return diskError(err)
	}
	if err := syncDir(folder); err != nil {
		return err
	}
	return s.reread(folder, e)
}

// Sent notes that a sink has confirmed an outcome.
func (s *Store) Sent(uid, version, sink string) error {
	e := s.locked(uid)
	defer e.mu.Unlock()
	folder := s.folder(uid)
	_, err := s.writeOnce(filepath.Join(folder, version+sentMark+sink), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(ErrGone, s.reread(folder, e))
	}
	if err != nil {
		return diskError(err)
	}
	return s.reread(folder, e)
}

// Unsent returns the sinks that have not confirmed an outcome.
func (s *Store) Unsent(o *Outcome) (sinks []string) {
	for _, sink := range s.opts.Sinks {
		if !o.Sent[sink] && o.State != Discarded {
			sinks = append(sinks, sink)
		}
	}
	return sinks
}

// attempt is a line of the journal of attempts.
type attempt struct {
	At     time.Time `json:"at"`
	Server string    `json:"server"`
	Event  string    `json:"event"`
	Reason string    `json:"reason,omitempty"`
}

// The events of the journal of attempts.
const (
	Began  = "began"
	Failed = "failed"
)

// Note adds a line to the journal of a version. It outlives the process, though not the machine's loss of power, which is no
// study's fault: a study that ends the process that works on it is found out by its attempts.
func (s *Store) Note(uid, version, event, server, reason string) error {
	data, err := json.Marshal(attempt{time.Now().UTC(), server, event, reason})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.folder(uid), version+attemptsExt), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return diskError(err)
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(diskError(err), f.Close())
}

// Attempts returns how often work on a version began, and the reason of the last failure.
func (s *Store) Attempts(uid, version string) (n int, reason string, err error) {
	data, err := os.ReadFile(filepath.Join(s.folder(uid), version+attemptsExt))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	for line := range bytes.Lines(data) {
		var a attempt
		if json.Unmarshal(line, &a) != nil {
			continue // cut off by a crash
		}
		switch a.Event {
		case Began:
			n++
		case Failed:
			reason = a.Reason
		}
	}
	return n, reason, nil
}
