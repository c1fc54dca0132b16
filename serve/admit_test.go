package serve

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mvmae/mvmae/serve/servetest"
)

// postTo is post with a query.
func postTo(s *Server, query string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, pathClassify+query, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/dicom")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// Time is synctest's: a study takes seven seconds, and one is worked on at a time.
func TestHTTP_RetryAfterIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes, places = 7, 3
		f := &fakeModel{during: func(ctx context.Context) error {
			<-time.After(takes * time.Second)
			return nil
		}}
		s := readyServer(t, f, ServerOptions{Studies: places})
		ready(s, fakeEngine(t, f, Options{Workers: 1}))
		object := servetest.Object{}.Bytes(t)
		fill := func() (emptied *sync.WaitGroup) {
			emptied = new(sync.WaitGroup)
			for range places {
				emptied.Go(func() { resultOf(t, postTo(s, "", object)) })
				synctest.Wait()
			}
			return emptied
		}
		refused := func() string {
			w := postTo(s, "", object)
			if p := problemOf(t, w); w.Code != 429 || p.Code != "busy" {
				t.Errorf("%+v", p)
			}
			return w.Header().Get("Retry-After")
		}
		emptied := fill()
		if got := refused(); got != "1" {
			t.Errorf("Retry-After %s before anything was measured", got)
		}
		emptied.Wait()
		<-time.After(time.Hour) // in which nobody comes: it must not count
		emptied = fill()
		if got := refused(); got != "21" {
			t.Errorf("Retry-After %s, want the time of three studies, 21", got)
		}
		emptied.Wait()
	})
}

func TestRetryAfter_IsWholeSecondsOfAMinute(t *testing.T) {
	for d, want := range map[time.Duration]int{0: 1, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 59 * time.Second: 59, time.Hour: 60} {
		if got := retryAfter(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}

func TestHTTP_StatFindsAPlaceAndGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		f := &fakeModel{during: func(ctx context.Context) error {
			<-time.After(time.Second)
			return nil
		}}
		s := readyServer(t, f, ServerOptions{Studies: 4})
		ready(s, fakeEngine(t, f, Options{Workers: 1}))
		object := servetest.Object{}.Bytes(t)
		var all sync.WaitGroup
		send := func(query string) {
			all.Go(func() {
				resultOf(t, postTo(s, query, object))
				mu.Lock()
				defer mu.Unlock()
				order = append(order, query)
			})
			synctest.Wait()
		}
		for range 4 {
			send("?priority=routine")
		}
		if w := postTo(s, "", object); w.Code != 429 {
			t.Errorf("status %d: the house is full", w.Code)
		}
		send("?priority=stat")
		if w := postTo(s, "?priority=stat", object); w.Code != 429 {
			t.Errorf("status %d: so are the places of the urgent", w.Code)
		}
		all.Wait()
		// The first was being run already.
		if got := strings.Join(order, " "); got != "?priority=routine ?priority=stat ?priority=routine ?priority=routine ?priority=routine" {
			t.Errorf("answered in the order %s", got)
		}
		if len(s.house)+len(s.urgent) != 0 {
			t.Errorf("%d and %d places are still held", len(s.house), len(s.urgent))
		}
	})
}

func TestHTTP_UnknownPriorityIsRefused(t *testing.T) {
	f := &fakeModel{}
	if p := problemOf(t, postTo(readyServer(t, f, ServerOptions{}), "?priority=high", servetest.Object{}.Bytes(t))); p.Status != 400 || p.Code != "bad_query" || f.runs != 0 {
		t.Errorf("%+v after %d runs", p, f.runs)
	}
}

func TestHTTP_PanicLeavesThePlace(t *testing.T) {
	s := readyServer(t, &fakeModel{}, ServerOptions{Studies: 1})
	func() {
		defer func() { _ = recover() }()
		r := httptest.NewRequest(http.MethodPost, pathClassify, panics{})
		r.Header.Set("Content-Type", "application/dicom")
		s.Handler().ServeHTTP(httptest.NewRecorder(), r)
	}()
	if len(s.house) != 0 {
		t.Errorf("%d places are still held", len(s.house))
	}
}

// panics is a body that is a defect of this program.
type panics struct{}

func (panics) Read([]byte) (int, error) { panic("read") }
