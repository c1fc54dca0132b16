package studies

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/serve/servetest"
)

const digitalXRay = "1.2.840.10008.5.1.4.1.1.1.1"

func TestArchive_StatusesOfRefusals(t *testing.T) {
	gone := errors.New("peer gone")
	object := servetest.Object{}.Bytes(t)
	full := func() (uint64, uint64, error) { return 1000, 50, nil }
	announced := pacs.Object{SOPClassUID: digitalXRay, SOPInstanceUID: "1.2.3.1"}
	for name, c := range map[string]struct {
		opts   Options
		object pacs.Object
		r      io.Reader
		status pacs.Status
		err    error
	}{
		"full":          {Options{Disk: full}, announced, bytes.NewReader(object), pacs.StatusOutOfResources, ErrFull},
		"too large":     {Options{MaxBytes: 5000}, announced, bytes.NewReader(object), pacs.StatusOutOfResources, ErrTooLarge},
		"no study":      {Options{}, announced, bytes.NewReader(servetest.Object{Study: "-"}.Bytes(t)), pacs.StatusNotUnderstood, ErrMisplaced},
		"another class": {Options{}, pacs.Object{SOPClassUID: "1.2", SOPInstanceUID: "1.2.3.1"}, bytes.NewReader(object), pacs.StatusNotMatching, nil},
		"peer leaves":   {Options{}, announced, &failing{bytes.NewReader(object[:7000]), gone}, 0, gone},
		"kept":          {Options{}, announced, bytes.NewReader(object), 0, nil},
	} {
		s := open(t, t.TempDir(), c.opts)
		a := &Archive{Store: s, Gate: NewGate(time.Second, time.Minute)}
		err := a.Keep(t.Context(), c.object, c.r)
		var status *pacs.StatusError
		if errors.As(err, &status) != (c.status != 0) || status != nil && status.Status != c.status || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
		if kept := err == nil; a.Gate.Waiting("1.2.3") != kept || len(s.All()) > 0 != kept {
			t.Errorf("%s: waiting %v, held %d", name, a.Gate.Waiting("1.2.3"), len(s.All()))
		}
	}
}

func TestArchive_HoldsWhatIsOnDisk(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	a := &Archive{Store: s, Gate: NewGate(time.Second, time.Minute)}
	wants := func(when, class, instance string, want bool) {
		t.Helper()
		if got, err := a.Holds(t.Context(), class, instance); got != want || err != nil {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	wants("before", digitalXRay, "1.2.3.1", false)
	kept := keep(t, s, servetest.Object{})
	wants("kept", digitalXRay, "1.2.3.1", true)
	wants("of another class", "1.2", "1.2.3.1", false)
	if err := os.Truncate(s.Path(kept.Object), 100); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Holds(t.Context(), digitalXRay, "1.2.3.1"); got || err == nil {
		t.Errorf("damaged: %v, %v", got, err)
	}
}

func TestArchive_Released(t *testing.T) {
	for _, sign := range []bool{false, true} {
		a := &Archive{Store: open(t, t.TempDir(), Options{}), Gate: NewGate(time.Hour, time.Hour), CompleteOnRelease: sign}
		o := pacs.Object{Association: pacs.Association{ID: "7"}, SOPClassUID: digitalXRay, SOPInstanceUID: "1.2.3.1"}
		if err := a.Keep(t.Context(), o, bytes.NewReader(servetest.Object{}.Bytes(t))); err != nil {
			t.Fatal(err)
		}
		a.Released(t.Context(), o.Association)
		if ready, _ := a.Gate.ready(time.Now()); len(ready) > 0 != sign {
			t.Errorf("release is a sign %v: complete %q", sign, ready)
		}
	}
}
