package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/serve"
	"github.com/mvmae/mvmae/serve/servetest"
)

// modelFile writes a model of random weights, which ONNX Runtime runs like any other.
func modelFile(t *testing.T) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "model.onnx"), modelVersion(t, "1"))
}

// modelVersion is the content of such a file. MVMAE_TEST_PRESET makes it larger, for figures worth telling.
func modelVersion(t *testing.T, version string) []byte {
	t.Helper()
	libs.ForTests(t)
	preset, given := os.LookupEnv("MVMAE_TEST_PRESET")
	if !given {
		preset = "nano"
	}
	spec := exporttest.Spec(t, preset)
	meta := exporttest.Metadata(spec)
	meta.Calibration, meta.Version = json.RawMessage(`{"kind":"none"}`), version
	file, err := export.Build(meta, exporttest.Weights(spec))
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// studyDir writes a study of two views and something that is none.
func studyDir(t *testing.T, uid string) string {
	t.Helper()
	dir := t.TempDir()
	for i, o := range servetest.Study(uid, 3) {
		writeFile(t, filepath.Join(dir, fmt.Sprint(i)+".dcm"), o.Bytes(t))
	}
	return dir
}

// command runs the program as a person would.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "mvmae-serve", args...)
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}

// up starts a server on a free port. terminate sends SIGTERM and returns the exit code and the log.
func up(t *testing.T, args ...string) (url string, terminate func() (int, string)) {
	t.Helper()
	return upProgram(t, "mvmae-serve", args...)
}

// upProgram does so with a program that runs mvmae-serve.
func upProgram(t *testing.T, program string, args ...string) (url string, terminate func() (int, string)) {
	t.Helper()
	s := start(t, program, args...)
	return s.url, s.terminate
}

// server is a program that answers.
type server struct {
	*exec.Cmd
	url string
	log logBuffer
}

// logBuffer is what the program has logged. told is told of every write that there is room for.
type logBuffer struct {
	told chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.told <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await returns when the log has a text so many times.
func (b *logBuffer) await(text string, times int) {
	for strings.Count(b.String(), text) < times {
		<-b.told
	}
}

func start(t *testing.T, program string, args ...string) *server {
	t.Helper()
	s := &server{Cmd: exec.CommandContext(context.Background(), program, append([]string{"up", "--listen", "127.0.0.1:0"}, args...)...)}
	s.log.told = make(chan struct{}, 1)
	s.Stderr = &s.log
	stdout, err := s.StdoutPipe()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.terminate() })
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		code, log := s.terminate()
		t.Fatalf("up: exit code %d: %s", code, log)
	}
	s.url = strings.TrimSpace(url)
	return s
}

func (s *server) terminate() (int, string) {
	s.Process.Signal(syscall.SIGTERM) // fails when the process has ended by itself
	s.Wait()
	return s.ProcessState.ExitCode(), s.log.String()
}

// post has files classified and returns status and answer.
func post(t *testing.T, url string, paths ...string) (int, []byte) {
	t.Helper()
	return postTo(t, url+"/v1/studies:classify", paths...)
}

// postTo sends files as a form.
func postTo(t *testing.T, url string, paths ...string) (int, []byte) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		part, err := form.CreateFormFile("file", path)
		if err != nil {
			t.Fatal(err)
		}
		part.Write(data)
	}
	form.Close()
	response, err := http.Post(url, form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

// document parses JSON and takes out what differs by nature.
func document(t *testing.T, text []byte) map[string]any {
	t.Helper()
	doc := map[string]any{}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	delete(doc, "timings_ms")
	return doc
}

func TestUpAndClassify_SameNumbers(t *testing.T) {
	model, dir := modelFile(t), studyDir(t, "1.2.3")
	a, b := filepath.Join(dir, "0.dcm"), filepath.Join(dir, "1.dcm")
	code, stdout, stderr := command(t, "classify", "--json", "--model", model, dir)
	if code != 0 {
		t.Fatalf("classify: exit code %d: %s", code, stderr)
	}
	want := document(t, []byte(stdout))
	if want["schema_version"] != 1.0 {
		t.Errorf("schema_version %v", want["schema_version"])
	}
	delete(want, "schema_version")

	url, terminate := up(t, "--model", model)
	for _, path := range []string{"/livez", "/readyz"} {
		if response, err := http.Get(url + path); err != nil || response.StatusCode != 200 {
			t.Errorf("%s: %v, %v", path, response, err)
		}
	}
	for _, order := range [][]string{{a, b}, {b, a}} {
		status, answer := post(t, url, order...)
		if diff := cmp.Diff(want, document(t, answer)); status != 200 || diff != "" {
			t.Errorf("status %d (-command line +http)\n%s", status, diff)
		}
	}
	status, answer := post(t, url, a, writeFile(t, filepath.Join(t.TempDir(), "x"), servetest.Object{Study: "9"}.Bytes(t)))
	if doc := document(t, answer); status != 422 || doc["code"] != "two_studies" {
		t.Errorf("two studies: status %d: %s", status, answer)
	}
	code, log := terminate()
	if code != 0 {
		t.Errorf("up: exit code %d", code)
	}
	for _, line := range []string{"msg=listening", "msg=ready", "msg=request", "msg=draining", "msg=stopping", "study=" + serve.HashUID("1.2.3")} {
		if !strings.Contains(log, line) {
			t.Errorf("the log lacks %q:\n%s", line, log)
		}
	}
	if strings.Contains(log, "study=1.2.3") || strings.Contains(log, "0.dcm") || strings.Contains(log, "DOE") {
		t.Errorf("the log names the patient, the study or a file:\n%s", log)
	}
}

// Two objects fused are the mean of both alone, through the real runtime.
func TestClassify_FusesAsTheModelSays(t *testing.T) {
	model, dir := modelFile(t), studyDir(t, "1.2.3")
	classify := func(paths ...string) serve.Result {
		t.Helper()
		code, stdout, stderr := command(t, append([]string{"classify", "--json", "--model", model}, paths...)...)
		var r serve.Result
		if err := json.Unmarshal([]byte(stdout), &r); code != 0 || err != nil {
			t.Fatalf("exit code %d, %v: %s", code, err, stderr)
		}
		return r
	}
	a, b := classify(filepath.Join(dir, "0.dcm")), classify(filepath.Join(dir, "1.dcm"))
	both := classify(dir)
	differ := 0
	for label, p := range both.Probabilities {
		mean := (float64(a.Probabilities[label]) + float64(b.Probabilities[label])) / 2
		if d := float64(p) - mean; d > 1e-7 || d < -1e-7 { // both were rounded to float32
			t.Errorf("%s: %v fused, %v and %v alone", label, p, a.Probabilities[label], b.Probabilities[label])
		}
		if a.Probabilities[label] != b.Probabilities[label] {
			differ++
		}
	}
	if len(both.Probabilities) != 14 || differ == 0 {
		t.Errorf("%d probabilities, %d of them differ between the views", len(both.Probabilities), differ)
	}
	beside := cmpopts.IgnoreFields(serve.View{}, "ChangeWithout") // of a view that is not alone
	if diff := cmp.Diff([]serve.View{a.Views[0], b.Views[0]}, both.Views, beside); diff != "" {
		t.Errorf("a view among others gets another answer (-alone +together)\n%s", diff)
	}
}

func TestClassify_ExitCodes(t *testing.T) {
	model, study := modelFile(t), studyDir(t, "1.2.3")
	whole := servetest.Object{}.Bytes(t)
	dir := t.TempDir()
	file := func(name string, data []byte) string { return writeFile(t, filepath.Join(dir, name), data) }
	text := file("notes.txt", []byte("not DICOM"))
	hidden := filepath.Dir(file("hidden/.DS_Store", nil))
	file("hidden/DICOMDIR", nil)
	dangling := filepath.Join(t.TempDir(), "dangling.dcm")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(study, link); err != nil {
		t.Fatal(err)
	}
	dr := file("dr.dcm", servetest.Object{Modality: "DR"}.Bytes(t))
	huge := file("huge.dcm", nil)
	if err := os.Truncate(huge, 1<<30); err != nil { // takes no room on disk
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stdout []string
		stderr string
	}{
		{"a study", []string{study}, 0, []string{"study 1.2.3\n", "Atelectasis", "frontal", "view_position", "Research use only"}, ""},
		{"one sent twice", []string{study, study}, 0, []string{"duplicate"}, ""},
		{"one bad among good", []string{study, text}, 3, []string{"study 1.2.3", "not_dicom"}, "error: files refused: 1 of 3\n"},
		{"dangling link among good", []string{study, filepath.Dir(dangling)}, 3, []string{"unreadable"}, "error: files refused: 1 of 3\n"},
		{"not DICOM", []string{text}, 3, []string{"not_dicom"}, "error: no study can be classified; files refused: 1\nhint: "},
		{"truncated", []string{file("cut.dcm", whole[:len(whole)-9])}, 3, []string{"truncated"}, "error: no study"},
		{"compressed", []string{file("j.dcm", servetest.Object{Syntax: "1.2.840.10008.1.2.4.90"}.Bytes(t))}, 3,
			[]string{"unsupported_transfer_syntax", "JPEG 2000"}, "error: no study"},
		{"CT", []string{file("ct.dcm", servetest.Object{Modality: "CT"}.Bytes(t))}, 3, []string{"wrong_modality"}, "error: no study"},
		{"knee", []string{file("knee.dcm", servetest.Object{BodyPart: "KNEE"}.Bytes(t))}, 3, []string{"not_chest"}, "error: no study"},
		{"no file", []string{filepath.Join(dir, "nothing.dcm")}, 1, nil, "nothing.dcm: no such file or directory"},
		{"empty folder", []string{hidden}, 1, nil, "error: classify: no file in"},
		{"link to a folder", []string{link}, 0, []string{"study 1.2.3\n"}, ""},
		{"DR", []string{dr}, 3, []string{"wrong_modality"}, "error: no study"},
		{"DR where it is accepted", []string{"--modalities", "CR,DX,DR", dr}, 0, []string{"study 1.2.3\n"}, ""},
		{"MG is never accepted", []string{"--modalities", "MG", dr}, 2, nil, "--modalities"},
		{"larger than any object", []string{huge}, 3, []string{"too_large"}, "error: no study"},
		{"two studies", []string{study, studyDir(t, "4.5.6")}, 0, []string{"study 1.2.3\n", "study 4.5.6\n"}, ""},
	} {
		code, stdout, stderr := command(t, append([]string{"classify", "--model", model}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.stderr) || c.code == 0 && stderr != "" {
			t.Errorf("%s: exit code %d, want %d: %s", c.name, code, c.code, stderr)
		}
		for _, part := range c.stdout {
			if !strings.Contains(stdout, part) {
				t.Errorf("%s: the output lacks %q:\n%s", c.name, part, stdout)
			}
		}
	}
}

func TestClassify_SeveralStudiesAreOneDocument(t *testing.T) {
	code, stdout, stderr := command(t, "classify", "--json", "--model", modelFile(t), studyDir(t, "4.5.6"), studyDir(t, "1.2.3"),
		writeFile(t, filepath.Join(t.TempDir(), "x"), nil))
	var doc struct {
		SchemaVersion int `json:"schema_version"`
		Studies       []serve.Result
		Rejected      []serve.Rejection
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	if code != 3 || doc.SchemaVersion != 1 || len(doc.Studies) != 2 || doc.Studies[0].StudyInstanceUID != "1.2.3" ||
		len(doc.Rejected) != 1 || doc.Rejected[0].Code != "not_dicom" {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// One study answered is the server's document, whatever was refused beside it; its list is in the server's order.
func TestClassify_OneStudyIsTheServersDocument(t *testing.T) {
	dir := studyDir(t, "1.2.3")
	writeFile(t, filepath.Join(dir, "z", "0.dcm"), servetest.Study("1.2.3", 3)[0].Bytes(t)) // there twice
	writeFile(t, filepath.Join(dir, "notes.txt"), []byte("no"))
	code, stdout, stderr := command(t, "classify", "--json", "--model", modelFile(t), dir)
	var doc serve.Result
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	var got []string
	for _, r := range doc.Rejected {
		got = append(got, strings.TrimPrefix(r.Name, dir)+" "+r.Code)
	}
	if diff := cmp.Diff([]string{"/notes.txt not_dicom", "/z/0.dcm duplicate"}, got); code != 3 || doc.StudyInstanceUID != "1.2.3" || diff != "" {
		t.Errorf("exit code %d, study %q, rejected (-want +got)\n%s", code, doc.StudyInstanceUID, diff)
	}
}

func TestClassify_AutoSaysWhatItChose(t *testing.T) {
	code, _, stderr := command(t, "classify", "--device", "auto", "--model", modelFile(t), studyDir(t, "1.2.3"))
	if code != 0 || !strings.Contains(stderr, "device=cpu") && !strings.Contains(stderr, "device=cuda") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestVerdict_FailureOfTheProgramIsNoRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		rejected []serve.Rejection
		code     int
	}{
		"refused":          {[]serve.Rejection{{Name: "a", Code: "not_dicom"}}, cli.ExitRefused},
		"failed":           {[]serve.Rejection{{Name: "a", Code: serve.CodeInternal}}, 0},
		"refused, failed":  {[]serve.Rejection{{Name: "a", Code: serve.CodeInternal}, {Name: "b", Code: "not_dicom"}}, 0},
		"duplicates alone": {[]serve.Rejection{{Name: "a", Code: serve.CodeDuplicate}}, cli.ExitRefused},
	} {
		err := verdict(nil, c.rejected, 2)
		var coded interface{ ExitCode() int }
		if got := errors.As(err, &coded) && coded.ExitCode() != 0; err == nil || got != (c.code != 0) || got && coded.ExitCode() != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a deflated object inflates to counts as its size.
func TestUp_FileLimitHoldsForTheInflatedSize(t *testing.T) {
	for _, mib := range []int64{1, 128, 1024} {
		if got := (&UpCmd{MaxFileMiB: mib, MaxMegapixels: 64}).limits(); got.MaxBytes != int(mib)<<20 || got.MaxPixels != 64<<20 {
			t.Errorf("--max-file-mib %d: %+v", mib, got)
		}
	}
}

func TestModel_Refused(t *testing.T) {
	good := modelFile(t)
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	cut := writeFile(t, filepath.Join(t.TempDir(), "cut.onnx"), data[:len(data)/2])
	object := writeFile(t, filepath.Join(t.TempDir(), "a.dcm"), servetest.Object{}.Bytes(t))
	for _, c := range []struct {
		name, stderr string
		args         []string
	}{
		{"missing", "no such file", []string{"classify", "--model", "nothing.onnx", object}},
		{"cut off", "cut.onnx: ", []string{"classify", "--model", cut, object}},
		{"cut off, by a server", "cut.onnx: ", []string{"up", "--listen", "127.0.0.1:0", "--model", cut}},
		{"cut off, by its check", "cut.onnx: ", []string{"up", "--listen", "127.0.0.1:0", "--check", "--model", cut}},
		{"no model at all", "a.dcm: ", []string{"doctor", "--model", object}},
	} {
		code, stdout, stderr := command(t, c.args...)
		if code != 1 || !strings.Contains(stdout+stderr, c.stderr) || !strings.Contains(stderr, "\nhint: ") {
			t.Errorf("%s: exit code %d: %s%s", c.name, code, stdout, stderr)
		}
	}
	if code, stdout, stderr := command(t, "doctor", "--model", good); code != 0 || !strings.Contains(stdout, "found    model         test 1 (sha256 ") {
		t.Errorf("doctor: exit code %d: %s%s", code, stdout, stderr)
	}
}
