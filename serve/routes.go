package serve

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

// The routes. In gin a colon begins a parameter, so the router is given the classify path with the colon escaped.
const (
	pathClassify = "/v1/studies:classify"
	pathLive     = "/livez"
	pathReady    = "/readyz"

	routeClassify = `/v1/studies\:classify`
)

// statusClientGone is logged, and seen by nobody, when a caller left before the answer.
const statusClientGone = 499

func (s *Server) routes() http.Handler {
	gin.SetMode(gin.ReleaseMode) // else gin prints its routes to standard output
	r := gin.New()
	r.RedirectTrailingSlash = false
	r.HandleMethodNotAllowed = true
	r.Use(s.log, s.recover)
	r.NoRoute(func(c *gin.Context) {
		s.refuse(c, problem(http.StatusNotFound, "not_found", "the routes are in /openapi.json", "there is nothing at this path"))
	})
	r.NoMethod(func(c *gin.Context) {
		s.refuse(c, problem(http.StatusMethodNotAllowed, "method_not_allowed", "the header Allow names the methods of this path",
			"this path does not answer %s", c.Request.Method))
	})
	r.POST(routeClassify, s.classify)
	s.durableRoutes(r)
	s.dicomwebRoutes(r)
	r.GET(pathLive, func(c *gin.Context) { s.respond(c, http.StatusOK, Health{"live"}) })
	r.GET(pathReady, func(c *gin.Context) {
		if p := s.unready(); p != nil {
			s.refuse(c, p)
			return
		}
		s.respond(c, http.StatusOK, Health{"ready"})
	})
	describe(r)
	return r
}

// Health is the answer of /livez and /readyz.
type Health struct {
	Status string `json:"status" enum:"live,ready"`
}

// unready says why the server takes in no study, or returns nil.
func (s *Server) unready() *Problem {
	switch {
	case s.draining.Load():
		return draining()
	case s.engine.Load() == nil:
		return problem(http.StatusServiceUnavailable, "not_ready", "wait until /readyz answers 200", "the model is being loaded")
	}
	return nil
}

func draining() *Problem {
	return problem(http.StatusServiceUnavailable, "draining", "ask another server", "the server is stopping")
}

// unable says why this study is not taken in, or returns nil. A server that is about to stop takes studies in until those
// who send them had the time to hear of it.
func (s *Server) unable(c *gin.Context) *Problem {
	switch {
	case s.stopped.Load():
		return draining()
	case s.engine.Load() == nil:
		return s.unready()
	case wantsAttention(c) && !s.engine.Load().Attends():
		return problem(http.StatusUnprocessableEntity, "no_attention", `ask without ?attention, or serve a model made by "mvmae-export --attention"`,
			"the model has no attention output")
	}
	return nil
}

func wantsAttention(c *gin.Context) bool {
	attention, given := c.GetQuery("attention")
	return given && attention != "false"
}

func (s *Server) classify(c *gin.Context) {
	if p := s.unable(c); p != nil {
		s.refuse(c, p)
		return
	}
	ctx, ok := s.prioritised(c)
	if !ok {
		return
	}
	leave, full := s.admit(ctx, s.house, &s.answers)
	if full != nil {
		s.refuse(c, full)
		return
	}
	answered := false
	defer func() { leave(answered) }()
	result, err := s.engine.Load().Classify(ctx, uploads(c.Writer, c.Request, s.opts.Limits, s.opts.ReadTimeout))
	answered = err == nil
	var p *Problem
	switch {
	case err == nil:
		c.Set("study", HashUID(result.StudyInstanceUID))
		if wantsAttention(c) {
			if err := result.ShowAttention(c.Query("attention") == "png"); err != nil {
				s.opts.Logger.Error("classify", "error", err)
				s.refuse(c, internalProblem())
				return
			}
		}
		s.respond(c, http.StatusOK, result)
	case errors.As(err, &p):
		s.refuse(c, p)
	case errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil:
		c.Set("code", "client_gone")
		c.AbortWithStatus(statusClientGone)
	default:
		s.opts.Logger.Error("classify", "error", err)
		s.refuse(c, internalProblem())
	}
}

func internalProblem() *Problem {
	return problem(http.StatusInternalServerError, "internal", "report it with the server's log", "the server failed at this request")
}

// refuse answers with a problem. Those that pass by themselves carry Retry-After.
func (s *Server) refuse(c *gin.Context, p *Problem) {
	c.Set("code", p.Code)
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		c.Header("Retry-After", strconv.Itoa(retryAfter(p.retryAfter)))
	case http.StatusInsufficientStorage:
		c.Header("Retry-After", "60") // a disk is not emptied in a second
	}
	c.Header("Content-Type", "application/problem+json")
	s.respond(c, p.Status, p)
	c.Abort()
}

// retryAfter is a time in whole seconds, from one to a minute: whoever comes back then finds what has become of an estimate.
func retryAfter(d time.Duration) int {
	return int(min(max((d+time.Second-1)/time.Second, 1), 60))
}

func (s *Server) respond(c *gin.Context, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		panic(err) // a type of this package that JSON does not know: every test of it finds out
	}
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(writeTimeout))
	media := c.Writer.Header().Get("Content-Type")
	if media == "" {
		media = "application/json"
	}
	c.Data(status, media, append(body, '\n'))
}

// log writes one line per request: the route's pattern, never the path, which a caller may have put anything into.
func (s *Server) log(c *gin.Context) {
	start := time.Now()
	c.Next()
	route := c.FullPath()
	if route == routeClassify {
		route = pathClassify
	}
	attrs := []any{"method", c.Request.Method, "route", route, "status", c.Writer.Status(), "duration", time.Since(start)}
	for _, key := range []string{"code", "study"} {
		if v := c.GetString(key); v != "" {
			attrs = append(attrs, key, v)
		}
	}
	level := slog.LevelInfo
	if route == pathLive || route == pathReady {
		level = slog.LevelDebug // asked every few seconds
	}
	s.opts.Logger.Log(c.Request.Context(), level, "request", attrs...)
}

// recover answers a request whose handler panicked; guard logs why.
func (s *Server) recover(c *gin.Context) {
	err := guard(func() error {
		c.Next()
		return nil
	})
	if err != nil && !c.Writer.Written() {
		s.refuse(c, internalProblem())
	}
}
