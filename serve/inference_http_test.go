package serve

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/serve/inference"
	"github.com/mvmae/mvmae/serve/servetest"
)

const pathFakeInfer = "/v2/models/fake/versions/7/infer"

func inferWith(s *Server, body []byte, header string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", pathFakeInfer, bytes.NewReader(body))
	if header != "" {
		r.Header.Set(inference.HeaderLength, header)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// preparedStudy is a study's views as a caller prepares them, and what the server says of the study.
func preparedStudy(t *testing.T, s *Server) (images []float32, views []int64, answer *Result) {
	t.Helper()
	list := files(t, servetest.Study("1.2.3", 1)...)
	answer, err := engineOf(t, s).Classify(t.Context(), Uploads(list...))
	if err != nil {
		t.Fatal(err)
	}
	side := engineOf(t, s).metadata.Spec.ImageSize
	for _, f := range list {
		img, err := cxr.FromDICOM(f.Data, engineOf(t, s).recipe, dicom.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		input := make([]float32, side*side)
		cxr.Input(img.Stored, side, input)
		images, views = append(images, input...), append(views, int64(img.View))
	}
	return images, views, answer
}

func TestInfer_SameNumbersAsTheStudy(t *testing.T) {
	s := readyServer(t, &fakeModel{attend: true}, ServerOptions{})
	images, views, want := preparedStudy(t, s)
	shape := fmt.Sprintf(`"shape":[%d,1,32,32]`, len(views))
	data, err := json.Marshal(map[string]any{"i": images, "v": views})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`{"i":`, `{"id":"a","inputs":[{"name":"image","datatype":"FP32",`+shape+`,"data":`, `,"v":`,
		`},{"name":"view","datatype":"INT64","shape":[2],"data":`).Replace(string(data)) + "]}"
	w := inferWith(s, []byte(text), "")
	var got struct {
		Model   string `json:"model_name"`
		Version string `json:"model_version"`
		ID      string
		Outputs []struct {
			Name, Datatype string
			Shape          []int64
			Data           []float32
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got.Model != "fake" || got.Version != "7" || got.ID != "a" {
		t.Fatalf("status %d, %v: %.200s", w.Code, err, w.Body)
	}
	shapes := map[string][]int64{}
	for _, o := range got.Outputs {
		shapes[o.Name] = o.Shape
		if o.Name != "logits" {
			continue
		}
		for i, v := range want.Views {
			for l, label := range model.Labels {
				p := 1 / (1 + math.Exp(-float64(o.Data[i*model.NumLabels+l])))
				if math.Abs(p-float64(v.Probabilities[label])) > 1e-6 { // float32
					t.Errorf("view %d, %s: %g, the study's answer has %g", i, label, p, v.Probabilities[label])
				}
			}
		}
	}
	if diff := cmp.Diff(map[string][]int64{"logits": {2, 14}, "probability": {2, 14}, "embedding": {2, 32}, "attention": {2, 4, 4}}, shapes); diff != "" {
		t.Errorf("shapes (-want +got)\n%s", diff)
	}

	// The same in binary, with one output alone.
	head := `{"inputs":[{"name":"image","datatype":"FP32",` + shape + fmt.Sprintf(`,"parameters":{"binary_data_size":%d}},`, 4*len(images)) +
		`{"name":"view","datatype":"INT64","shape":[2],"parameters":{"binary_data_size":16}}],"outputs":[{"name":"logits","parameters":{"binary_data":true}}]}`
	body := []byte(head)
	for _, v := range images {
		body = binary.LittleEndian.AppendUint32(body, math.Float32bits(v))
	}
	for _, v := range views {
		body = binary.LittleEndian.AppendUint64(body, uint64(v))
	}
	w = inferWith(s, body, strconv.Itoa(len(head)))
	n, err := strconv.Atoi(w.Header().Get(inference.HeaderLength))
	if err != nil || w.Code != 200 || w.Body.Len() != n+2*model.NumLabels*4 {
		t.Fatalf("status %d, %d bytes of JSON, %v: %.200s", w.Code, n, err, w.Body)
	}
	var logits []float32
	for b := w.Body.Bytes()[n:]; len(b) > 0; b = b[4:] {
		logits = append(logits, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	if diff := cmp.Diff(got.Outputs[0].Data, logits, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Errorf("logits (-json +binary)\n%s", diff)
	}
}

// inferenceBody is a request of n images of zeros.
func inferenceBody(n int, rest string) []byte {
	zeros := strings.TrimSuffix(strings.Repeat("0,", n*32*32), ",")
	views := strings.TrimSuffix(strings.Repeat("0,", n), ",")
	return fmt.Appendf(nil, `{"inputs":[{"name":"image","datatype":"FP32","shape":[%d,1,32,32],"data":[%s]},{"name":"view","datatype":"INT64","shape":[%d],"data":[%s]}]%s}`,
		n, zeros, n, views, rest)
}

func TestInfer_RefusesInTheProtocolsForm(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	body := string(inferenceBody(1, ""))
	change := func(old, with string) []byte { return []byte(strings.Replace(body, old, with, 1)) }
	for _, c := range []struct {
		name   string
		body   []byte
		status int
		code   string
		says   string
	}{
		{"no JSON", []byte("x"), 400, "malformed_inference", "JSON"},
		{"another input", change(`"image"`, `"picture"`), 400, "malformed_inference", `"picture"`},
		{"an input twice", change(`"view"`, `"image"`), 400, "malformed_inference", `"image" of INT64`},
		{"an input missing", []byte(`{"inputs":[]}`), 400, "malformed_inference", "missing"},
		{"another side", change(`[1,1,32,32]`, `[1,1,16,64]`), 400, "malformed_inference", "[N,1,32,32]"},
		{"views for other images", change(`"shape":[1],"data":[0]`, `"shape":[2],"data":[0,0]`), 400, "malformed_inference", `"view" has shape [2]`},
		{"no such view", change(`"shape":[1],"data":[0]`, `"shape":[1],"data":[9]`), 400, "malformed_inference", "is 9"},
		{"another output", inferenceBody(1, `,"outputs":[{"name":"x"}]`), 400, "malformed_inference", `"x"`},
		{"an output that this model lacks", inferenceBody(1, `,"outputs":[{"name":"attention"}]`), 400, "malformed_inference", `"attention"`},
		{"an output twice", inferenceBody(1, `,"outputs":[{"name":"logits"},{"name":"logits"}]`), 400, "malformed_inference", "each once"},
		{"too many images", inferenceBody(17, ""), 413, "too_many_images", "17"},
		{"too long", append([]byte(body), bytes.Repeat([]byte(" "), 1<<20)...), 413, "request_too_large", "bytes"},
	} {
		w := inferWith(s, c.body, "")
		var p InferenceProblem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != c.status || p.Code != c.code || !strings.Contains(p.Error, c.says) {
			t.Errorf("%s: status %d, %v: %s", c.name, w.Code, err, w.Body)
		}
		if media := w.Header().Get("Content-Type"); media != "application/json" {
			t.Errorf("%s: %s", c.name, media)
		}
	}
	for path, status := range map[string]int{
		"/v2/models/other": 404, "/v2/models/fake/versions/8": 404, "/v2/models/fake/versions/8/ready": 404, "/v2/nothing": 404, "/v2/models/fake/infer": 405,
	} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		var p InferenceProblem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != status || p.Error == "" {
			t.Errorf("%s: status %d, %v: %s", path, w.Code, err, w.Body)
		}
	}
}

func TestInfer_LargeBodyIsNotRead(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	r := httptest.NewRequest("POST", pathFakeInfer, panicking{})
	r.ContentLength = 1 << 40
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestInfer_ComesUnderTheSameAdmission(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{Studies: 1})
	s.house <- struct{}{}
	if w := inferWith(s, inferenceBody(1, ""), ""); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	<-s.house
	if w := inferWith(s, inferenceBody(1, ""), ""); w.Code != 200 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestInference_SaysWhatThereIs(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{})
	for path, want := range map[string]string{
		"/v2":                              `"name":"mvmae-serve"`,
		"/v2/health/live":                  `"live":true`,
		"/v2/health/ready":                 `"ready":true`,
		"/v2/models/fake":                  `"versions":["7"]`,
		"/v2/models/fake/versions/7":       `{"name":"image","datatype":"FP32","shape":[-1,1,32,32]},{"name":"view","datatype":"INT64","shape":[-1]}`,
		"/v2/models/fake/ready":            `"name":"fake","ready":true`,
		"/v2/models/fake/versions/7/ready": `"ready":true`,
	} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	NewServer(ServerOptions{Logger: quiet}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v2/health/ready", nil))
	if w.Code != 503 {
		t.Errorf("without a model: status %d", w.Code)
	}
}
