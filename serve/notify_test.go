package serve

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mvmae/mvmae/serve/servetest"
)

func TestWebhook_RetriedAndSigned(t *testing.T) {
	hook := &Webhook{Secret: []byte("secret")}
	var calls atomic.Int32
	delivered := make(chan WebhookEvent, 1)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var seconds int64
		fmt.Sscanf(r.Header.Get(headerSignature), "t=%d,", &seconds)
		if got := r.Header.Get(headerSignature); got != hook.sign(time.Unix(seconds, 0), body) || seconds == 0 {
			t.Errorf("signature %q", got)
		}
		if calls.Add(1) == 1 {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		var e WebhookEvent
		if err := json.Unmarshal(body, &e); err != nil || r.Header.Get(headerDelivery) != e.Version {
			t.Errorf("%v: %s", err, body)
		}
		delivered <- e
	}))
	defer target.Close()
	hook.URL = target.URL
	d := openDurable(t, t.TempDir(), DurableOptions{Sinks: []Sink{hook}})
	d.run(t, &fakeModel{})
	d.call(t, "POST", "/v1/studies", servetest.Object{Study: "1.2"})
	e := <-delivered
	if e.Event != "study.done" || e.StudyInstanceUID != "1.2" || !strings.Contains(string(e.Result), `"probabilities"`) {
		t.Errorf("%+v", e)
	}
	d.stop() // after the confirmation is on disk
	st, err := d.d.store.Study("1.2")
	if err != nil || !st.Current().Sent["webhook"] || calls.Load() != 2 {
		t.Errorf("%+v after %d calls, %v", st.Current(), calls.Load(), err)
	}
}

func TestWebhook_SignatureIsWhatTheDocumentSays(t *testing.T) {
	hook := &Webhook{Secret: []byte("key")}
	// printf '1700000000.{}' | openssl dgst -sha256 -hmac key
	want := "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
	if got := hook.sign(time.Unix(1700000000, 0), []byte("{}")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestEvents_StreamUntilTheServerStops(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	d.call(t, "POST", "/v1/studies", servetest.Object{Study: "1.2"})
	network, stop, stopped := running(t, d.Server)
	client := http.Client{Transport: &http.Transport{DialContext: network.dial}}
	response, err := client.Get("http://server/v1/events?study=1.2")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := func() (e Event) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Fatal(err)
				}
				return e
			}
		}
		return e
	}
	if e := next(); e.State != StateReceiving || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("first %+v", e)
	}
	d.d.hub.tell(Event{StudyInstanceUID: "1.9", State: "done"})
	d.run(t, &fakeModel{})
	for _, want := range []string{StateQueued, StateRunning, "done"} {
		if e := next(); e.State != want || e.StudyInstanceUID != "1.2" {
			t.Errorf("%+v, want %s", e, want)
		}
	}
	stop()
	if e := next(); e != (Event{}) {
		t.Errorf("after the end: %+v", e)
	}
	if err := <-stopped; err != nil {
		t.Errorf("serve: %v", err)
	}
}
