package serve

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// image is an object with the attributes that searches are about. Those of set take the place of its own.
func image(t testing.TB, syntax string, set map[tag.Tag]any) []byte {
	t.Helper()
	values := map[tag.Tag]any{
		tag.SOPClassUID: "1.2.840.10008.5.1.4.1.1.1.1", tag.SOPInstanceUID: "1.2.3.1", tag.StudyInstanceUID: "1.2.3", tag.SeriesInstanceUID: "1.2.3.4",
		tag.SpecificCharacterSet: "ISO_IR 192", tag.PatientID: "P1", tag.PatientName: "Müller^Jana", tag.PatientBirthDate: "19700101", tag.PatientSex: "F",
		tag.StudyDate: "20260102", tag.StudyTime: "101530.5", tag.AccessionNumber: "A1", tag.StudyID: "7", tag.StudyDescription: "CHEST 2V",
		tag.Modality: "DX", tag.SeriesNumber: "1", tag.InstanceNumber: "1", tag.BodyPartExamined: "CHEST", tag.ViewPosition: "PA",
		tag.Rows: 8, tag.Columns: 8, tag.BitsAllocated: 16, tag.BitsStored: 12, tag.HighBit: 11, tag.PixelRepresentation: 0, tag.SamplesPerPixel: 1,
		tag.PhotometricInterpretation: "MONOCHROME2", tag.PixelData: bytes.Repeat([]byte{1, 2}, 64),
	}
	maps.Copy(values, set)
	var elems []dicom.Element
	for key, value := range values {
		elems = append(elems, dicom.Element{Tag: key, Value: value})
	}
	var file bytes.Buffer
	if err := dicom.Write(&file, syntax, elems); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// explicit is an image in the transfer syntax that every caller takes.
func explicit(t testing.TB, set map[tag.Tag]any) []byte {
	return image(t, dicom.ExplicitVRLittleEndian, set)
}

// stow is a STOW-RS request.
func stow(t testing.TB, path string, objects ...[]byte) *http.Request {
	t.Helper()
	var list []Upload
	for _, o := range objects {
		list = append(list, Upload{Data: o})
	}
	media, body := relatedOf(t, list)
	r := httptest.NewRequest("POST", "/dicom-web"+path, bytes.NewReader(body))
	r.Header.Set("Content-Type", media)
	return r
}

func (d *durable) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	return w
}

func (d *durable) get(path, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/dicom-web"+path, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	return d.do(r)
}

// element is an attribute as a caller reads it.
type element struct {
	VR    string            `json:"vr"`
	Value []json.RawMessage `json:"Value"`
}

type dataset map[string]element

// text is the first value of an element, without quotes.
func (d dataset) text(name string) string {
	if e := d[name]; len(e.Value) > 0 {
		return strings.Trim(string(e.Value[0]), `"`)
	}
	return ""
}

func (d dataset) items(t testing.TB, name string) (list []dataset) {
	t.Helper()
	for _, raw := range d[name].Value {
		var item dataset
		if err := json.Unmarshal(raw, &item); err != nil {
			t.Fatal(err)
		}
		list = append(list, item)
	}
	return list
}

// stored is a STOW-RS answer in short: "UID" for what is kept, "UID w" for a warning, "UID f" for a failure.
func stored(t testing.TB, w *httptest.ResponseRecorder) (list []string) {
	t.Helper()
	var doc dataset
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Header().Get("Content-Type") != "application/dicom+json" {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	for _, item := range doc.items(t, "00081199") {
		uid := item.text("00081155")
		if at := item.text("00081190"); !strings.HasPrefix(at, "http://example.com/dicom-web/studies/") || !strings.HasSuffix(at, "/instances/"+uid) || item.text("00081150") == "" {
			t.Errorf("reference %v", item)
		}
		list = append(list, strings.TrimSpace(uid+" "+item.text("00081196")))
	}
	for _, item := range append(doc.items(t, "00081198"), doc.items(t, "0008119A")...) {
		list = append(list, strings.TrimSpace(item.text("00081155")+" f"+item.text("00081197")))
	}
	slices.Sort(list)
	return list
}

// discard is the answer to a caller who only counts.
type discard struct {
	header http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { d.bytes += len(b); return len(b), nil }

// Neither taking in nor handing out takes memory with the object.
func TestDicomweb_MemoryDoesNotGrowWithTheObject(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	const size = 24 << 20
	rq := stow(t, "/studies", explicit(t, map[tag.Tag]any{tag.PixelData: make([]byte, size)}))
	allocated := func(do func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	w := &discard{header: http.Header{}}
	if n := allocated(func() { d.Handler().ServeHTTP(w, rq) }); n > size/4 || w.status != 200 {
		t.Errorf("status %d, %d bytes allocated to store", w.status, n)
	}
	w = &discard{header: http.Header{}}
	get := httptest.NewRequest("GET", "/dicom-web/studies/1.2.3", nil)
	if n := allocated(func() { d.Handler().ServeHTTP(w, get) }); n > size/4 || w.status != 200 || w.bytes < size {
		t.Errorf("status %d, %d bytes allocated to hand out %d", w.status, n, w.bytes)
	}
	w = &discard{header: http.Header{}}
	get = httptest.NewRequest("GET", "/dicom-web/studies/1.2.3/metadata", nil)
	if n := allocated(func() { d.Handler().ServeHTTP(w, get) }); n > size/4 || w.status != 200 {
		t.Errorf("status %d, %d bytes allocated for metadata", w.status, n)
	}
}
