package studies

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestGate_WhenAStudyIsComplete plays what a sender does, second by second, in a time of its own.
func TestGate_WhenAStudyIsComplete(t *testing.T) {
	type event struct {
		second int
		do     string
	}
	for name, c := range map[string]struct {
		events []event
		want   []int // the seconds at which it was complete
	}{
		"quiet after the last object": {[]event{{0, "arrived"}, {9, "arrived"}, {15, "arrived"}}, []int{25}},
		"late object":                 {[]event{{0, "arrived"}, {20, "arrived"}}, []int{10, 30}},
		"slow object":                 {[]event{{0, "arrived"}, {5, "arriving"}, {40, "arrived"}, {40, "ended"}}, []int{50}},
		"slow object that never came": {[]event{{0, "arrived"}, {5, "arriving"}, {40, "ended"}}, []int{50}},
		"nothing came":                {[]event{{0, "arriving"}, {5, "ended"}}, nil},
		"without end":                 {[]event{{0, "arrived"}, {1, "arriving"}, {100, "arrived"}, {100, "ended"}}, []int{60, 110}},
		"the sender says so":          {[]event{{0, "arrived"}, {3, "close"}}, []int{3}},
		"the association ends":        {[]event{{0, "arrived"}, {3, "released"}}, []int{3}},
		"another association ends":    {[]event{{0, "arrived"}, {3, "other released"}}, []int{10}},
		"more after the sender's word": {
			[]event{{0, "arrived"}, {1, "arriving"}, {2, "close"}, {4, "arrived"}, {4, "ended"}}, []int{14}},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			g := NewGate(10*time.Second, time.Minute)
			ctx, cancel := context.WithCancel(t.Context())
			var got []int
			done := make(chan struct{})
			go func() {
				defer close(done)
				g.Run(ctx, func(context.Context, string) { got = append(got, int(time.Since(start).Seconds())) })
			}()
			var ended func()
			for _, e := range c.events {
				time.Sleep(time.Until(start.Add(time.Duration(e.second) * time.Second)))
				switch e.do {
				case "arriving":
					ended = g.Arriving("1.2")
				case "ended":
					ended()
				case "arrived":
					g.Arrived("1.2", "association")
				case "close":
					g.Close("1.2")
				case "released":
					g.Released("association")
				case "other released":
					g.Released("other")
				}
			}
			time.Sleep(5 * time.Minute)
			cancel()
			<-done
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got)\n%s", name, diff)
			}
			if g.Waiting("1.2") {
				t.Errorf("%s: still waited for", name)
			}
		})
	}
}
