package studies

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/serve/servetest"
)

func open(t *testing.T, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keep(t *testing.T, s *Store, o servetest.Object) *Staged {
	t.Helper()
	st, err := s.Keep(t.Context(), bytes.NewReader(o.Bytes(t)), Source{Via: "http"})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func study(t *testing.T, s *Store, uid string) *Study {
	t.Helper()
	st, err := s.Study(uid)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func putOutcome(t *testing.T, s *Store, uid string, o Outcome) bool {
	t.Helper()
	made, err := s.PutOutcome(study(t, s, uid), o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// files lists the files of a store below a folder of it.
func files(t *testing.T, s *Store, folder string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.dir, folder), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestStore_IndexSurvivesItsFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for _, o := range append(servetest.Study("1.2", 1), servetest.Study("1.3", 2)...) {
		keep(t, s, o)
	}
	putOutcome(t, s, "1.2", Outcome{State: Done, Result: []byte(`{"a":1}`)})
	want := s.All()
	if len(want) != 2 || len(want[1].Objects) != 2 || want[1].Current() == nil || want[0].Current() != nil {
		t.Fatalf("index: %+v", want)
	}
	if got := want[1].Objects[0].Attributes["ViewPosition"]; !cmp.Equal(got, []string{"PA"}) {
		t.Errorf("view position %q", got)
	}
	if diff := cmp.Diff(want, open(t, dir, Options{}).All(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("opened again (-before +after)\n%s", diff)
	}
	for _, f := range files(t, s, studiesDir) {
		if filepath.Ext(f) == indexExt {
			if err := os.WriteFile(f, nil, 0o600); err != nil { // as a loss of power leaves a file that was not synced
				t.Fatal(err)
			}
		}
	}
	got := open(t, dir, Options{}).All()
	// What is left of the time an object came is its file's, in steps of the kernel's clock: the order may be another.
	anyOrder := cmp.Options{
		cmpopts.SortSlices(func(a, b *Study) bool { return a.UID < b.UID }),
		cmpopts.SortSlices(func(a, b Object) bool { return a.Digest < b.Digest }),
	}
	if diff := cmp.Diff(want, got, anyOrder, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Object{}, "Received", "Source")); diff != "" {
		t.Errorf("from the objects alone (-before +after)\n%s", diff)
	}
}

func TestStore_DuplicatesAndConflicts(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	first := keep(t, s, servetest.Object{Seed: 1})
	if first.Duplicate || first.Conflict {
		t.Errorf("first: %+v", first)
	}
	// Another sender writes other file meta information around the same data set.
	data := servetest.Object{Seed: 1}.Bytes(t)
	data[5] = 'x'
	again, err := s.Keep(t.Context(), bytes.NewReader(data), Source{})
	if err != nil || !again.Duplicate || again.Conflict || again.Digest != first.Digest {
		t.Errorf("again: %+v, %v", again, err)
	}
	other := keep(t, s, servetest.Object{Seed: 2})
	if other.Duplicate || !other.Conflict {
		t.Errorf("same UID, other bytes: %+v", other)
	}
	st := study(t, s, "1.2.3")
	digests := func(list []Object) (d []string) {
		for _, o := range list {
			d = append(d, o.Digest)
		}
		return d
	}
	for rule, want := range map[Conflicts][]string{
		UseBoth: {first.Digest, other.Digest}, UseFirst: {first.Digest}, UseLast: {other.Digest},
	} {
		if diff := cmp.Diff(want, digests(st.Used(rule))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", rule, diff)
		}
	}
	if left := files(t, s, incomingDir); left != nil {
		t.Errorf("left: %q", left)
	}
}

// failing is a stream whose end is an error.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

func TestStore_RefusesAndLeavesNothing(t *testing.T) {
	gone := errors.New("peer gone")
	full := func() (uint64, uint64, error) { return 1000, 50, nil }
	object := servetest.Object{}.Bytes(t)
	for name, c := range map[string]struct {
		opts Options
		r    io.Reader
		want error
		code dicom.Code
	}{
		"disk above the watermark": {Options{Disk: full}, bytes.NewReader(object), ErrFull, ""},
		"too large":                {Options{MaxBytes: 5000}, bytes.NewReader(object), ErrTooLarge, ""},
		"no study":                 {Options{}, bytes.NewReader(servetest.Object{Study: "-"}.Bytes(t)), ErrMisplaced, ""},
		"no UID":                   {Options{}, bytes.NewReader(servetest.Object{Study: "../../x"}.Bytes(t)), ErrMisplaced, ""},
		"not DICOM":                {Options{}, strings.NewReader("hello"), nil, dicom.CodeNotDICOM},
		"sender leaves":            {Options{}, &failing{bytes.NewReader(object[:7000]), gone}, gone, ""},
	} {
		s := open(t, t.TempDir(), c.opts)
		_, err := s.Keep(t.Context(), c.r, Source{})
		var refusal *dicom.Error
		if c.want != nil && !errors.Is(err, c.want) || c.code != "" && (!errors.As(err, &refusal) || refusal.Code != c.code) {
			t.Errorf("%s: %v", name, err)
		}
		if left := append(files(t, s, incomingDir), files(t, s, studiesDir)...); left != nil || len(s.All()) > 0 {
			t.Errorf("%s: left: %q", name, left)
		}
	}
}

// TestStage_MemoryDoesNotGrowWithTheObject counts all that is ever allocated for an object of 100 MiB.
func TestStage_MemoryDoesNotGrowWithTheObject(t *testing.T) {
	const size = 100 << 20
	s := open(t, t.TempDir(), Options{})
	object := servetest.Object{}.Bytes(t)
	long := io.LimitReader(io.MultiReader(bytes.NewReader(object), zeros{}), size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	st, err := s.Stage(t.Context(), long, Source{}, nil)
	runtime.ReadMemStats(&after)
	if err != nil || st.Size != size {
		t.Fatalf("%+v, %v", st, err)
	}
	st.Discard()
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestStore_FileSizeLimitIsAFullDisk(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if err := diskError(&os.PathError{Op: "write", Path: "x", Err: err}); !errors.Is(err, ErrFull) {
			t.Errorf("%v is not ErrFull", err)
		}
	}
}

func TestStore_TwoServersOneFolder(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir, Options{}), open(t, dir, Options{})
	views := servetest.Study("1.2", 1)
	keep(t, a, views[0])
	keep(t, b, views[1])
	if x, y := study(t, a, "1.2"), study(t, b, "1.2"); x.Version() != y.Version() || len(x.Objects) != 2 {
		t.Errorf("versions %s and %s of %d and %d objects", x.Version(), y.Version(), len(x.Objects), len(y.Objects))
	}
	stale := study(t, b, "1.2")
	if !putOutcome(t, a, "1.2", Outcome{State: Done, Attempts: 1}) {
		t.Error("the first outcome was not made")
	}
	if made, err := b.PutOutcome(stale, Outcome{State: Dead, Attempts: 2}); made || err != nil {
		t.Errorf("a second outcome of the version: made %v, %v", made, err)
	}
	if o := study(t, b, "1.2").Current(); o == nil || o.State != Done {
		t.Errorf("outcome %+v", o)
	}
	keep(t, a, servetest.Object{Study: "1.9", SOP: "1.9.1"})
	b.asked = time.Time{}
	if found, err := b.Find(t.Context(), "1.9.1"); err != nil || len(found) != 1 {
		t.Errorf("found %d, %v", len(found), err)
	}
}

func TestStore_LateObjectSupersedes(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	views := servetest.Study("1.2", 1)
	keep(t, s, views[0])
	early := study(t, s, "1.2")
	putOutcome(t, s, "1.2", Outcome{State: Done, Result: []byte(`1`)})
	keep(t, s, views[1])
	if o := study(t, s, "1.2").Current(); o != nil {
		t.Errorf("the new version has the old outcome %+v", o)
	}
	putOutcome(t, s, "1.2", Outcome{State: Done, Result: []byte(`2`)})
	st := study(t, s, "1.2")
	if o := st.Current(); len(st.Outcomes) != 2 || o.Supersedes != early.Version() || o != st.Latest() {
		t.Errorf("outcomes %+v", st.Outcomes)
	}
	for version, want := range map[string]string{early.Version(): "1", st.Version(): "2"} {
		if o, err := s.Outcome("1.2", version); err != nil || string(o.Result) != want {
			t.Errorf("result %s, want %s, %v", o.Result, want, err)
		}
	}
}

func TestStore_OlderVersionFinishedLast(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	views := servetest.Study("1.2", 1)
	keep(t, s, views[0])
	early := study(t, s, "1.2")
	keep(t, s, views[1])
	putOutcome(t, s, "1.2", Outcome{State: Done})
	if made, err := s.PutOutcome(early, Outcome{State: Done}); !made || err != nil {
		t.Fatalf("made %v, %v", made, err)
	}
	st := study(t, s, "1.2")
	if o := st.Current(); o.Supersedes != early.Version() || o.SupersededBy != "" || st.Outcomes[0].SupersededBy != o.Version || st.Outcomes[0].Supersedes != "" {
		t.Errorf("outcomes %+v", st.Outcomes)
	}
}

func TestStore_DeadLetters(t *testing.T) {
	s := open(t, t.TempDir(), Options{Sinks: []string{"hook"}})
	keep(t, s, servetest.Object{Study: "1.2"})
	version := study(t, s, "1.2").Version()
	for _, a := range [][2]string{{Began}, {Failed, "out of paper"}, {Began}} {
		if err := s.Note("1.2", version, a[0], "here", a[1]); err != nil {
			t.Fatal(err)
		}
	}
	if n, reason, err := s.Attempts("1.2", version); n != 2 || reason != "out of paper" || err != nil {
		t.Errorf("%d attempts, %q, %v", n, reason, err)
	}
	putOutcome(t, s, "1.2", Outcome{State: Dead})
	if n, err := s.Retain(-time.Hour); n != 0 || err != nil {
		t.Errorf("removed %d, %v: a dead letter", n, err)
	}
	if err := s.Reopen("1.2", version); err != nil || study(t, s, "1.2").Current() != nil {
		t.Errorf("reopen: %v", err)
	}
	if n, _, _ := s.Attempts("1.2", version); n != 0 {
		t.Errorf("%d attempts after Reopen", n)
	}
	if err := s.Discard("1.2", version); !errors.Is(err, ErrGone) {
		t.Errorf("discard of what is not dead: %v", err)
	}
	putOutcome(t, s, "1.2", Outcome{State: Dead})
	if err := s.Discard("1.2", version); err != nil || study(t, s, "1.2").Current().State != Discarded {
		t.Errorf("discard: %v", err)
	}
	if n, err := s.Retain(-time.Hour); n != 1 || err != nil || len(files(t, s, "")) != 0 {
		t.Errorf("removed %d, %v", n, err)
	}
}

func TestRetain_NothingUndeliveredGoes(t *testing.T) {
	used := uint64(50)
	s := open(t, t.TempDir(), Options{Sinks: []string{"hook"}, Disk: func() (uint64, uint64, error) { return 100, 100 - used, nil }})
	for _, uid := range []string{"1.1", "1.2", "1.3"} {
		keep(t, s, servetest.Object{Study: uid, SOP: uid + ".1"})
		putOutcome(t, s, uid, Outcome{State: Done})
	}
	left := func() (uids []string) {
		for _, st := range s.All() {
			uids = append(uids, st.UID)
		}
		return uids
	}
	for _, c := range []struct {
		what    string
		deliver string
		used    uint64
		age     time.Duration
		want    int
	}{
		{"undelivered, however old and full", "", 89, -time.Hour, 3},
		{"delivered, young, below the low watermark", "1.2", 50, time.Hour, 3},
		{"delivered, young, above the low watermark", "", 81, time.Hour, 2},
		{"delivered and old", "1.1", 50, -time.Hour, 1},
	} {
		if used = c.used; c.deliver != "" {
			if err := s.Sent(c.deliver, study(t, s, c.deliver).Version(), "hook"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Retain(c.age); err != nil || len(left()) != c.want {
			t.Errorf("%s: left %v, want %d, %v", c.what, left(), c.want, err)
		}
	}
	if s := open(t, s.dir, Options{}); len(s.All()) != 1 {
		t.Errorf("after opening again: %d studies", len(s.All()))
	}
}

func TestRetain_ObjectAcceptedInBetweenStays(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	views := servetest.Study("1.2", 1)
	keep(t, s, views[0])
	putOutcome(t, s, "1.2", Outcome{State: Done})
	keep(t, s, views[1])
	// Another server moved the folder away in the moment in which this one accepted the second view, and then died.
	folder := s.folder("1.2")
	if err := os.Rename(folder, filepath.Join(s.dir, removedDir, filepath.Base(folder))); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.dir, Options{})
	if st := study(t, s, "1.2"); st == nil || len(st.Objects) != 1 || st.Objects[0].SOPInstanceUID != views[1].SOP {
		t.Errorf("left: %+v", st)
	}
	if left := files(t, s, removedDir); left != nil {
		t.Errorf("left to remove: %q", left)
	}
}

func TestCommit_ManyAtOnceLoseNothing(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	var all sync.WaitGroup
	for i := range 8 {
		data := servetest.Object{Study: "1.2", SOP: "1.2.1", Seed: uint64(i / 2)}.Bytes(t) // each twice
		all.Go(func() {
			if _, err := s.Keep(t.Context(), bytes.NewReader(data), Source{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if st := study(t, s, "1.2"); len(st.Objects) != 4 {
		t.Errorf("%d objects, want 4", len(st.Objects))
	}
}
