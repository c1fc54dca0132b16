package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve/servetest"
)

// blocking is a model whose Runs last until proceed is closed or their caller leaves.
func blocking() (f *fakeModel, proceed chan struct{}) {
	proceed = make(chan struct{})
	return &fakeModel{during: func(ctx context.Context) error {
		select {
		case <-proceed:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}, proceed
}

// running starts a server on a network in memory, as synctest needs it. stop makes it drain; stopped is Serve's error.
func running(t *testing.T, s *Server) (network *pipeListener, stop func(), stopped chan error) {
	t.Helper()
	network = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	stopped = make(chan error, 1)
	go func() { stopped <- s.Serve(ctx, network) }()
	return network, stop, stopped
}

// pipeListener is a network in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// ask sends a study over the network and wants an answer.
func (l *pipeListener) ask(ctx context.Context, contentType string, body []byte) error {
	client := http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://server"+pathClassify, struct{ io.Reader }{bytes.NewReader(body)}) // chunked
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != 200 || !strings.Contains(string(answer), `"study_instance_uid"`) {
		return fmt.Errorf("status %d: %s", response.StatusCode, answer)
	}
	return nil
}

func get(s *Server, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestReady_OnlyBetweenWarmAndStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(ServerOptions{Logger: quiet})
		wants := func(when, code string) {
			t.Helper()
			if live := get(s, pathLive); live.Code != 200 {
				t.Errorf("%s: /livez: status %d", when, live.Code)
			}
			w := get(s, pathReady)
			if code == "" {
				if w.Code != 200 {
					t.Errorf("%s: /readyz: %s", when, w.Body)
				}
				return
			}
			for path, w := range map[string]*httptest.ResponseRecorder{pathReady: w, pathClassify: post(s, "application/dicom", &endless{})} {
				if p := problemOf(t, w); p.Status != 503 || p.Code != code || w.Header().Get("Retry-After") == "" {
					t.Errorf("%s: %s: %+v", when, path, p)
				}
			}
		}
		network, stop, stopped := running(t, s)
		wants("without a model", "not_ready")
		f, proceed := blocking()
		ready(s, fakeEngine(t, f, Options{}))
		wants("with a model", "")
		answered := make(chan error, 1)
		object := servetest.Object{}.Bytes(t)
		go func() { answered <- network.ask(t.Context(), "application/dicom", object) }()
		synctest.Wait()
		stop()
		synctest.Wait()
		wants("while stopping", "draining")
		close(proceed)
		if err := errors.Join(<-answered, <-stopped); err != nil {
			t.Error(err)
		}
	})
}

func TestServe_AnswersEverythingTakenInBeforeItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const studies = 5
		f, proceed := blocking()
		s := readyServer(t, f, ServerOptions{Studies: studies})
		ready(s, fakeEngine(t, f, Options{Workers: 2}))
		network, stop, stopped := running(t, s)
		answers := make(chan error, studies)
		for i := range studies {
			object := servetest.Object{Study: fmt.Sprint("1.", i)}.Bytes(t)
			go func() { answers <- network.ask(t.Context(), "application/dicom", object) }()
		}
		synctest.Wait()
		if f.running != 2 || len(s.house) != studies {
			t.Fatalf("%d views run, %d studies are in the house", f.running, len(s.house))
		}
		stop()
		synctest.Wait()
		if len(stopped) != 0 {
			t.Error("stopped with studies in the house")
		}
		if _, err := network.dial(t.Context(), "", ""); err == nil {
			t.Error("the address still takes connections")
		}
		close(proceed)
		for range studies {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestHTTP_BusyIs429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, proceed := blocking()
		s := readyServer(t, f, ServerOptions{Studies: 1})
		object := servetest.Object{}.Bytes(t)
		first := make(chan *httptest.ResponseRecorder)
		go func() { first <- post(s, "application/dicom", bytes.NewReader(object)) }()
		synctest.Wait()
		body := &endless{}
		w := post(s, "application/dicom", body)
		if p := problemOf(t, w); p.Status != 429 || p.Code != "busy" || w.Header().Get("Retry-After") == "" || body.taken != 0 {
			t.Errorf("%+v, headers %v, %d bytes taken", p, w.Header(), body.taken)
		}
		close(proceed)
		resultOf(t, <-first)
		resultOf(t, post(s, "application/dicom", bytes.NewReader(object)))
	})
}

// A body that does not arrive has a deadline; a study that takes long does not. Time is synctest's.
func TestServe_OnlyTheBodyHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := readyServer(t, &fakeModel{during: func(ctx context.Context) error {
			select {
			case <-time.After(time.Hour):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}}, ServerOptions{ReadTimeout: time.Minute})
		network, stop, stopped := running(t, s)
		object := servetest.Object{}.Bytes(t)
		form, formBody := formOf(t, []Upload{{Name: "a", Data: object}})
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/dicom\r\nContent-Length: %d\r\n\r\n",
			pathClassify, len(object))
		for name, c := range map[string]struct {
			send, want string // want is what the answer begins with
			after      time.Duration
		}{
			"long study": {head + string(object), "HTTP/1.1 200 ", time.Hour},
			"long study in a form": {fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
				pathClassify, form, len(formBody), formBody), "HTTP/1.1 200 ", time.Hour},
			"slow body": {head + string(object[:100]), "HTTP/1.1 408 ", time.Minute},
			"slow head": {head[:20], "", headerTimeout},
			"silence":   {"", "", headerTimeout},
			"huge head": {"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2*maxHeaderBytes) + "\r\n\r\n", "HTTP/1.1 431 ", 0},
		} {
			conn, err := network.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			go io.WriteString(conn, c.send)
			answer, _ := io.ReadAll(conn) // to the end of the connection, however it ends
			conn.Close()
			// net/http waits half a second for what a refused caller is still sending.
			if took := time.Since(start); !strings.HasPrefix(string(answer), c.want) || took < c.after || took > c.after+time.Second {
				t.Errorf("%s: after %v: %q", name, took, answer)
			}
		}
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// A server that has no worker to spare does not read on: that time is not the caller's. Time is synctest's.
func TestServe_BusyTimeIsNotTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const run = 10 * time.Minute
		f := &fakeModel{during: func(context.Context) error {
			<-time.After(run)
			return nil
		}}
		s := readyServer(t, f, ServerOptions{ReadTimeout: time.Minute})
		ready(s, fakeEngine(t, f, Options{Workers: 1}))
		network, stop, stopped := running(t, s)
		answers := make(chan error, 2)
		first := servetest.Object{Study: "9"}.Bytes(t)
		go func() { answers <- network.ask(t.Context(), "application/dicom", first) }()
		synctest.Wait() // its run has the worker
		form, body := formOf(t, files(t, servetest.Study("1.2", 1)...))
		go func() { answers <- network.ask(t.Context(), form, body) }()
		start := time.Now()
		for range 2 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took < run || f.runs != 3 {
			t.Errorf("%d runs after %v: the second study did not wait for the first", f.runs, took)
		}
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// Whoever watches /readyz hears that the server stops while it still takes connections and studies.
func TestServe_SaysThatItWillStopBeforeItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = time.Minute
		s := readyServer(t, &fakeModel{}, ServerOptions{DrainDelay: delay})
		network, stop, stopped := running(t, s)
		start := time.Now()
		stop()
		synctest.Wait()
		client := http.Client{Transport: &http.Transport{DialContext: network.dial, DisableKeepAlives: true}}
		response, err := client.Get("http://server" + pathReady)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 503 || !strings.Contains(string(body), `"draining"`) {
			t.Errorf("/readyz: status %d, %v: %s", response.StatusCode, err, body)
		}
		if err := network.ask(t.Context(), "application/dicom", servetest.Object{}.Bytes(t)); err != nil {
			t.Error(err)
		}
		if err := <-stopped; err != nil || time.Since(start) < delay {
			t.Errorf("stopped after %v: %v", time.Since(start), err)
		}
		if _, err := network.dial(t.Context(), "", ""); err == nil {
			t.Error("the address still takes connections")
		}
	})
}

func TestListen_RefusesWhatOthersCanReach(t *testing.T) {
	for _, c := range []struct {
		addr     string
		insecure bool
		ok       bool
		loopback bool // whether the error is ErrNotLoopback
	}{
		{"127.0.0.1:0", false, true, false},
		{"localhost:0", false, true, false},
		{"0.0.0.0:0", false, false, true},
		{":0", false, false, true},
		{"[::]:0", false, false, true},
		{"[::ffff:0.0.0.0]:0", false, false, true},
		{"192.0.2.1:0", false, false, true},
		{"0.0.0.0:0", true, true, false},
		{":0", true, true, false},
		{"127.0.0.1", false, false, false},
		{"127.0.0.1:http:x", false, false, false},
	} {
		ln, err := Listen(t.Context(), c.addr, c.insecure)
		if err == nil {
			ln.Close()
		}
		if (err == nil) != c.ok || errors.Is(err, ErrNotLoopback) != c.loopback {
			t.Errorf("%s, insecure %v: %v", c.addr, c.insecure, err)
		}
		if err != nil && hint.Of(err) == "" {
			t.Errorf("%s: no hint with %v", c.addr, err)
		}
	}
}
