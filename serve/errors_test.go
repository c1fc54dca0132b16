package serve

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/serve/api"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/serve/studies"
)

var update = flag.Bool("update", false, "write the files that tests compare with anew")

// golden compares with a file, or writes it under -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not as it should be: go test ./serve -run %s -update writes it anew (-file +wanted)\n%s", path, t.Name(), diff)
	}
}

// literalCodes are the codes in the source of a package: constants whose names begin with one of the prefixes, and what is given to
// problem.
func literalCodes(t *testing.T, dir string, prefixes ...string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source in %s, %v", dir, err)
	}
	var codes []string
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			code, _ := strconv.Unquote(lit.Value)
			codes = append(codes, code)
		}
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if i < len(n.Values) && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name.Name, p) }) {
						add(n.Values[i])
					}
				}
			case *ast.CallExpr:
				switch fn := n.Fun.(type) {
				case *ast.Ident:
					if fn.Name == "problem" {
						add(n.Args[1])
					}
				case *ast.SelectorExpr:
					switch fn.Sel.Name {
					case "failed": // body.failed(err, code, name)
						add(n.Args[1])
					case "part":
						add(n.Args[len(n.Args)-1])
					}
				}
			}
			return true
		})
	}
	return codes
}

func TestCatalogue_HasEveryCodeOfTheSource(t *testing.T) {
	used := map[string]bool{}
	for dir, prefixes := range map[string][]string{
		".": {"Code", "code", "Flag"}, "../dicom": {"Code"}, "../dicom/cxr": {"Code", "Flag"}, "../dicom/pacs": {"Refused"},
	} {
		for _, code := range literalCodes(t, dir, prefixes...) {
			used[code] = true
		}
	}
	listed := map[string]bool{}
	for _, e := range api.Catalogue() {
		listed[e.Code] = true
		if found, ok := api.Lookup(e.Code); !ok || found.Code != e.Code || e.Title == "" || e.What == "" {
			t.Errorf("entry %+v", e)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("codes (-in the source +in the catalogue)\n%s", diff)
	}
}

// provoked are answers of this server, one for each code of a problem.
func provoked(t *testing.T) map[string]*httptest.ResponseRecorder {
	object := servetest.Object{Study: "1.2.3"}.Bytes(t)
	plain := readyServer(t, &fakeModel{}, ServerOptions{})
	with := func(opts ServerOptions) *Server { return readyServer(t, &fakeModel{}, opts) }
	send := func(s *Server, method, path, media string, body []byte) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, bytes.NewReader(body))
		if media != "" {
			r.Header.Set("Content-Type", media)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	form := func(names string, objects ...servetest.Object) (string, []byte) {
		list := files(t, objects...)
		for i := range list {
			list[i].Name = strings.Fields(names)[i]
		}
		media, body := formOf(t, list)
		return media, body
	}
	classify := func(s *Server, media string, body []byte) *httptest.ResponseRecorder {
		return send(s, "POST", pathClassify, media, body)
	}
	classifyForm := func(s *Server, names string, objects ...servetest.Object) *httptest.ResponseRecorder {
		media, body := form(names, objects...)
		return classify(s, media, body)
	}
	kept := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Hour, Limit: time.Hour})
	if w := kept.do(stow(t, "/studies", explicit(t, nil))); w.Code != http.StatusOK {
		t.Fatalf("store: %s", w.Body)
	}
	withStore := func(r *http.Request) *httptest.ResponseRecorder { return kept.do(r) }
	get := func(path string) *httptest.ResponseRecorder { return withStore(httptest.NewRequest("GET", path, nil)) }
	xml := httptest.NewRequest("GET", "/dicom-web/studies", nil)
	xml.Header.Set("Accept", "application/dicom+xml")
	busy := with(ServerOptions{Studies: 1})
	busy.house <- struct{}{}
	stopping := with(ServerOptions{})
	stopping.draining.Store(true)
	stopping.stopped.Store(true)
	zipped := zipOf(t, files(t, servetest.Object{}))

	tokens, _ := tokensOf(t, "pacs 0123456789abcdef requests=1")
	guarded := with(ServerOptions{Tokens: tokens})
	asked := httptest.NewRequest("GET", pathModels, nil)
	asked.Header.Set("Authorization", "Bearer 0123456789abcdef")
	guarded.opts.Tokens.find("0123456789abcdef").enter()
	limited := httptest.NewRecorder()
	guarded.Handler().ServeHTTP(limited, asked)
	audit, _ := auditIn(t, t.TempDir())
	unwritable := with(ServerOptions{Audit: audit})
	audit.path = filepath.Join(t.TempDir(), "none", "audit.jsonl")

	return map[string]*httptest.ResponseRecorder{
		"caller_limit":        limited,
		"no_audit":            classify(unwritable, typeDICOM, object),
		"unauthenticated":     send(guarded, "GET", pathModels, "", nil),
		"bad_query":           get("/v1/studies?limit=0"),
		"busy":                classify(busy, typeDICOM, object),
		"disk_full":           diskFullAnswer(kept),
		"draining":            classify(stopping, typeDICOM, object),
		"file_too_large":      classifyForm(with(ServerOptions{Limits: Limits{FileBytes: 1 << 10}}), "frontal.dcm", servetest.Object{}),
		"internal":            post(plain, typeDICOM, panicking{}),
		"malformed_body":      post(plain, typeDICOM, io.MultiReader(bytes.NewReader(object[:200]), broken{})),
		"malformed_inference": send(plain, "POST", pathFakeInfer, "application/json", []byte(`{"inputs":[]}`)),
		"too_many_images":     send(plain, "POST", pathFakeInfer, "application/json", inferenceBody(17, "")),
		"malformed_multipart": classify(plain, typeForm, object),
		"malformed_uid":       get("/dicom-web/studies/a.b/series"),
		"malformed_zip":       classify(plain, typeZip, zipped[:len(zipped)/2]),
		"method_not_allowed":  send(plain, "GET", pathClassify, "", nil),
		"no_attention":        send(plain, "POST", pathClassify+"?attention=true", typeDICOM, object),
		"no_store":            send(plain, "GET", pathStudies+"/1.2.3", "", nil),
		"no_such_instance":    get("/dicom-web/studies/1.2.3/series/9"),
		"no_such_model":       send(plain, "POST", pathClassify+"?model=other", typeDICOM, object),
		"no_such_study":       get(pathStudies + "/9.9"),
		"no_such_version":     get(pathStudies + "/1.2.3/versions/0"),
		"no_usable_view":      classifyForm(plain, "knee.dcm", servetest.Object{BodyPart: "KNEE"}),
		"not_acceptable":      withStore(xml),
		"not_dead":            withStore(httptest.NewRequest("POST", pathStudies+"/1.2.3/retry", nil)),
		"not_found":           send(plain, "GET", "/nowhere", "", nil),
		"not_offered":         get("/dicom-web/studies/1.2.3/rendered"),
		"not_ready":           classify(NewServer(ServerOptions{Logger: quiet}), typeDICOM, object),
		"nothing_sent":        withStore(stow(t, "/studies")),
		"nothing_stored":      nothingStored(t, kept),
		"request_timeout":     post(plain, typeDICOM, tardy{}),
		"request_too_large":   classify(with(ServerOptions{Limits: Limits{RequestBytes: 1 << 10}}), typeDICOM, object),
		"too_many_files":      classifyForm(with(ServerOptions{Limits: Limits{Files: 1}}), "a.dcm b.dcm", servetest.Study("1.2.3", 1)...),
		"two_patients": classifyForm(plain, "a.dcm b.dcm", servetest.Object{Study: "1.2.3", SOP: "1.1", Patient: "A"},
			servetest.Object{Study: "1.2.3", SOP: "1.2", Patient: "B", Seed: 2}),
		"two_studies":            classifyForm(plain, "a.dcm b.dcm", servetest.Object{Study: "1.2.3"}, servetest.Object{Study: "1.2.4"}),
		"unsupported_media_type": classify(plain, "text/plain", object),
	}
}

// tardy is a body whose deadline has passed, broken one whose sender is gone.
type tardy struct{}

func (tardy) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func nothingStored(t *testing.T, d *durable) *httptest.ResponseRecorder {
	media, body := formOf(t, []Upload{{Name: "letter.txt", Data: []byte("no image")}})
	r := httptest.NewRequest("POST", pathStudies, bytes.NewReader(body))
	r.Header.Set("Content-Type", media)
	return d.do(r)
}

// refusedObjects are examples of rejections, from the engine and the store.
func refusedObjects(t *testing.T) map[string]Rejection {
	whole := explicit(t, nil)
	set := func(at tag.Tag, value any) []byte { return explicit(t, map[tag.Tag]any{at: value}) }
	study := func(o servetest.Object) []byte { return o.Bytes(t) }
	list := []Upload{
		{Name: "lateral.dcm", Data: whole}, {Name: "lateral-again.dcm", Data: whole},
		{Name: "letter.txt", Data: []byte("no image")}, {Name: "half.dcm", Data: whole[:len(whole)-40]},
		{Name: "knee.dcm", Data: set(tag.BodyPartExamined, "KNEE")}, {Name: "ct.dcm", Data: set(tag.Modality, "CT")},
		{Name: "raw.dcm", Data: set(tag.PresentationIntentType, "FOR PROCESSING")},
		{Name: "report.dcm", Data: set(tag.SOPClassUID, "1.2.840.10008.5.1.4.1.1.88.11")},
		{Name: "nobody.dcm", Data: study(servetest.Object{Study: "-"})},
		{Name: "video.dcm", Data: image(t, "1.2.840.10008.1.2.4.100", nil)},
		{Name: "wide.dcm", Data: set(tag.BitsAllocated, 32)},
		{Name: "gone.dcm", Err: os.ErrPermission},
	}
	_, rejected, err := fakeEngine(t, &fakeModel{}, Options{}).ClassifyAll(t.Context(), Uploads(list...))
	if err != nil {
		t.Fatal(err)
	}
	kept := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Hour, Limit: time.Hour})
	p := decoded[Problem](t, func() *httptest.ResponseRecorder {
		media, body := formOf(t, []Upload{{Name: "astray.dcm", Data: study(servetest.Object{Study: "-"})}})
		r := httptest.NewRequest("POST", pathStudies, bytes.NewReader(body))
		r.Header.Set("Content-Type", media)
		return kept.do(r)
	}(), http.StatusUnprocessableEntity)
	examples := map[string]Rejection{}
	for _, r := range append(rejected, p.Rejected...) {
		examples[r.Code] = r
	}
	return examples
}

func TestErrors_PageHasEveryCodeWithWhatTheServerAnswers(t *testing.T) {
	examples, objects := provoked(t), refusedObjects(t)
	var page bytes.Buffer
	page.WriteString(errorsHead)
	for _, e := range api.Catalogue() {
		fmt.Fprintf(&page, "\n## %s\n\n", e.Code)
		status := ""
		w := examples[e.Code]
		if slices.Contains(e.Kinds, api.OfProblem) {
			if w == nil {
				t.Errorf("no example of %s", e.Code)
				continue
			}
			if !strings.Contains(w.Body.String(), strconv.Quote(e.Code)) {
				t.Errorf("%s was answered with %s", e.Code, w.Body)
			}
			if e.Code != "malformed_inference" && e.Code != "too_many_images" { // of a protocol with a form of its own
				problemOf(t, w)
			}
			status = fmt.Sprintf(" · status %d", w.Code)
			if after := w.Header().Get("Retry-After"); after != "" {
				status += ", Retry-After: " + after
			}
		}
		var kinds []string
		for _, k := range e.Kinds {
			kinds = append(kinds, string(k))
		}
		fmt.Fprintf(&page, "*%s · %s%s*\n\n%s\n", e.Title, strings.Join(kinds, ", "), status, e.What)
		if e.Cure != "" {
			fmt.Fprintf(&page, "\n**Cure:** %s\n", e.Cure)
		}
		var example []byte
		if w != nil {
			example = w.Body.Bytes()
		} else if r, ok := objects[e.Code]; ok {
			example, _ = json.Marshal(r)
		}
		if example != nil {
			page.WriteString("\n```json\n")
			var doc bytes.Buffer
			if err := json.Indent(&doc, bytes.TrimSpace(example), "", "  "); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&page, "%s\n```\n", doc.Bytes())
		}
	}
	golden(t, "../docs/errors.md", page.Bytes())
}

const errorsHead = `# Codes

Every refusal is a problem document (RFC 9457, ` + "`application/problem+json`" + `) with a stable ` + "`code`" + `; its ` + "`type`" + ` leads to the entry below, which a running
server shows at ` + "`/docs/errors`" + `. Write programs against codes: titles and details may be worded anew. 429, 503 and 507 say in Retry-After
when to come again. Under ` + "`/v2`" + ` the same codes come in the form of the Open Inference Protocol: ` + "`{\"error\", \"code\", \"hint\"}`" + `.

A code of kind *problem* is a refusal; *rejection* is an object of a study that was not used, in ` + "`rejected`" + `; *flag* is a reason to trust a view
or a study less; *association* is logged and counted by the DICOM node. How often the flags that are read from pixels err stands in
[dicom-flags.md](dicom-flags.md).

This page is made of the server's catalogue and of its answers by ` + "`go test ./serve -run TestErrors -update`" + `.
`

// diskFullAnswer is the answer of a server whose store has said that the disk is full.
func diskFullAnswer(d *durable) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequest("POST", pathStudies, nil)
	d.refuseIntake(c, studies.ErrFull)
	return w
}
