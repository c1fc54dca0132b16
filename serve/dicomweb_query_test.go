package serve

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/serve/studies"
)

// search is a QIDO-RS answer.
func search(t testing.TB, d *durable, path string) (found []dataset) {
	t.Helper()
	w := d.get(path, "application/dicom+json")
	if w.Code == 204 && w.Body.Len() == 0 {
		return nil
	}
	if err := json.Unmarshal(w.Body.Bytes(), &found); err != nil || w.Code != 200 || len(found) == 0 {
		t.Fatalf("%s: %d, %v: %s", path, w.Code, err, w.Body)
	}
	return found
}

// archive is a server with three studies: 1.1 of two series and three instances, 1.2 and 1.3 of one each.
func archive(t *testing.T) *durable {
	t.Helper()
	d := openDurable(t, t.TempDir(), DurableOptions{})
	for _, set := range []map[tag.Tag]any{
		{tag.StudyInstanceUID: "1.1", tag.SeriesInstanceUID: "1.1.1", tag.SOPInstanceUID: "1.1.1.1"},
		{tag.StudyInstanceUID: "1.1", tag.SeriesInstanceUID: "1.1.1", tag.SOPInstanceUID: "1.1.1.2", tag.ViewPosition: "LL", tag.InstanceNumber: "2"},
		{tag.StudyInstanceUID: "1.1", tag.SeriesInstanceUID: "1.1.2", tag.SOPInstanceUID: "1.1.2.1", tag.Modality: "CR", tag.SeriesNumber: "2"},
		{tag.StudyInstanceUID: "1.2", tag.SeriesInstanceUID: "1.2.1", tag.SOPInstanceUID: "1.2.1.1", tag.PatientID: "P2", tag.PatientName: "DOE^JOHN=ドウ",
			tag.StudyDate: "20260215", tag.StudyTime: "235959", tag.AccessionNumber: "B*2"},
		{tag.StudyInstanceUID: "1.3", tag.SeriesInstanceUID: "1.3.1", tag.SOPInstanceUID: "1.3.1.1", tag.PatientID: "P33", tag.PatientName: "doe",
			tag.StudyDate: "", tag.StudyTime: "", tag.AccessionNumber: ""},
	} {
		stored(t, d.do(stow(t, "/studies", explicit(t, set))))
	}
	return d
}

func TestQido_Matching(t *testing.T) {
	d := archive(t)
	const study, series, instance = "0020000D", "0020000E", "00080018"
	for _, c := range []struct {
		path, query, name string
		want              []string
	}{
		{"/studies", "", study, []string{"1.1", "1.2", "1.3"}},
		{"/studies", "PatientID=P2", study, []string{"1.2"}},
		{"/studies", "00100020=P2", study, []string{"1.2"}},
		{"/studies", "PatientID=P", study, nil},
		{"/studies", "PatientID=P*", study, []string{"1.1", "1.2", "1.3"}},
		{"/studies", "PatientID=P?", study, []string{"1.1", "1.2"}},
		{"/studies", "PatientID=", study, []string{"1.1", "1.2", "1.3"}},
		{"/studies", "PatientName=doe*", study, []string{"1.2", "1.3"}},
		{"/studies", "PatientName=DOE", study, []string{"1.3"}},
		{"/studies", "PatientName=doe^^", study, []string{"1.3"}},
		{"/studies", "PatientName=*john", study, []string{"1.2"}},
		{"/studies", "PatientName=ドウ", study, []string{"1.2"}},
		{"/studies", "PatientName=MÜLLER*", study, []string{"1.1"}},
		{"/studies", "StudyDate=20260102", study, []string{"1.1"}},
		{"/studies", "StudyDate=20260101-20260215", study, []string{"1.1", "1.2"}},
		{"/studies", "StudyDate=20260103-", study, []string{"1.2"}},
		{"/studies", "StudyDate=-20260103", study, []string{"1.1"}},
		{"/studies", "StudyTime=10-2359", study, []string{"1.1", "1.2"}},
		{"/studies", "StudyTime=1015", study, []string{"1.1"}},
		{"/studies", "StudyTime=1016-1100", study, nil},
		{"/studies", "AccessionNumber=A1&StudyDate=20260102", study, []string{"1.1"}},
		{"/studies", "AccessionNumber=A1&StudyDate=20260103", study, nil},
		{"/studies", "AccessionNumber=B*", study, []string{"1.2"}},
		{"/studies", "ModalitiesInStudy=CR", study, []string{"1.1"}},
		{"/studies", `ModalitiesInStudy=CR\MG`, study, []string{"1.1"}},
		{"/studies", "StudyInstanceUID=1.1,1.3,9", study, []string{"1.1", "1.3"}},
		{"/studies", `StudyInstanceUID=1.1\1.2`, study, []string{"1.1", "1.2"}},
		{"/studies", "Modality=CR", study, []string{"1.1", "1.2", "1.3"}}, // of another level: not matched by
		{"/studies", "limit=0", study, nil},
		{"/studies", "offset=9", study, nil},
		{"/series", "", series, []string{"1.1.1", "1.1.2", "1.2.1", "1.3.1"}},
		{"/series", "Modality=CR", series, []string{"1.1.2"}},
		{"/series", "ModalitiesInStudy=CR", series, []string{"1.1.1", "1.1.2"}},
		{"/series", "PatientID=P2", series, []string{"1.2.1"}},
		{"/studies/1.1/series", "", series, []string{"1.1.1", "1.1.2"}},
		{"/studies/1.1/series", "SeriesNumber=2", series, []string{"1.1.2"}},
		{"/studies/9/series", "", series, nil},
		{"/instances", "ViewPosition=LL", instance, []string{"1.1.1.2"}},
		{"/instances", "SOPInstanceUID=1.1.1.2,1.3.1.1", instance, []string{"1.1.1.2", "1.3.1.1"}},
		{"/studies/1.1/instances", "", instance, []string{"1.1.1.1", "1.1.1.2", "1.1.2.1"}},
		{"/studies/1.1/series/1.1.1/instances", "", instance, []string{"1.1.1.1", "1.1.1.2"}},
		{"/studies/1.1/series/1.1.1/instances", "InstanceNumber=2", instance, []string{"1.1.1.2"}},
		{"/studies/1.1/series/9/instances", "", instance, nil},
	} {
		path := c.path
		if c.query != "" {
			values, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			path += "?" + values.Encode()
		}
		var got []string
		for _, one := range search(t, d, path) {
			got = append(got, one.text(c.name))
		}
		slices.Sort(got)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s?%s (-want +got)\n%s", c.path, c.query, diff)
		}
	}
}

func TestQido_NamesInOtherScripts(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	const korean = "Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf" // PS3.5 I.2
	stored(t, d.do(stow(t, "/studies", explicit(t, map[tag.Tag]any{tag.SpecificCharacterSet: `\ISO 2022 IR 149`, tag.PatientName: korean}))))
	for _, name := range []string{"hong^*", "홍*", "洪^吉洞"} {
		found := search(t, d, "/studies?PatientName="+url.QueryEscape(name))
		if len(found) != 1 || found[0].text("00100010") != `{"Alphabetic":"Hong^Gildong","Ideographic":"洪^吉洞","Phonetic":"홍^길동"}` || found[0].text("00080005") != "ISO_IR 192" {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestQido_Attributes(t *testing.T) {
	d := archive(t)
	for path, want := range map[string]map[string]string{
		"/studies?StudyInstanceUID=1.1": {
			"00080005": "ISO_IR 192", "00080020": "20260102", "00080030": "101530.5", "00080050": "A1", "00080056": "ONLINE", "00080061": "CR DX", "00080090": "",
			"00080201": "", "00081190": "http://example.com/dicom-web/studies/1.1", "00100010": `{"Alphabetic":"Müller^Jana"}`, "00100020": "P1",
			"00100030": "19700101", "00100040": "F", "0020000D": "1.1", "00200010": "7", "00201206": "2", "00201208": "3",
		},
		"/studies/1.1/series?SeriesNumber=1": {
			"00080056": "ONLINE", "00080060": "DX", "0008103E": "", "00081190": "http://example.com/dicom-web/studies/1.1/series/1.1.1",
			"0020000D": "1.1", "0020000E": "1.1.1", "00200011": "1", "00201209": "2", "00400244": "", "00400245": "",
		},
		"/studies/1.1/series/1.1.2/instances?includefield=ViewPosition,00081030&includefield=PatientComments": {
			"00080016": "1.2.840.10008.5.1.4.1.1.1.1", "00080018": "1.1.2.1", "00080056": "ONLINE", "00081030": "CHEST 2V",
			"00081190": "http://example.com/dicom-web/studies/1.1/series/1.1.2/instances/1.1.2.1", "00185101": "PA",
			"0020000D": "1.1", "0020000E": "1.1.2", "00200013": "1", "00280008": "", "00280010": "8", "00280011": "8", "00280100": "16",
		},
	} {
		found := search(t, d, path)
		if len(found) != 1 {
			t.Fatalf("%s: %d rows", path, len(found))
		}
		got := map[string]string{}
		for name, e := range found[0] {
			var values []string
			for _, v := range e.Value {
				values = append(values, strings.Trim(string(v), `"`))
			}
			slices.Sort(values)
			if got[name] = strings.Join(values, " "); e.VR == "" {
				t.Errorf("%s has no VR", name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", path, diff)
		}
	}
	all := search(t, d, "/instances?SOPInstanceUID=1.1.2.1&includefield=all")
	if len(all) != 1 || len(all[0]) != len(fields)+2 { // and where it is, and that it is there
		t.Errorf("all: %d attributes, want %d", len(all[0]), len(fields)+2)
	}
}

func TestQido_PagesAndWarnings(t *testing.T) {
	d := archive(t)
	var uids []string
	for path := range map[string]bool{"/instances?limit=2": true, "/instances?limit=2&offset=2": true, "/instances?limit=2&offset=4": true} {
		for _, one := range search(t, d, path) {
			uids = append(uids, one.text("00080018"))
		}
	}
	slices.Sort(uids)
	if diff := cmp.Diff([]string{"1.1.1.1", "1.1.1.2", "1.1.2.1", "1.2.1.1", "1.3.1.1"}, uids); diff != "" {
		t.Errorf("pages (-want +got)\n%s", diff)
	}
	const service = "299 http://example.com/dicom-web: "
	for path, want := range map[string][]string{
		"/studies":                     nil,
		"/studies?limit=1&offset=1":    {service + "There are 1 additional results that can be requested"},
		"/studies?fuzzymatching=false": nil,
		"/studies?fuzzymatching=true":  {service + "The fuzzymatching parameter is not supported. Only literal matching has been performed."},
		"/studies?Modality=CR":         {service + "The attribute Modality is not matched by at this level."},
		"/studies?RequestAttributesSequence.ScheduledProcedureStepID=1": {service + "The attribute RequestAttributesSequence.ScheduledProcedureStepID is not matched by at this level."},
	} {
		if diff := cmp.Diff(want, d.get(path, "").Header().Values("Warning")); diff != "" {
			t.Errorf("%s (-want +got)\n%s", path, diff)
		}
	}
	for _, query := range []string{
		"PatinetID=1", "limit=x", "limit=-1", "offset=-1", "StudyDate=2026", "StudyDate=2026*", "StudyDate=-", "StudyTime=1", "StudyTime=ab",
		"fuzzymatching=maybe", "includefield=Nothing", "PatientID=1&PatientID=2", "1234567=1",
		"PatientID=" + strings.Repeat("*a", 200),
	} {
		if p := problemOf(t, d.get("/studies?"+query, "")); p.Status != 400 || p.Code != "bad_query" {
			t.Errorf("%s: %+v", query, p)
		}
	}
	if p := problemOf(t, d.get("/studies", "application/dicom+xml, text/html")); p.Status != 406 {
		t.Errorf("as XML: %+v", p)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"?", "", false}, {"a*", "abc", true}, {"*c", "abc", true}, {"a?c", "abc", true}, {"a*b*c", "axxbyyc", true},
		{"a*b*c", "axxbyy", false}, {"abc", "ab", false}, {"ab", "abc", false}, {"**", "x", true}, {"?", "ü", true}, {"*ab", "aab", true},
		{strings.Repeat("*a", 2000) + "b", strings.Repeat("a", 2000), false}, // in no time
	} {
		if got := glob(c.pattern, c.text); got != c.want {
			t.Errorf("%.20s like %.20s: %v", c.text, c.pattern, got)
		}
	}
}

// Whatever is asked is refused or answered, and what is matched by is among what a row has.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		"PatientName=a*b?&StudyDate=20260101-&limit=1&includefield=all", "00100020=%5C&StudyTime=10-1130", "StudyInstanceUID=1,2&fuzzymatching=true",
		"RequestAttributesSequence.StudyInstanceUID=1", "ModalitiesInStudy=CR%5CDX&offset=3",
	} {
		f.Add(query, "PatientName", "DOE^JANE")
	}
	f.Fuzz(func(t *testing.T, text, keyword, value string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		r := row{}
		r.objects = []studies.Object{{StudyInstanceUID: "1.2", Attributes: map[string][]string{keyword: {value}}}}
		r.study = r.objects
		for to := levelStudy; to <= levelInstance; to++ {
			q, err := parseQuery(values, to)
			if err != nil {
				continue
			}
			q.matches(&r, levelStudy, to)
			for _, k := range q.keys {
				if fields[k.tag].level > to {
					t.Errorf("level %d is matched by %s", to, k.tag)
				}
			}
		}
	})
}

func FuzzAccepted(f *testing.F) {
	f.Add(acceptObjects)
	f.Add(`a;b="c,d;e", */*;q=0, multipart/related; type=application/dicom`)
	f.Fuzz(func(t *testing.T, header string) {
		c := &gin.Context{Request: httptest.NewRequest("GET", "/", nil)}
		c.Request.Header.Set("Accept", header)
		for _, a := range accepted(c) {
			if a.media != strings.TrimSpace(a.media) {
				t.Errorf("media range %q", a.media)
			}
		}
	})
}
