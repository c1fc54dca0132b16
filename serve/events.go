package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// Event says that a study has another state.
type Event struct {
	StudyInstanceUID string    `json:"study_instance_uid"`
	Version          string    `json:"version"`
	State            string    `json:"state" enum:"receiving,queued,running,done,refused,dead,discarded"`
	At               time.Time `json:"at"`
}

// hub hands events to those who listen.
type hub struct {
	mu        sync.Mutex
	listeners map[chan Event]bool
	closed    bool
}

// eventsBehind is how many events a listener may be behind before it is cut off.
const eventsBehind = 256

// listen returns events as they come. The channel is closed when the listener is too far behind, or the hub is closed.
func (h *hub) listen() (events <-chan Event, stop func()) {
	c := make(chan Event, eventsBehind)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(c)
		return c, func() {}
	}
	if h.listeners == nil {
		h.listeners = map[chan Event]bool{}
	}
	h.listeners[c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, c)
	}
}

func (h *hub) tell(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.listeners {
		select {
		case c <- e:
		default:
			delete(h.listeners, c)
			close(c)
		}
	}
}

// close ends all listening, so that the server can stop.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.listeners {
		delete(h.listeners, c)
		close(c)
	}
}

// eventsPulse is how often a silent stream says that it lives, so that proxies keep it open.
const eventsPulse = 15 * time.Second

// events streams events as server-sent events, those of one study if it is named. The first is what a named study is now.
func (s *Server) events(c *gin.Context) {
	d, uid := s.opts.Durable, c.Query("study")
	events, stop := d.hub.listen()
	defer stop()
	var first []Event
	if uid != "" {
		st, err := d.store.Study(uid)
		if err != nil || st == nil {
			s.refuseStudy(c, err)
			return
		}
		c.Set("study", s.opts.UIDKey.Hash(uid))
		first = []Event{{StudyInstanceUID: uid, Version: st.Version(), State: d.state(st), At: time.Now().UTC()}}
	}
	if !s.noted(c) {
		return
	}
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-store")
	c.Status(http.StatusOK)
	write := func(format string, args ...any) bool {
		_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := fmt.Fprintf(c.Writer, format, args...)
		c.Writer.Flush()
		return err == nil
	}
	send := func(e Event) bool {
		data, err := json.Marshal(e)
		return err == nil && write("event: study\ndata: %s\n\n", data)
	}
	if !write(": studies\n\n") {
		return
	}
	for _, e := range first {
		if !send(e) {
			return
		}
	}
	pulse := time.NewTicker(eventsPulse)
	defer pulse.Stop()
	for {
		ok := true
		select {
		case e, open := <-events:
			if !open {
				return
			}
			ok = uid != "" && e.StudyInstanceUID != uid || send(e)
		case <-pulse.C:
			ok = write(": still here\n\n")
		case <-c.Request.Context().Done():
			return
		}
		if !ok {
			return
		}
	}
}
