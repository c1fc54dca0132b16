package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/serve/studies"
)

// retrieved is the objects of a WADO-RS answer.
func retrieved(t testing.TB, header http.Header, body io.Reader) (objects [][]byte, syntaxes []string) {
	t.Helper()
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || media != "multipart/related" || params["type"] != "application/dicom" {
		t.Fatalf("%s, %v", header.Get("Content-Type"), err)
	}
	for parts := multipart.NewReader(body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			return objects, syntaxes
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		_, params, err := mime.ParseMediaType(textproto.MIMEHeader(part.Header).Get("Content-Type"))
		if err != nil || part.Header.Get("Content-Length") != fmt.Sprint(len(data)) {
			t.Errorf("part %v of %d bytes, %v", part.Header, len(data), err)
		}
		objects, syntaxes = append(objects, data), append(syntaxes, params["transfer-syntax"])
	}
}

func TestWado_RetrievesWhatWasSent(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	sent := [][]byte{
		explicit(t, nil),
		image(t, dicom.JPEG2000Lossless, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.2"}),
		explicit(t, map[tag.Tag]any{tag.SOPInstanceUID: "1.2.3.3", tag.SeriesInstanceUID: "1.2.3.5"}),
	}
	stored(t, d.do(stow(t, "/studies", sent...)))
	for path, want := range map[string][][]byte{
		"/studies/1.2.3":                                      sent,
		"/studies/1.2.3/series/1.2.3.4":                       sent[:2],
		"/studies/1.2.3/series/1.2.3.4/instances/1.2.3.2":     sent[1:2],
		"/studies/1.2.3/series/1.2.3.5/instances/1.2.3.3":     sent[2:],
		"/studies/1.2.3?accept=multipart/*;transfer-syntax=*": sent,
	} {
		w := d.get(path, `multipart/related; type="application/dicom"; transfer-syntax=*`)
		length := w.Body.Len()
		got, syntaxes := retrieved(t, w.Header(), w.Body)
		if diff := cmp.Diff(want, got); diff != "" || w.Header().Get("Content-Length") != fmt.Sprint(length) {
			t.Errorf("%s: %s bytes, %s", path, w.Header().Get("Content-Length"), diff)
		}
		for i, o := range got {
			if m, _, err := dicom.ReadMeta(o); err != nil || m.TransferSyntaxUID != syntaxes[i] {
				t.Errorf("%s: %s is called %s, %v", path, m.TransferSyntaxUID, syntaxes[i], err)
			}
		}
	}
}

func TestWado_Negotiation(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	stored(t, d.do(stow(t, "/studies", explicit(t, nil), image(t, dicom.JPEG2000Lossless, map[tag.Tag]any{tag.StudyInstanceUID: "1.5", tag.SOPInstanceUID: "1.5.1"}))))
	for accept, want := range map[string][2]int{ // uncompressed, compressed
		"":    {200, 200},
		"*/*": {200, 200},
		`multipart/related; type="application/dicom"`:                                                  {200, 406},
		`multipart/related; type=application/dicom; transfer-syntax=*`:                                 {200, 200},
		`multipart/related;type="application/dicom";transfer-syntax=` + dicom.JPEG2000Lossless:         {406, 200},
		`multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50, */*;q=0`: {406, 406},
		`multipart/related; type="application/octet-stream"`:                                           {406, 406},
		`image/jpeg, multipart/related; type="application/dicom"; transfer-syntax=*;q=0.1`:             {200, 200},
		"*/*;q=0":                {406, 406},
		"application/dicom+json": {406, 406},
	} {
		for i, study := range []string{"1.2.3", "1.5"} {
			w := d.get("/studies/"+study, accept)
			if w.Code != want[i] {
				t.Errorf("Accept: %s: study %s: %d, want %d", accept, study, w.Code, want[i])
			}
			if w.Code == 406 {
				problemOf(t, w)
			}
		}
	}
	for path, code := range map[string]string{
		"/studies/1.7": "no_such_study", "/studies/1.2.3/series/1": "no_such_instance", "/studies/1.2.3/series/1.2.3.4/instances/9": "no_such_instance",
		"/studies/1.2.3/metadata/x": "not_found", "/studies/a": "malformed_uid", "/studies/1.2.3/series/..x": "malformed_uid",
		"/studies/1.2.3/rendered": "not_offered", "/studies/1.2.3/series/1.2.3.4/instances/1.2.3.1/frames/1": "not_offered",
		"/studies/1.7/metadata": "no_such_study",
	} {
		if p := problemOf(t, d.get(path, "")); p.Code != code {
			t.Errorf("%s: %+v", path, p)
		}
	}
	if p := problemOf(t, d.get("/studies/1.2.3/metadata", "application/dicom+xml")); p.Status != 406 {
		t.Errorf("metadata as XML: %+v", p)
	}
}

func TestWado_ConflictingObjects(t *testing.T) {
	first, last := explicit(t, nil), explicit(t, map[tag.Tag]any{tag.PatientID: "P2"})
	d := openDurable(t, t.TempDir(), DurableOptions{})
	stored(t, d.do(stow(t, "/studies", first)))
	stored(t, d.do(stow(t, "/studies", last)))
	for rule, want := range map[studies.Conflicts][][]byte{studies.UseBoth: {first}, studies.UseFirst: {first}, studies.UseLast: {last}} {
		d.d.opts.Conflicts = rule
		w := d.get("/studies/1.2.3", "")
		if got, _ := retrieved(t, w.Header(), w.Body); !cmp.Equal(got, want) {
			t.Errorf("%s: %d objects", rule, len(got))
		}
		if found := search(t, d, "/instances"); len(found) != 1 {
			t.Errorf("%s: %d instances", rule, len(found))
		}
	}
}

// A file that has lost its end must not look like a whole object.
func TestWado_DamagedFileBreaksOff(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	stored(t, d.do(stow(t, "/studies", explicit(t, nil))))
	found, err := d.d.store.Find(t.Context(), "1.2.3.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.d.store.Path(found[0]), found[0].Size-10); err != nil {
		t.Fatal(err)
	}
	network, stop, stopped := running(t, d.Server)
	client := http.Client{Transport: &http.Transport{DialContext: network.dial}}
	response, err := client.Get("http://server/dicom-web/studies/1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer ended with %v", err)
	}
	response.Body.Close()
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestWado_Metadata(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	// A header that is longer than what is read of a file at first.
	long := strings.Repeat("x", 2*headBytes)
	stored(t, d.do(stow(t, "/studies", explicit(t, nil), image(t, dicom.RLELossless, map[tag.Tag]any{
		tag.SOPInstanceUID: "1.2.3.2", tag.PatientName: "A^B=C", tag.TextValue: long,
	}))))
	w := d.get("/studies/1.2.3/series/1.2.3.4/metadata", "application/dicom+json")
	var docs []dataset
	if err := json.Unmarshal(w.Body.Bytes(), &docs); err != nil || w.Header().Get("Content-Type") != "application/dicom+json" || len(docs) != 2 {
		t.Fatalf("%v: %s", err, w.Body)
	}
	for i, want := range []map[string]string{
		{"00080018": "1.2.3.1", "00100010": `{"Alphabetic":"Müller^Jana"}`, "00280010": "8", "0040A160": ""},
		{"00080018": "1.2.3.2", "00100010": `{"Alphabetic":"A^B","Ideographic":"C"}`, "0040A160": long},
	} {
		for name, value := range want {
			if got := docs[i].text(name); got != value {
				t.Errorf("%s is %s, want %s", name, got, value)
			}
		}
		if _, ok := docs[i]["7FE00010"]; ok {
			t.Error("there are pixels")
		}
	}
}
