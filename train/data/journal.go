package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mvmae/mvmae/internal/hint"
)

// The files of an unfinished pack.
const (
	journalFile   = "journal.jsonl"
	partialSuffix = ".partial"
)

// entry is the journal's line of one finished chunk.
type entry struct {
	Items     int       `json:"items"`   // of the packer, kept or refused
	Refused   []refusal `json:"refused"` // of these
	SHA256    string    `json:"sha256"`  // of the pixels of those kept
	Inputs    int       `json:"inputs"`  // training images in the sums
	Sum       float64   `json:"sum"`     // of the pixels of their cxr.Input
	SumSquare float64   `json:"sum_square"`
}

// refusal is an item left out.
type refusal struct {
	Item   int    `json:"item"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// journal is the unfinished pack on disk: its pixels, and a line for each chunk of them that is whole. A crash can lose
// or garble the end of either; replay keeps only what the other vouches for.
type journal struct {
	dir     string
	job     string // of the first line
	lines   *os.File
	pixels  *os.File
	written int64 // bytes of whole chunks in pixels
}

// openJournal opens the unfinished pack in dir, or begins one. A folder that has any file of a pack is refused.
func openJournal(dir, job string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, hint.Wrap(err, "choose a folder you can write to")
	}
	if err := takeBackNames(dir); err != nil {
		return nil, err
	}
	for _, name := range []string{pixelsFile, indexFile, manifestFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, hint.Wrap(fmt.Errorf("the folder has a file %s already", name), "choose another --out, or remove the old pack first")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	j := &journal{dir: dir, job: job}
	var err error
	open := func(name string) *os.File {
		if err != nil {
			return nil
		}
		var f *os.File
		f, err = os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		return f
	}
	j.lines, j.pixels = open(journalFile), open(pixelsFile+partialSuffix)
	if err == nil {
		err = unix.Flock(int(j.lines.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another process is packing into this folder")
		}
	}
	if err != nil {
		j.close()
		return nil, hint.Wrap(err, "choose a folder you can write to, one for each pack")
	}
	return j, nil
}

// takeBackNames undoes a finish that was cut off between its renames: there is a journal, but no manifest.
func takeBackNames(dir string) error {
	in := func(name string) string { return filepath.Join(dir, name) }
	_, journal := os.Lstat(in(journalFile))
	_, manifest := os.Lstat(in(manifestFile))
	if journal != nil || manifest == nil {
		return nil
	}
	for _, name := range []string{pixelsFile, indexFile} {
		if err := os.Rename(in(name), in(name+partialSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// close leaves an unfinished pack for a later run.
func (j *journal) close() {
	for _, f := range []*os.File{j.lines, j.pixels} {
		if f != nil {
			f.Close()
		}
	}
}

// discard removes an unfinished pack that is not worth going on with.
func (j *journal) discard() {
	os.Remove(j.pixels.Name())
	os.Remove(j.lines.Name())
}

type journalHead struct {
	Job string `json:"job"`
}

// replay calls take with each chunk that an earlier run of this job finished and whose pixels are still as they were, and
// forgets all else.
func (j *journal) replay(take func(e entry, pixels []byte)) error {
	text, err := io.ReadAll(j.lines)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	good := 0 // bytes of the journal that are vouched for
	var head journalHead
	if line, ok := wholeLine(text); ok && json.Unmarshal(line, &head) == nil && head.Job == j.job {
		good = len(line)
		for {
			line, ok := wholeLine(text[good:])
			if !ok {
				break
			}
			e, pixels, ok := j.chunk(line)
			if !ok {
				break
			}
			take(e, pixels)
			good += len(line)
			j.written += int64(len(pixels))
		}
	}
	if err := errors.Join(truncate(j.lines, int64(good)), truncate(j.pixels, j.written)); err != nil {
		return err
	}
	if good == 0 {
		return j.write(journalHead{j.job})
	}
	return nil
}

func wholeLine(text []byte) ([]byte, bool) {
	end := bytes.IndexByte(text, '\n')
	return text[:end+1], end >= 0
}

// chunk reads the pixels of the journal's next entry; ok says that they are what the entry says.
func (j *journal) chunk(line []byte) (e entry, pixels []byte, ok bool) {
	if json.Unmarshal(line, &e) != nil || e.Items <= 0 || len(e.Refused) > e.Items {
		return e, nil, false
	}
	need := int64(e.Items-len(e.Refused)) * imageBytes
	if info, err := j.pixels.Stat(); err != nil || need > info.Size()-j.written {
		return e, nil, false
	}
	pixels = make([]byte, need)
	if _, err := j.pixels.ReadAt(pixels, j.written); err != nil {
		return e, nil, false
	}
	sum := sha256.Sum256(pixels)
	return e, pixels, hex.EncodeToString(sum[:]) == e.SHA256
}

func truncate(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	_, err := f.Seek(size, io.SeekStart)
	return err
}

// append adds a chunk. Its digest is filled in.
func (j *journal) append(e entry, pixels []byte) error {
	sum := sha256.Sum256(pixels)
	e.SHA256 = hex.EncodeToString(sum[:])
	if _, err := j.pixels.Write(pixels); err != nil {
		return fmt.Errorf("write pixels: %w", err)
	}
	j.written += int64(len(pixels))
	return j.write(e)
}

func (j *journal) write(line any) error {
	body, err := json.Marshal(line)
	if err == nil {
		_, err = j.lines.Write(append(body, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// finish makes the pack whole: everything is on disk before the manifest, which makes it a pack, has its name.
func (j *journal) finish(index, manifest []byte) error {
	if err := j.pixels.Sync(); err != nil {
		return err
	}
	for name, body := range map[string][]byte{indexFile: index, manifestFile: manifest} {
		if err := writeSynced(filepath.Join(j.dir, name+partialSuffix), body); err != nil {
			return err
		}
	}
	for _, name := range []string{pixelsFile, indexFile, manifestFile} {
		path := filepath.Join(j.dir, name)
		if err := os.Rename(path+partialSuffix, path); err != nil {
			return err
		}
	}
	if err := syncFolder(j.dir); err != nil {
		return err
	}
	return os.Remove(filepath.Join(j.dir, journalFile))
}

// syncFolder puts the names in a folder on disk.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func writeSynced(path string, body []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	return errors.Join(err, f.Sync(), f.Close())
}
