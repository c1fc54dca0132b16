package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/test/peers"
	"github.com/mvmae/mvmae/test/peers/dimse"
)

// plugin is where Debian's orthanc-dicomweb puts it.
const plugin = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"

func needDicomwebPeers(t *testing.T) {
	t.Helper()
	err := dimse.Find()
	if err == nil {
		_, err = os.Stat(plugin)
	}
	if err != nil {
		codecprog.Skip(t, fmt.Sprintf("%v: %s", err, hint.Of(hint.Wrap(err, `run "make peers"`))))
	}
}

// listening is a server that peers reach, and the address of its DICOMweb.
func listening(t *testing.T) (*durable, string) {
	t.Helper()
	d := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Hour, Limit: time.Hour})
	ln := httptest.NewServer(d.Handler())
	t.Cleanup(ln.Close)
	return d, ln.URL + pathWeb
}

// guide is docs/dicomweb.md for a server at another address.
func guide(t *testing.T, url string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/dicomweb.md")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "http://127.0.0.1:8080/dicom-web", url)
}

// orthancOf starts an Orthanc that knows us as the guide says.
func orthancOf(t *testing.T, url string) *dimse.Orthanc {
	t.Helper()
	_, text, _ := strings.Cut(guide(t, url), "```json\n")
	text, _, _ = strings.Cut(text, "```")
	var config map[string]any
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		t.Fatalf("the guide's configuration: %v\n%s", err, text)
	}
	o, err := dimse.StartOrthanc(t.Context(), t.TempDir(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestPeers_CurlAsTheGuideSays(t *testing.T) {
	needDicomwebPeers(t)
	_, url := listening(t)
	dir := t.TempDir()
	for name, o := range map[string][]byte{"frontal.dcm": explicit(t, nil), "lateral.dcm": explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"})} {
		if err := os.WriteFile(filepath.Join(dir, name), o, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, script, _ := strings.Cut(guide(t, url), "## With curl\n")
	script, _, _ = strings.Cut(script, "##")
	out, err := dimse.Run(t.Context(), "sh", "-e", "-c", "cd "+dir+"\n"+script)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out, "\n") // one document each, the last of two lines
	if len(lines) < 4 || !strings.Contains(lines[0], "1.2.3.2") || !strings.Contains(lines[1], "/dicom-web/studies/1.2.3") || !strings.Contains(lines[2], "00280010") {
		t.Errorf("%s", out)
	}
	got, err := os.ReadFile(filepath.Join(dir, "study.multipart"))
	if err != nil || !bytes.Contains(got, explicit(t, nil)) {
		t.Errorf("%d bytes retrieved, %v", len(got), err)
	}
}

// dicomwebClient sends two files and what is none, asks for them in every way, and prints what it found. Where it compares data
// sets it uses pydicom's equality.
const dicomwebClient = `
import json, sys
from io import BytesIO
from pydicom import dcmread, Dataset
from dicomweb_client.api import DICOMwebClient
url, files = sys.argv[1], sys.argv[2:]
sets = [dcmread(f) for f in files]
c = DICOMwebClient(url)
out = {}
r = c.store_instances(sets)
out["stored"] = [i.ReferencedSOPInstanceUID for i in r.ReferencedSOPSequence]
out["retrieve_url"] = [r.RetrieveURL] + [i.RetrieveURL for i in r.ReferencedSOPSequence]
study = sets[0].StudyInstanceUID

found = [Dataset.from_json(d) for d in c.search_for_studies(search_filters={"PatientName": "yamada*", "StudyDate": "20260101-20260131"})]
out["studies"] = [[d.StudyInstanceUID, str(d.PatientName), d.NumberOfStudyRelatedInstances, d.ModalitiesInStudy] for d in found]
out["none"] = c.search_for_studies(search_filters={"PatientID": "nobody"})
out["series"] = [Dataset.from_json(d).SeriesInstanceUID for d in c.search_for_series(study)]
out["instances"] = [Dataset.from_json(d).SOPInstanceUID for d in c.search_for_instances(study, limit=1, get_remaining=True)]

same = lambda a, b: a == b and a.file_meta.TransferSyntaxUID == b.file_meta.TransferSyntaxUID and a.PixelData == b.PixelData
one = c.retrieve_instance(study, sets[1].SeriesInstanceUID, sets[1].SOPInstanceUID)
out["instance_same"] = same(one, sets[1])
for way in (c.retrieve_study, c.iter_study): # at once, as a stream
    out[way.__name__] = [same(a, b) for a, b in zip(way(study, media_types=(("application/dicom", "*"),)), sets)]
out["series_same"] = same(c.retrieve_series(study, sets[0].SeriesInstanceUID, media_types=(("application/dicom", "*"),))[0], sets[0])

# Metadata is what pydicom reads of the files, but for pixels; text is UTF-8 there.
problems = []
for d, want in zip(c.retrieve_study_metadata(study), sets):
    got = Dataset.from_json(d)
    del want.PixelData
    want.decode()
    want.SpecificCharacterSet = "ISO_IR 192"
    for e in want:
        if e.tag not in got or got[e.tag].VR != e.VR or got[e.tag].value != e.value:
            problems.append("%s %s %r, want %r" % (e.tag, e.keyword, got.get(e.tag), e.value))
    problems += ["%s is extra" % e.tag for e in got if e.tag not in want]
out["metadata_problems"] = problems
print(json.dumps(out))
`

func TestPeers_DicomwebClientStoresSearchesRetrieves(t *testing.T) {
	needDicomwebPeers(t)
	_, url := listening(t)
	esc := strings.NewReplacer("ESC", "\x1b")
	name := esc.Replace("Yamada^Tarou=ESC$B;3EDESC(B^ESC$BB@O:ESC(B=ESC$B$d$^$@ESC(B^ESC$B$?$m$&ESC(B")
	japanese := map[tag.Tag]any{tag.SpecificCharacterSet: `\ISO 2022 IR 87`, tag.PatientName: name}
	dir := t.TempDir()
	args := []string{"-c", dicomwebClient, url}
	for i, o := range [][]byte{
		explicit(t, japanese),
		image(t, dicom.JPEGLSLossless, map[tag.Tag]any{
			tag.SpecificCharacterSet: `\ISO 2022 IR 87`, tag.PatientName: name, tag.SOPInstanceUID: "1.2.3.2", tag.SeriesInstanceUID: "1.2.3.5",
			tag.PixelSpacing: []string{"0.139", "0.139"}, tag.ImageComments: `a\b`, tag.ImageType: []string{"ORIGINAL", "", "X"},
			tag.FrameIncrementPointer: []int{0x0018, 0x1063}, tag.ReferencePixelX0: 7, tag.TextValue: "1 < 2 & \"3\"",
			tag.ViewCodeSequence: []dicom.Item{{
				{Tag: tag.CodeValue, Value: "399348003"}, {Tag: tag.CodingSchemeDesignator, Value: "SCT"}, {Tag: tag.CodeMeaning, Value: "antero-posterior"},
				{Tag: tag.ViewModifierCodeSequence},
			}},
		}),
	} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, o, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	text, err := dimse.Run(t.Context(), peers.PythonPath(), args...)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:]), &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	study := "http://127.0.0.1/dicom-web/studies/1.2.3" // dicomweb-client leaves the port out of the header Host
	list := func(values ...any) []any { return append([]any{}, values...) }
	want := map[string]any{
		"stored":       list("1.2.3.1", "1.2.3.2"),
		"retrieve_url": list(study, study+"/series/1.2.3.4/instances/1.2.3.1", study+"/series/1.2.3.5/instances/1.2.3.2"),
		"studies":      list(list("1.2.3", "Yamada^Tarou=山田^太郎=やまだ^たろう", 2.0, "DX")),
		"none":         list(), "series": list("1.2.3.4", "1.2.3.5"), "instances": list("1.2.3.1", "1.2.3.2"),
		"instance_same": true, "retrieve_study": list(true, true), "iter_study": list(true, true), "series_same": true,
		"metadata_problems": list(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// callOf calls the REST API of an Orthanc.
func callOf(t *testing.T, o *dimse.Orthanc) func(method, path string, body, result any) {
	return func(method, path string, body, result any) {
		t.Helper()
		if err := o.Call(t.Context(), method, path, body, result); err != nil {
			t.Fatalf("%v\n%s", err, o.Log())
		}
	}
}

// inOrthanc puts objects of one study into Orthanc and returns its name for the study.
func inOrthanc(t *testing.T, o *dimse.Orthanc, objects ...[]byte) string {
	t.Helper()
	var parent struct{ ParentStudy string }
	for _, one := range objects {
		callOf(t, o)("POST", "/instances", one, &parent)
	}
	return parent.ParentStudy
}

func TestPeers_OrthancSends(t *testing.T) {
	needDicomwebPeers(t)
	d, url := listening(t)
	d.run(t, &fakeModel{})
	o := orthancOf(t, url)
	sent := map[string][]byte{
		"1.2.3.1": explicit(t, nil),
		"1.2.3.2": image(t, dicom.JPEG2000Lossless, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"}),
	}
	name := inOrthanc(t, o, sent["1.2.3.1"], sent["1.2.3.2"])
	callOf(t, o)("POST", "/dicom-web/servers/mvmae/stow", map[string]any{"Resources": []string{name}, "Synchronous": true}, nil)
	st, err := d.d.store.Study("1.2.3")
	if err != nil || st == nil || len(st.Objects) != 2 {
		t.Fatalf("%+v, %v\n%s", st, err, o.Log())
	}
	for _, object := range st.Objects {
		got, err := os.ReadFile(d.d.store.Path(object))
		if err != nil {
			t.Fatal(err)
		}
		want := sent[object.SOPInstanceUID]
		_, from, err := dicom.ReadMeta(want)
		if err != nil || !bytes.HasSuffix(got, want[from:]) {
			t.Errorf("another object arrived as %s, %v", object.SOPInstanceUID, err)
		}
	}
	// The guide's header: the sender does not say that the study is complete. That of a later study, who does, comes first.
	stored(t, d.do(stow(t, "/studies", explicit(t, map[tag.Tag]any{tag.StudyInstanceUID: "1.9"}))))
	for e := range d.events {
		if e.StudyInstanceUID != "1.9" {
			t.Fatalf("%s is %s", e.StudyInstanceUID, e.State)
		}
		if e.State == "done" {
			break
		}
	}
}

func TestPeers_OrthancSearchesAndFetches(t *testing.T) {
	needDicomwebPeers(t)
	d, url := listening(t)
	o := orthancOf(t, url)
	call := callOf(t, o)
	ours := [][]byte{explicit(t, nil), image(t, dicom.JPEG2000Lossless, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"})}
	stored(t, d.do(stow(t, "/studies", ours...)))
	var found []map[string]struct{ Value any }
	call("POST", "/dicom-web/servers/mvmae/qido", map[string]any{"Uri": "/studies", "Arguments": map[string]string{"00100020": "P*"}}, &found)
	if len(found) != 1 || fmt.Sprint(found[0]["0020000D"].Value) != "1.2.3" {
		t.Errorf("found %v", found)
	}
	call("POST", "/dicom-web/servers/mvmae/retrieve", map[string]any{"Resources": []map[string]string{{"Study": "1.2.3"}}, "Synchronous": true}, nil)
	var fetched []string
	if call("GET", "/instances", nil, &fetched); len(fetched) != 2 {
		t.Errorf("Orthanc fetched %v\n%s", fetched, o.Log())
	}
}

func TestPeers_OrthancIsToldOfEachObject(t *testing.T) {
	needDicomwebPeers(t)
	for what, c := range map[string]struct {
		held   []byte // by us, before
		second map[tag.Tag]any
		kept   int
		fails  string // what Orthanc's log says
	}{
		"one of a class that is not taken": {nil, map[tag.Tag]any{tag.SOPClassUID: "1.2.840.10008.5.1.4.1.1.2"}, 1, "only able to receive 1 instances out of 2"},
		"one that we hold otherwise":       {explicit(t, map[tag.Tag]any{tag.PatientID: "P2"}), nil, 3, ""},
	} {
		d, url := listening(t)
		o := orthancOf(t, url)
		if c.held != nil {
			stored(t, d.do(stow(t, "/studies", c.held)))
		}
		second := map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"}
		maps.Copy(second, c.second)
		name := inOrthanc(t, o, explicit(t, nil), explicit(t, second))
		err := o.Call(t.Context(), "POST", "/dicom-web/servers/mvmae/stow", map[string]any{"Resources": []string{name}, "Synchronous": true}, nil)
		if (err != nil) != (c.fails != "") || !strings.Contains(o.Log(), c.fails) {
			t.Errorf("%s: %v\n%s", what, err, o.Log())
		}
		if st, err := d.d.store.Study("1.2.3"); err != nil || len(st.Objects) != c.kept {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
}
