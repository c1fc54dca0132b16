package pacs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs"
)

const digitalXRay = "1.2.840.10008.5.1.4.1.1.1.1"

// memory is an archive that forgets.
type memory struct {
	mu       sync.Mutex
	objects  map[string][]byte // by SOP instance UID
	about    map[string]pacs.Object
	broken   []error // what reading gave of objects that did not come whole
	released chan pacs.Association
	begun    chan struct{} // told of every Keep, if it is there
	refuse   error
}

func newMemory() *memory {
	return &memory{objects: map[string][]byte{}, about: map[string]pacs.Object{}, released: make(chan pacs.Association, 1000)}
}

func (m *memory) Keep(_ context.Context, o pacs.Object, part10 io.Reader) error {
	if m.begun != nil {
		m.begun <- struct{}{}
	}
	if m.refuse != nil {
		return m.refuse
	}
	b, err := io.ReadAll(part10)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.broken = append(m.broken, err)
		return fmt.Errorf("keep: %w", err)
	}
	m.objects[o.SOPInstanceUID], m.about[o.SOPInstanceUID] = b, o
	return nil
}

func (m *memory) Holds(_ context.Context, _, uid string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if uid == "1.2.3.666" {
		return false, errors.New("the disk says no")
	}
	_, ok := m.objects[uid]
	return ok, nil
}

func (m *memory) Released(_ context.Context, a pacs.Association) { m.released <- a }

func (m *memory) object(uid string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects[uid]
}

// lockedBuffer is what a server logs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a server on a free port of this machine.
type running struct {
	*pacs.Server
	*memory
	node pacs.Node
	log  lockedBuffer
	stop func() // and wait for its end
}

func start(t *testing.T, opt pacs.Options) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, ln, opt)
}

func startOn(t *testing.T, ln net.Listener, opt pacs.Options) *running {
	t.Helper()
	r := &running{memory: newMemory()}
	if opt.Archive == nil {
		opt.Archive = r.memory
	}
	opt.Log = slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.Server, err = pacs.NewServer(opt); err != nil {
		t.Fatal(err)
	}
	ae := opt.AETitle
	if ae == "" {
		ae = pacs.DefaultAE
	}
	r.node = pacs.Node{AE: ae, Host: "127.0.0.1"}
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		r.node.Port = a.Port
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, ln) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// dial asks for an association for echo and digital radiographs in explicit VR little endian.
func (r *running) dial(t *testing.T, opt pacs.ClientOptions) (*pacs.Client, error) {
	t.Helper()
	return pacs.Dial(t.Context(), r.node, opt, pacs.Proposal{SOPClass: pacs.Verification},
		pacs.Proposal{SOPClass: digitalXRay, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}})
}

func (r *running) mustDial(t *testing.T) *pacs.Client {
	t.Helper()
	c, err := r.dial(t, pacs.ClientOptions{AETitle: "SENDER"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// object is a Part 10 file with that many bytes of pixels.
func object(t testing.TB, uid string, pixels int) []byte {
	t.Helper()
	var b bytes.Buffer
	err := dicom.Write(&b, dicom.ExplicitVRLittleEndian, []dicom.Element{
		{Tag: tag.SOPClassUID, Value: digitalXRay}, {Tag: tag.SOPInstanceUID, Value: uid}, {Tag: tag.StudyInstanceUID, Value: "1.2.3"},
		{Tag: tag.SeriesInstanceUID, Value: "1.2.3.4"}, {Tag: tag.PatientName, Value: "Secret^Person"}, {Tag: tag.PatientID, Value: "SECRET-17"},
		{Tag: tag.Modality, Value: "DX"}, {Tag: tag.PixelData, VR: "OW", Value: bytes.Repeat([]byte("pixels, "), pixels/8)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestServer_KeepsWhatIsSentByteForByte(t *testing.T) {
	s := start(t, pacs.Options{})
	c := s.mustDial(t)
	if err := c.Echo(t.Context()); err != nil {
		t.Errorf("echo: %v", err)
	}
	// Of all lengths around that of a fragment, and much longer.
	sent := map[string][]byte{}
	for i, n := range []int{0, 8, 262000, 262136, 262144, 262152, 524288, 3 << 20} {
		uid := fmt.Sprintf("1.2.3.%d", i)
		sent[uid] = object(t, uid, n)
		if err := c.Store(t.Context(), bytes.NewReader(sent[uid])); err != nil {
			t.Fatalf("store %d bytes: %v", len(sent[uid]), err)
		}
	}
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("release: %v", err)
	}
	a := <-s.released
	for uid, want := range sent {
		if !bytes.Equal(s.object(uid), want) {
			t.Errorf("object %s of %d bytes was kept as one of %d", uid, len(want), len(s.object(uid)))
		}
	}
	want := pacs.Object{
		Association: pacs.Association{ID: a.ID, CallingAE: "SENDER", CalledAE: "MVMAE", Remote: "127.0.0.1"},
		SOPClassUID: digitalXRay, SOPInstanceUID: "1.2.3.1", TransferSyntaxUID: dicom.ExplicitVRLittleEndian,
	}
	if diff := cmp.Diff(want, s.about["1.2.3.1"]); diff != "" {
		t.Errorf("what the archive was told (-want +got)\n%s", diff)
	}
	s.stop()
	counts := s.Counts()
	if counts.Bytes < 4<<20 {
		t.Errorf("counted %d bytes", counts.Bytes)
	}
	wantCounts := pacs.Counts{Associations: 1, Released: 1, Objects: int64(len(sent)), Echoes: 1}
	if diff := cmp.Diff(wantCounts, counts, cmpopts.IgnoreFields(counts, "Bytes"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("counts (-want +got)\n%s", diff)
	}
	if log := s.log.String(); strings.Contains(strings.ToLower(log), "secret") || strings.Contains(log, "1.2.3.") {
		t.Errorf("patient data in the log:\n%s", log)
	}
}

// The statuses of refused objects: the association goes on after each.
func TestServer_RefusesObjectsByStatus(t *testing.T) {
	for _, c := range []struct {
		name    string
		refuse  error
		limits  pacs.Limits
		uid     string
		status  pacs.Status
		comment string
		code    pacs.Refusal
	}{
		{"archive's choice", fmt.Errorf("keep: %w", &pacs.StatusError{
			Status: pacs.StatusNotMatching, Comment: "another SOP class inside", Err: errors.New("inside information"),
		}), pacs.Limits{}, "1.2.3.1", pacs.StatusNotMatching, "another SOP class inside", pacs.RefusedObject},
		{"archive's error", errors.New("no space left on device"), pacs.Limits{}, "1.2.3.1", pacs.StatusOutOfResources, "the object could not be stored", pacs.RefusedObject},
		{"too large", nil, pacs.Limits{ObjectBytes: 1 << 20}, "1.2.3.1", pacs.StatusOutOfResources, "an object of more than 1048576 bytes", pacs.RefusedLarge},
		{"a UID that is none", nil, pacs.Limits{}, "1.2.3/../../x", pacs.StatusInvalidInstance, "the SOP instance UID may hold digits and dots alone", pacs.RefusedIdentity},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, pacs.Options{Limits: c.limits})
			s.refuse = c.refuse
			client := s.mustDial(t)
			err := client.Store(t.Context(), bytes.NewReader(object(t, c.uid, 3<<19)))
			var status *pacs.StatusError
			if !errors.As(err, &status) || status.Status != c.status || status.Comment != c.comment {
				t.Errorf("the sender got %v", err)
			}
			if err := client.Echo(t.Context()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if n := s.Counts().Refused[c.code]; n != 1 {
				t.Errorf("counted %d of %s", n, c.code)
			}
			if len(s.objects) > 0 {
				t.Error("something was kept")
			}
			if err := client.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServer_AnObjectWithoutEndIsCutOff(t *testing.T) {
	s := start(t, pacs.Options{Limits: pacs.Limits{ObjectBytes: 1 << 20}})
	client := s.mustDial(t)
	if err := client.Store(t.Context(), bytes.NewReader(object(t, "1.2.3.1", 8<<20))); err == nil {
		t.Error("8 MiB were taken where 1 is the limit")
	}
	s.stop()
	if diff := cmp.Diff(map[pacs.Refusal]int64{pacs.RefusedLarge: 1, pacs.RefusedProtocol: 1}, s.Counts().Refused); diff != "" {
		t.Errorf("refused (-want +got)\n%s", diff)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// Both ends together allocate a few buffers for an object of 128 MiB.
func TestServer_MemoryDoesNotGrowWithTheObject(t *testing.T) {
	m := &measuring{}
	s := start(t, pacs.Options{Archive: m})
	client := s.mustDial(t)
	head, err := dicom.Meta{SOPClassUID: digitalXRay, SOPInstanceUID: "1.2.3.1", TransferSyntaxUID: dicom.ExplicitVRLittleEndian}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const size = 128 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := client.Store(t.Context(), io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, size))); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.Counts().Bytes; n != size {
		t.Errorf("%d bytes arrived, %d were sent", n, size)
	}
}

// endless gives the head of an object, then calls when it is read on.
type endless struct {
	head []byte
	when func() error
}

func (e *endless) Read(b []byte) (int, error) {
	if len(e.head) == 0 {
		return 0, e.when()
	}
	n := copy(b, e.head)
	e.head = e.head[n:]
	return n, nil
}

func TestServer_AbortInsideAnObjectLeavesNothing(t *testing.T) {
	s := start(t, pacs.Options{})
	s.begun = make(chan struct{}, 1)
	gone := errors.New("the sender's disk broke")
	ctx, cancel := context.WithCancel(t.Context())
	client := s.mustDial(t)
	err := client.Store(ctx, &endless{object(t, "1.2.3.1", 1<<20), func() error {
		<-s.begun
		cancel()
		client.Abort(ctx)
		return gone
	}})
	if !errors.Is(err, gone) {
		t.Errorf("the sender got %v", err)
	}
	s.stop()
	if len(s.objects) > 0 || len(s.broken) != 1 {
		t.Errorf("%d objects were kept, %d broken", len(s.objects), len(s.broken))
	}
	if len(s.released) > 0 {
		t.Error("an abort was taken for a release")
	}
	if n := s.Counts().Refused[pacs.RefusedLost]; n != 1 {
		t.Errorf("counted %d broken objects", n)
	}
}

func TestServer_ClassesAndSyntaxes(t *testing.T) {
	s := start(t, pacs.Options{})
	syntax := func(uids ...string) []string { return uids }
	for _, c := range []struct {
		name, class string
		proposed    []string
		want        string // "" if it is refused
	}{
		{"the first that is decoded", digitalXRay, syntax(dicom.JPEG2000, dicom.ExplicitVRLittleEndian), dicom.JPEG2000},
		{"a known one if none is decoded", digitalXRay, syntax("1.2.3.4", "1.2.840.10008.1.2.4.100"), "1.2.840.10008.1.2.4.100"},
		{"decoded before known", digitalXRay, syntax("1.2.840.10008.1.2.4.100", dicom.ImplicitVRLittleEndian), dicom.ImplicitVRLittleEndian},
		{"unknown", digitalXRay, syntax("1.2.3.4"), ""},
		{"echo is not compressed", pacs.Verification, syntax(dicom.JPEG2000), ""},
		{"computed tomography", "1.2.840.10008.5.1.4.1.1.2", syntax(dicom.ExplicitVRLittleEndian), ""},
		{"computed radiography", "1.2.840.10008.5.1.4.1.1.1", syntax(dicom.RLELossless), dicom.RLELossless},
		{"secondary capture", "1.2.840.10008.5.1.4.1.1.7.4", syntax(dicom.JPEGBaseline), dicom.JPEGBaseline},
	} {
		client, err := pacs.Dial(t.Context(), s.node, pacs.ClientOptions{}, pacs.Proposal{SOPClass: c.class, TransferSyntaxes: c.proposed})
		if err != nil {
			t.Fatal(err)
		}
		if got := client.Accepted(c.class); !cmp.Equal(got, append([]string(nil), strings.Fields(c.want)...)) {
			t.Errorf("%s: accepted %v, want %q", c.name, got, c.want)
		}
		client.Close(t.Context())
	}
	s.stop()
	if n := s.Counts().Refused[pacs.RefusedContext]; n != 3 {
		t.Errorf("counted %d refused contexts", n)
	}
	for _, want := range []string{"not offered here: 1.2.840.10008.5.1.4.1.1.2", "none of the transfer syntaxes is known for " + digitalXRay} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}
