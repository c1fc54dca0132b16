package pacs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/test/peers"
	"github.com/mvmae/mvmae/test/peers/dimse"
)

func needPeers(t *testing.T) {
	t.Helper()
	if err := dimse.Find(); err != nil {
		codecprog.Skip(t, fmt.Sprintf("%v: %s", err, hint.Of(err)))
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := dimse.Run(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// image is an object in a transfer syntax. A compressed one has pixels that no decoder would take: who carries it must not care.
func image(t *testing.T, syntax, class, uid string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := dicom.Write(&b, syntax, []dicom.Element{
		{Tag: tag.SOPClassUID, Value: class}, {Tag: tag.SOPInstanceUID, Value: uid}, {Tag: tag.StudyInstanceUID, Value: "1.2.3"},
		{Tag: tag.SeriesInstanceUID, Value: "1.2.3.4"}, {Tag: tag.PatientID, Value: "P1"}, {Tag: tag.PatientName, Value: "A^B"}, {Tag: tag.Modality, Value: "DX"},
		{Tag: tag.StudyDate, Value: "20260101"}, {Tag: tag.StudyTime, Value: "120000"}, {Tag: tag.AccessionNumber, Value: "A1"}, {Tag: tag.StudyID, Value: "1"},
		{Tag: tag.PatientBirthDate, Value: ""}, {Tag: tag.PatientSex, Value: "O"}, {Tag: tag.SeriesNumber, Value: "1"}, {Tag: tag.InstanceNumber, Value: "1"},
		{Tag: tag.SamplesPerPixel, Value: 1}, {Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.Rows, Value: 64}, {Tag: tag.Columns, Value: 64},
		{Tag: tag.BitsAllocated, Value: 16}, {Tag: tag.BitsStored, Value: 12}, {Tag: tag.HighBit, Value: 11}, {Tag: tag.PixelRepresentation, Value: 0},
		{Tag: tag.PixelData, VR: "OW", Value: bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 1024)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// samePixels compares what was kept with what was sent: a peer may write the header anew.
func samePixels(t *testing.T, want, got []byte) {
	t.Helper()
	pixels := func(b []byte) (string, *dicom.Pixels) {
		f, err := dicom.Parse(b, dicom.Limits{})
		if err != nil {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		p, err := f.Pixels()
		if err != nil {
			t.Fatal(err)
		}
		return f.TransferSyntaxUID, p
	}
	wantSyntax, wantPixels := pixels(want)
	gotSyntax, gotPixels := pixels(got)
	if wantSyntax != gotSyntax || !bytes.Equal(wantPixels.Data, gotPixels.Data) ||
		!bytes.Equal(slices.Concat(wantPixels.Fragments...), slices.Concat(gotPixels.Fragments...)) {
		t.Errorf("another object arrived: %s in place of %s", gotSyntax, wantSyntax)
	}
}

func TestPeers_DCMTKSendsEachSyntax(t *testing.T) {
	needPeers(t)
	s := start(t, pacs.Options{Peers: []pacs.Node{{AE: "STORESCU"}, {AE: "ECHOSCU"}}})
	port := strconv.Itoa(s.node.Port)
	run(t, "echoscu", "-aec", "MVMAE", "127.0.0.1", port)
	for i, c := range []struct{ flag, syntax string }{
		{"-xe", dicom.ExplicitVRLittleEndian}, {"-xb", dicom.ExplicitVRBigEndian}, {"-xi", dicom.ImplicitVRLittleEndian}, {"-xd", dicom.DeflatedExplicitVRLittleEndian},
		{"-xs", dicom.JPEGLosslessSV1}, {"-xy", dicom.JPEGBaseline}, {"-xx", dicom.JPEGExtended}, {"-xt", dicom.JPEGLSLossless}, {"-xu", dicom.JPEGLSNearLossless},
		{"-xv", dicom.JPEG2000Lossless}, {"-xw", dicom.JPEG2000}, {"-xr", dicom.RLELossless},
	} {
		uid := fmt.Sprintf("1.2.3.9.%d", i)
		sent := image(t, c.syntax, digitalXRay, uid)
		run(t, "storescu", c.flag, "-aec", "MVMAE", "127.0.0.1", port, write(t, "x.dcm", sent))
		if got := s.object(uid); got == nil {
			t.Errorf("storescu %s: nothing arrived", c.flag)
		} else {
			samePixels(t, sent, got)
		}
	}
	// Who is not listed is told so.
	if out, err := dimse.Run(t.Context(), "echoscu", "-aet", "STRANGER", "-aec", "MVMAE", "127.0.0.1", port); err == nil || !strings.Contains(out, "Calling AE Title Not Recognized") {
		t.Errorf("echoscu as a stranger: %v\n%s", err, out)
	}
	// And an abort in the middle is no release.
	released := len(s.released)
	run(t, "storescu", "--abort", "-aec", "MVMAE", "127.0.0.1", port, write(t, "x.dcm", image(t, dicom.ExplicitVRLittleEndian, digitalXRay, "1.2.3.10")))
	s.stop()
	if len(s.released) != released {
		t.Error("storescu --abort was taken for a release")
	}
}

// DCMTK over TLS, with a certificate of its own and without.
func TestPeers_DCMTKSpeaksTLS(t *testing.T) {
	needPeers(t)
	cert, pool, certFile, keyFile := certificate(t)
	s := start(t, pacs.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}})
	sent := image(t, dicom.ExplicitVRLittleEndian, digitalXRay, "1.2.3.1")
	to := []string{"-aec", "MVMAE", "127.0.0.1", strconv.Itoa(s.node.Port), write(t, "x.dcm", sent)}
	run(t, "storescu", append([]string{"+tls", keyFile, certFile, "+cf", certFile}, to...)...)
	samePixels(t, sent, s.object("1.2.3.1"))
	for _, flags := range [][]string{{"+tla", "+cf", certFile}, nil} {
		if out, err := dimse.Run(t.Context(), "storescu", append(flags, to...)...); err == nil {
			t.Errorf("storescu %v was let in\n%s", flags, out)
		}
	}
	s.stop()
	if n := s.Counts().Refused[pacs.RefusedTLS]; n != 2 {
		t.Errorf("counted %d", n)
	}
}

func TestPeers_WeSendToDCMTK(t *testing.T) {
	needPeers(t)
	dir := t.TempDir()
	scp, err := dimse.StoreSCP(t.Context(), "SCP", dir, "+xa")
	if err != nil {
		t.Fatal(err)
	}
	defer scp.Close()
	node := pacs.Node{AE: "SCP", Host: "127.0.0.1", Port: scp.Port}
	for i, syntax := range []string{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian, dicom.JPEG2000Lossless, dicom.RLELossless} {
		uid := fmt.Sprintf("1.2.3.9.%d", i)
		sent := image(t, syntax, digitalXRay, uid)
		c, err := pacs.Dial(t.Context(), node, pacs.ClientOptions{},
			pacs.Proposal{SOPClass: digitalXRay, TransferSyntaxes: []string{syntax}}, pacs.Proposal{SOPClass: pacs.Verification})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Echo(t.Context()), c.Store(t.Context(), bytes.NewReader(sent)), c.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "DX."+uid))
		if err != nil {
			t.Fatal(err)
		}
		samePixels(t, sent, got)
	}
}

// orthanc starts one that knows a server of ours, which knows it.
func orthanc(t *testing.T, committed func(context.Context, string, pacs.Commitment)) (*dimse.Orthanc, *running) {
	t.Helper()
	port, err := dimse.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, pacs.Options{Peers: []pacs.Node{{AE: "ORTHANC", Host: "127.0.0.1", Port: port}, {AE: "MOVESCU"}}, Committed: committed})
	o, err := dimse.StartOrthanc(t.Context(), t.TempDir(), map[string]any{
		"DicomPort": port, "DicomCheckCalledAet": true, "UnknownSopClassAccepted": true,
		"DicomModalities": map[string]any{
			"mvmae": map[string]any{"AET": "MVMAE", "Host": "127.0.0.1", "Port": s.node.Port, "AllowStorageCommitment": true},
			"scu":   map[string]any{"AET": "MOVESCU", "Host": "127.0.0.1", "Port": 1},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o, s
}

func call(t *testing.T, o *dimse.Orthanc, method, path string, body, result any) {
	t.Helper()
	if err := o.Call(t.Context(), method, path, body, result); err != nil {
		t.Fatal(err)
	}
}

// upload puts objects into Orthanc and returns its names for them.
func upload(t *testing.T, o *dimse.Orthanc, objects ...[]byte) []string {
	t.Helper()
	var ids []string
	for _, b := range objects {
		var answer struct{ ID string }
		call(t, o, "POST", "/instances", b, &answer)
		ids = append(ids, answer.ID)
	}
	return ids
}

func TestPeers_OrthancSendsAndIsCommittedTo(t *testing.T) {
	needPeers(t)
	o, s := orthanc(t, nil)
	call(t, o, "POST", "/modalities/mvmae/echo", map[string]any{}, nil)
	sent := [][]byte{image(t, dicom.ExplicitVRLittleEndian, digitalXRay, "1.2.3.1"), image(t, dicom.JPEG2000Lossless, "1.2.840.10008.5.1.4.1.1.7", "1.2.3.2")}
	ids := upload(t, o, sent...)
	call(t, o, "POST", "/modalities/mvmae/store", map[string]any{"Resources": ids, "Synchronous": true}, nil)
	samePixels(t, sent[0], s.object("1.2.3.1"))
	samePixels(t, sent[1], s.object("1.2.3.2"))

	// We hold two of three.
	refs := [][]string{{digitalXRay, "1.2.3.1"}, {"1.2.840.10008.5.1.4.1.1.7", "1.2.3.2"}, {digitalXRay, "1.2.3.3"}}
	var began struct{ ID, Path string }
	call(t, o, "POST", "/modalities/mvmae/storage-commitment", map[string]any{"DicomInstances": refs}, &began)
	type instance struct{ SOPClassUID, SOPInstanceUID string }
	var report struct {
		Status    string
		Success   []instance
		Failures  []instance
		RemoteAET string
	}
	// The report comes in an association of its own: our server counts it when Orthanc has taken it.
	for report.Status == "" || report.Status == "Pending" {
		call(t, o, "GET", "/storage-commitment/"+began.ID, nil, &report)
	}
	if report.Status != "Failure" || len(report.Success) != 2 || !cmp.Equal(report.Failures, []instance{{digitalXRay, "1.2.3.3"}}) || report.RemoteAET != "MVMAE" {
		t.Errorf("Orthanc's report: %+v", report)
	}
}

func TestPeers_OrthancCommitsToUs(t *testing.T) {
	needPeers(t)
	reports := make(chan outcome, 1)
	o, s := orthanc(t, func(_ context.Context, from string, c pacs.Commitment) { reports <- outcome{from, c} })
	node := pacs.Node{AE: "ORTHANC", Host: "127.0.0.1", Port: o.Port}
	c, err := pacs.Dial(t.Context(), node, pacs.ClientOptions{}, pacs.Proposal{SOPClass: pacs.StorageCommitment},
		pacs.Proposal{SOPClass: digitalXRay, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Store(t.Context(), bytes.NewReader(image(t, dicom.ExplicitVRLittleEndian, digitalXRay, "1.2.3.1"))); err != nil {
		t.Fatal(err)
	}
	refs := []pacs.Reference{{digitalXRay, "1.2.3.1"}, {digitalXRay, "1.2.3.2"}}
	if err := c.RequestCommitment(t.Context(), "1.2.99", refs); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	want := outcome{"ORTHANC", pacs.Commitment{TransactionUID: "1.2.99", Committed: refs[:1], Failed: []pacs.Failure{{refs[1], pacs.StatusNoSuchInstance}}}}
	if diff := cmp.Diff(want, <-reports, cmp.AllowUnexported(outcome{})); diff != "" {
		t.Errorf("Orthanc's report (-want +got)\n%s", diff)
	}
	s.stop()
}

func TestPeers_CompleteFetchesWhatIsMissing(t *testing.T) {
	needPeers(t)
	o, s := orthanc(t, nil)
	node := pacs.Node{AE: "ORTHANC", Host: "127.0.0.1", Port: o.Port}
	var sent [][]byte
	for i := range 4 {
		sent = append(sent, image(t, dicom.ExplicitVRLittleEndian, digitalXRay, fmt.Sprintf("1.2.3.%d", i)))
	}
	upload(t, o, sent...)
	// We hold the first already.
	ours, err := s.dial(t, pacs.ClientOptions{AETitle: "ORTHANC"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ours.Store(t.Context(), bytes.NewReader(sent[0])), ours.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	done, err := pacs.Complete(t.Context(), node, pacs.ClientOptions{}, s.memory, "MVMAE", "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pacs.Completion{Known: 4, Missing: 3, Moved: pacs.Moved{Completed: 3}}, done); diff != "" {
		t.Errorf("completion (-want +got)\n%s", diff)
	}
	for i := range sent {
		samePixels(t, sent[i], s.object(fmt.Sprintf("1.2.3.%d", i)))
	}
	done, err = pacs.Complete(t.Context(), node, pacs.ClientOptions{}, s.memory, "MVMAE", "1.2.3")
	if diff := cmp.Diff(pacs.Completion{Known: 4}, done); diff != "" || err != nil {
		t.Errorf("again: %v (-want +got)\n%s", err, diff)
	}
	// An application that Orthanc does not know cannot be sent to; the cure is told.
	_, err = pacs.Complete(t.Context(), node, pacs.ClientOptions{}, newMemory(), "NOBODY", "1.2.3")
	if cure := hint.Of(err); !strings.Contains(cure, "lists AE title NOBODY with its host and port") {
		t.Errorf("error %v, hint %q", err, cure)
	}
	found := findBoth(t, node)
	if found != 1 {
		t.Errorf("found %d series", found)
	}
}

// findBoth asks for series with our C-FIND and with DCMTK's, and wants the same of both.
func findBoth(t *testing.T, node pacs.Node) int {
	t.Helper()
	c, err := pacs.Dial(t.Context(), node, pacs.ClientOptions{}, pacs.Proposal{SOPClass: pacs.StudyRootFind})
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	err = c.Find(t.Context(), pacs.SeriesLevel, []dicom.Element{{Tag: tag.StudyInstanceUID, Value: "1.2.3"}, {Tag: tag.SeriesInstanceUID}}, func(h dicom.Header) bool {
		ours = append(ours, h.String(tag.SeriesInstanceUID))
		return true
	})
	if err := errors.Join(err, c.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	theirs := run(t, "findscu", "-S", "-aet", "MVMAE", "-aec", node.AE, "-k", "QueryRetrieveLevel=SERIES", "-k", "StudyInstanceUID=1.2.3",
		"-k", "SeriesInstanceUID", node.Host, strconv.Itoa(node.Port))
	for _, uid := range ours {
		if !strings.Contains(theirs, "["+uid) {
			t.Errorf("findscu did not find series %s\n%s", uid, theirs)
		}
	}
	return len(ours)
}

// DCMTK's movescu has Orthanc send to us: the PACS calls, not who asked.
func TestPeers_MoveByAThirdParty(t *testing.T) {
	needPeers(t)
	o, s := orthanc(t, nil)
	sent := image(t, dicom.ExplicitVRLittleEndian, digitalXRay, "1.2.3.1")
	upload(t, o, sent)
	run(t, "movescu", "-S", "-aem", "MVMAE", "-aec", "ORTHANC", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3", "127.0.0.1", strconv.Itoa(o.Port))
	samePixels(t, sent, s.object("1.2.3.1"))
	if a := s.about["1.2.3.1"]; a.CallingAE != "ORTHANC" {
		t.Errorf("sent by %q", a.CallingAE)
	}
}

// pynetdicomClient sends the files it is given, in the syntax they have, asks for commitment to them, and prints the
// statuses; the report is to be taken in the same program.
const pynetdicomClient = `
import json, sys
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt, build_role
from pynetdicom.sop_class import Verification, StorageCommitmentPushModel
from queue import Queue
port, own, files = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
reports = Queue()
def on_report(event):
    reports.put(event)
    return 0x0000, None
scp = AE("PYNETDICOM")
scp.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
server = scp.start_server(("127.0.0.1", own), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
sets = [dcmread(f) for f in files]
ae = AE("PYNETDICOM")
ae.add_requested_context(Verification)
ae.add_requested_context(StorageCommitmentPushModel)
for d in sets:
    ae.add_requested_context(d.SOPClassUID, d.file_meta.TransferSyntaxUID)
a = ae.associate("127.0.0.1", port, ae_title="MVMAE")
assert a.is_established
out = {"echo": a.send_c_echo().Status, "store": [a.send_c_store(d, priority=i % 3).Status for i, d in enumerate(sets)]}
ask = Dataset()
ask.TransactionUID = "1.2.99"
ask.ReferencedSOPSequence = []
for d in sets:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    ask.ReferencedSOPSequence.append(item)
status, _ = a.send_n_action(ask, 1, StorageCommitmentPushModel, UID("1.2.840.10008.1.20.1.1"))
out["action"] = status.Status
a.release()
e = reports.get(timeout=60)
out["event"], out["committed"] = e.event_type, len(e.event_information.ReferencedSOPSequence)
server.shutdown()
print(json.dumps(out))
`

func TestPeers_PynetdicomSendsEachSyntaxAndIsCommittedTo(t *testing.T) {
	needPeers(t)
	own, err := dimse.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, pacs.Options{Peers: []pacs.Node{{AE: "PYNETDICOM", Host: "127.0.0.1", Port: own}}})
	args := []string{"-c", pynetdicomClient, strconv.Itoa(s.node.Port), strconv.Itoa(own)}
	syntaxes := []string{
		dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian, dicom.ExplicitVRBigEndian, dicom.DeflatedExplicitVRLittleEndian, dicom.RLELossless,
		dicom.JPEGBaseline, dicom.JPEGExtended, dicom.JPEGLossless, dicom.JPEGLosslessSV1, dicom.JPEGLSLossless, dicom.JPEGLSNearLossless,
		dicom.JPEG2000Lossless, dicom.JPEG2000, dicom.HTJ2KLossless, dicom.HTJ2KLosslessRPCL, dicom.HTJ2K,
	}
	sent := map[string][]byte{}
	for i, syntax := range syntaxes {
		uid := fmt.Sprintf("1.2.3.9.%d", i)
		sent[uid] = image(t, syntax, "1.2.840.10008.5.1.4.1.1.1", uid)
		args = append(args, write(t, "x.dcm", sent[uid]))
	}
	var got struct {
		Echo, Action, Event, Committed int
		Store                          []int
	}
	out := run(t, peers.PythonPath(), args...)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.Echo+got.Action != 0 || got.Event != 1 || got.Committed != len(syntaxes) || len(got.Store) != len(syntaxes) || slices.Max(got.Store) != 0 {
		t.Errorf("pynetdicom's statuses: %+v", got)
	}
	for i := range syntaxes {
		uid := fmt.Sprintf("1.2.3.9.%d", i)
		samePixels(t, sent[uid], s.object(uid))
		if high := i%3 == 1; s.about[uid].Urgent != high {
			t.Errorf("object %d, sent with priority %d: urgent %v", i, i%3, !high)
		}
	}
}
