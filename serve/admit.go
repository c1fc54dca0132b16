package serve

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// meter measures how long one study more makes the others wait: a study's time in the house, divided by how many were there
// when it came. Time in which nobody came does not count, and neither do those who left without an answer.
type meter struct {
	mu   sync.Mutex
	each time.Duration // mean of late; 0 until the first
}

// late is the weight of a new measurement: the mean is of the last five or so.
const late = 0.2

func (m *meter) note(took time.Duration, there int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	each := took / time.Duration(there)
	if m.each > 0 {
		each = time.Duration((1-late)*float64(m.each) + late*float64(each))
	}
	m.each = each
}

// until is how long it takes to be done with those who are there.
func (m *meter) until(there int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(there) * m.each
}

// admit gives a request a place in the house until leave, or says why not. One that is urgent finds a place also where others
// have filled the house. leave is told whether the request was answered, which takes longer than to refuse it.
func (s *Server) admit(ctx context.Context, house chan struct{}, m *meter) (leave func(answered bool), full *Problem) {
	taken := house
	select {
	case house <- struct{}{}:
	default:
		taken = nil
		if isStat(ctx) {
			select {
			case s.urgent <- struct{}{}:
				taken = s.urgent
			default:
			}
		}
	}
	if taken == nil {
		p := problem(http.StatusTooManyRequests, "busy", "send it again after the seconds that Retry-After says",
			"the server has all the studies it can work on")
		p.RetryAfter = m.until(len(house))
		return nil, p
	}
	start, there := time.Now(), len(house)
	return func(answered bool) {
		<-taken
		if answered {
			m.note(time.Since(start), max(there, 1))
		}
	}, nil
}

// The values of the query's priority.
const (
	priorityRoutine = "routine"
	priorityStat    = "stat"
)

// prioritised marks the request's context as urgent where the query says so. It answers whoever says anything else.
func (s *Server) prioritised(c *gin.Context) (ctx context.Context, ok bool) {
	switch c.Query("priority") {
	case "", priorityRoutine:
		return c.Request.Context(), true
	case priorityStat:
		return Stat(c.Request.Context()), true
	}
	s.refuse(c, problem(http.StatusBadRequest, "bad_query", "ask with priority=stat, or without it", "the query's priority is neither stat nor routine"))
	return nil, false
}
