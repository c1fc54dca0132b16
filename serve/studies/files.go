package studies

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The folders of a store and the endings of a study's files.
const (
	incomingDir = "incoming"
	studiesDir  = "studies"
	removedDir  = "removed"

	objectExt   = ".dcm"
	indexExt    = ".json"
	outcomeExt  = ".outcome"
	attemptsExt = ".attempts"
	sentMark    = ".sent."
)

// folder is where the files of a study lie.
func (s *Store) folder(uid string) string {
	sum := sha256.Sum256([]byte(uid))
	name := hex.EncodeToString(sum[:16])
	return filepath.Join(s.dir, studiesDir, name[:2], name)
}

// makeFolders makes the folders of a store. The 256 folders of studies are made once, so that a new study costs one sync.
func makeFolders(dir string) error {
	for _, name := range []string{incomingDir, removedDir} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, studiesDir, fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(filepath.Join(dir, studiesDir)), syncDir(dir))
}

// ensureFolder makes the folder of a study and says whether it did. Its name is then to be synced: after what is put into
// it, for which a journaling file system has to commit once only.
func ensureFolder(folder string) (made bool, err error) {
	err = os.Mkdir(folder, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writeTemp writes a synced file under a name of its own.
func (s *Store) writeTemp(data []byte, sync bool) (name string, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, incomingDir), "file-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	return f.Name(), errors.Join(err, f.Close())
}

// writeOnce makes a durable file, whole or not at all; it leaves one that exists alone and says so.
func (s *Store) writeOnce(path string, data []byte) (made bool, err error) {
	temp, err := s.writeTemp(data, true)
	if err != nil {
		return false, err
	}
	defer os.Remove(temp)
	// Unlike a rename, a link never takes the place of what another server has just written.
	err = os.Link(temp, path)
	if errors.Is(err, fs.ErrExist) {
		return false, syncDir(filepath.Dir(path)) // whoever made it may not have got there yet
	}
	if err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

// writeIndex writes what the index knows of an object. It need not be durable: it can be made from the object.
func (s *Store) writeIndex(path string, o *Object) error { return s.writeOver(path, o, false) }

// writeOver puts a JSON document in the place of a file, whole or not at all.
func (s *Store) writeOver(path string, document any, sync bool) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	temp, err := s.writeTemp(data, sync)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

// readFolder reads what is held of a study. A folder that is not there holds nothing.
func (s *Store) readFolder(folder string) (*Study, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return &Study{}, nil
	}
	if err != nil {
		return nil, err
	}
	st := &Study{}
	sent := map[string]map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(folder, name)
		if version, sink, ok := strings.Cut(name, sentMark); ok {
			if sent[version] == nil {
				sent[version] = map[string]bool{}
			}
			sent[version][sink] = true
			continue
		}
		switch filepath.Ext(name) {
		case objectExt:
			o, err := s.readObject(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed in this moment
			}
			if err != nil {
				return nil, err
			}
			st.Objects, st.UID = append(st.Objects, *o), o.StudyInstanceUID
		case outcomeExt:
			o, err := readOutcome(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			st.Outcomes = append(st.Outcomes, o.summary())
		}
	}
	for i := range st.Outcomes {
		st.Outcomes[i].Sent = sent[st.Outcomes[i].Version]
	}
	sortObjects(st.Objects)
	sortOutcomes(st.Outcomes)
	return st, nil
}

// readObject reads what the index knows of the object at path, and makes it anew where a crash has lost it.
func (s *Store) readObject(path string) (*Object, error) {
	digest := strings.TrimSuffix(filepath.Base(path), objectExt)
	index := strings.TrimSuffix(path, objectExt) + indexExt
	if data, err := os.ReadFile(index); err == nil {
		var o Object
		if json.Unmarshal(data, &o) == nil && o.Digest == digest {
			return &o, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, p, err := readHead(f)
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", digest, err)
	}
	o, err := describe(p)
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", digest, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	o.Digest, o.Size, o.Received = digest, info.Size(), info.ModTime()
	return o, s.writeIndex(index, o)
}

func readOutcome(path string) (*Outcome, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var o Outcome
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("read outcome %s: %w", filepath.Base(path), err)
	}
	return &o, nil
}
