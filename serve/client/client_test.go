package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/serve/api"
)

// server is what answers instead of a network.
type server func(r *http.Request) (*http.Response, error)

func (s server) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func clientOf(s server) *Client {
	return &Client{URL: "http://server/", Token: "secret", HTTP: &http.Client{Transport: s}}
}

func answer(status int, doc any, headers ...string) *http.Response {
	text, ok := doc.(string)
	if !ok {
		body, _ := json.Marshal(doc)
		text = string(body)
	}
	r := &http.Response{StatusCode: status, Status: strconv.Itoa(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// sent reads the objects of a request: NAME=CONTENT.
func sent(t *testing.T, r *http.Request) (list []string) {
	t.Helper()
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for form := multipart.NewReader(r.Body, params["boundary"]); ; {
		part, err := form.NextPart()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, part.FileName()+"="+string(content))
	}
}

func TestClassify_SendsTheObjectsAndReadsTheAnswer(t *testing.T) {
	want := api.Result{StudyInstanceUID: "1.2", Views: []api.View{{View: "frontal", Flags: []string{}}}, Flags: []string{}, Rejected: []api.Rejection{}}
	c := clientOf(func(r *http.Request) (*http.Response, error) {
		if got := sent(t, r); !slices.Equal(got, []string{"a=one", "b=two"}) || r.URL.Path != "/v1/studies:classify" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("%s %v: %v", r.URL, r.Header, got)
		}
		return answer(200, want), nil
	})
	got, err := c.Classify(t.Context(), Objects{Bytes("a", []byte("one")), Bytes("b", []byte("two"))})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("answer (-want +got)\n%s", diff)
	}
}

// Time is synctest's.
func TestClassify_ComesAgainWhenTheServerSays(t *testing.T) {
	busy := api.NewProblem(429, "busy", "later", "full")
	for _, c := range []struct {
		name    string
		answers []func() (*http.Response, error)
		tries   int
		took    time.Duration
		code    string // of the problem in the end
	}{
		{"the time of Retry-After", []func() (*http.Response, error){
			func() (*http.Response, error) { return answer(429, busy, "Retry-After", "7"), nil },
			func() (*http.Response, error) { return answer(503, busy, "Retry-After", "2"), nil },
		}, 5, 9 * time.Second, ""},
		{"its own time, which grows", []func() (*http.Response, error){
			func() (*http.Response, error) { return answer(503, "no document of ours"), nil },
			func() (*http.Response, error) { return nil, errors.New("connection refused") },
			func() (*http.Response, error) { return answer(507, busy), nil },
		}, 5, (250 + 500 + 1000) * time.Millisecond, ""},
		{"tries used up", []func() (*http.Response, error){
			func() (*http.Response, error) { return answer(429, busy, "Retry-After", "1"), nil },
			func() (*http.Response, error) { return answer(429, busy, "Retry-After", "1"), nil },
		}, 2, time.Second, "busy"},
		{"what does not pass", []func() (*http.Response, error){
			func() (*http.Response, error) {
				return answer(422, api.NewProblem(422, "no_usable_view", "", "none")), nil
			},
		}, 5, 0, "no_usable_view"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				one := clientOf(func(r *http.Request) (*http.Response, error) {
					if got := sent(t, r); !slices.Equal(got, []string{"a=one"}) {
						t.Errorf("try %d sends %v", asked+1, got)
					}
					if asked++; asked <= len(c.answers) {
						return c.answers[asked-1]()
					}
					return answer(200, api.Result{}), nil
				})
				one.Tries = c.tries
				start := time.Now()
				_, err := one.Classify(t.Context(), Objects{Bytes("a", []byte("one"))})
				var p *api.Problem
				if errors.As(err, &p) != (c.code != "") || p != nil && p.Code != c.code || p == nil && err != nil {
					t.Errorf("error %v", err)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestClassify_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		c := clientOf(func(*http.Request) (*http.Response, error) { return answer(503, "", "Retry-After", "3600"), nil })
		time.AfterFunc(time.Minute, func() { cancel(gone) })
		start := time.Now()
		if _, err := c.Classify(ctx, Objects{Bytes("a", nil)}); !errors.Is(err, gone) || time.Since(start) != time.Minute {
			t.Errorf("error %v after %v", err, time.Since(start))
		}
	})
}

func TestClassify_FileThatCannotBeReadIsNotTriedAgain(t *testing.T) {
	asked := 0
	c := clientOf(func(r *http.Request) (*http.Response, error) {
		asked++
		_, err := io.ReadAll(r.Body)
		return nil, err
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "a.dcm")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	study, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	if _, err := c.Classify(t.Context(), study); !errors.Is(err, os.ErrNotExist) || asked != 1 {
		t.Errorf("error %v after %d requests", err, asked)
	}
}

func TestFiles_LeavesOutWhatIsNoObject(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.dcm", "a/1", ".hidden", ".git/x", "__MACOSX/a", "DICOMDIR"} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	study, err := Files(dir, filepath.Join(dir, ".hidden"))
	var names []string
	for _, o := range study {
		names = append(names, strings.TrimPrefix(filepath.ToSlash(o.Name), filepath.ToSlash(dir)+"/"))
	}
	if want := []string{"a/1", "b.dcm", ".hidden"}; err != nil || !slices.Equal(names, want) { // one that is named is meant
		t.Errorf("%v, %v: want %v", names, err, want)
	}
	if _, err := Files(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestWait_ListensUntilTheStudyIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		states := []string{"running", "running", "done"} // of the study, each time it is asked for
		streams := 0
		c := clientOf(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/v1/events" {
				streams++
				if streams == 1 { // breaks off
					return answer(200, ": studies\n\nevent: study\ndata: {\"study_instance_uid\":\"1.2\",\"state\":\"running\"}\n\n"), nil
				}
				if streams == 2 {
					return nil, errors.New("connection refused")
				}
				return answer(200, "event: study\ndata: {\"study_instance_uid\":\"1.2\",\"state\":\"done\"}\n\n"), nil
			}
			state := states[0]
			states = states[1:]
			return answer(200, map[string]any{"study_instance_uid": "1.2", "state": state, "result": api.Result{StudyInstanceUID: "1.2"}}), nil
		})
		study, err := c.Wait(t.Context(), "1.2")
		if err != nil || study.State != "done" || study.Result.StudyInstanceUID != "1.2" || streams != 3 {
			t.Errorf("%+v, %v after %d streams", study, err, streams)
		}
	})
}

func TestStudies_FollowsThePages(t *testing.T) {
	c := clientOf(func(r *http.Request) (*http.Response, error) {
		page := api.StudyList{Studies: []api.StudySummary{{StudyInstanceUID: "1." + r.URL.Query().Get("after")}}}
		switch r.URL.Query().Get("after") {
		case "":
			page.Next = "/v1/studies?after=7"
		case "7":
			page.Next = "/v1/studies?after=8"
		default:
			return answer(404, api.NewProblem(404, "not_found", "", "no")), nil
		}
		return answer(200, page), nil
	})
	var uids []string
	var failed error
	for st, err := range c.Studies(t.Context(), "dead") {
		if failed = err; err == nil {
			uids = append(uids, st.StudyInstanceUID)
		}
	}
	var p *api.Problem
	if !slices.Equal(uids, []string{"1.", "1.7"}) || !errors.As(failed, &p) || p.Code != "not_found" {
		t.Errorf("%v, %v", uids, failed)
	}
	if !bytes.Contains([]byte(p.Error()), []byte("no")) {
		t.Error(p)
	}
}
