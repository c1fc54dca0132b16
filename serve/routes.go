package serve

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
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
	r.Use(s.log, s.recover, s.authenticate)
	r.NoRoute(func(c *gin.Context) {
		s.refuse(c, problem(http.StatusNotFound, "not_found", "the routes are in /openapi.json", "there is nothing at this path"))
	})
	r.NoMethod(func(c *gin.Context) {
		s.refuse(c, problem(http.StatusMethodNotAllowed, "method_not_allowed", "the header Allow names the methods of this path",
			"this path does not answer %s", c.Request.Method))
	})
	r.POST(routeClassify, s.classify)
	r.GET(pathModels, s.models)
	s.durableRoutes(r)
	s.dicomwebRoutes(r)
	s.inferenceRoutes(r)
	r.GET(pathLive, func(c *gin.Context) { s.respond(c, http.StatusOK, Health{Status: "live"}) })
	r.GET(pathReady, func(c *gin.Context) {
		if p := s.unready(); p != nil {
			s.refuse(c, p)
			return
		}
		s.respond(c, http.StatusOK, Health{Status: "ready", Detail: s.opts.Models.unserved()})
	})
	r.GET(pathMetrics, s.metricsHandler())
	s.docsRoutes(r, describe(r))
	return r
}

// Health is the answer of /livez and /readyz.
type Health struct {
	Status string `json:"status" enum:"live,ready"`
	Detail string `json:"detail,omitempty" doc:"What an operator should look at though the server is ready."`
}

// unready says why the server takes in no study, or returns nil.
func (s *Server) unready() *Problem {
	switch {
	case s.draining.Load():
		return draining()
	case !s.opts.Models.Ready():
		return notReady()
	case s.opts.Audit.Check() != nil:
		return unaudited()
	}
	return nil
}

func draining() *Problem {
	return problem(http.StatusServiceUnavailable, "draining", "ask another server", "the server is stopping")
}

// use returns the model that a request names by ?model=NAME&version=VERSION, or says why the study is not taken in. A server
// that is about to stop takes studies in until those who send them had the time to hear of it.
func (s *Server) use(c *gin.Context) (e *Engine, release func(), err error) {
	if s.stopped.Load() {
		return nil, nil, draining()
	}
	if e, release, err = s.opts.Models.Use(c.Query("model"), c.Query("version")); err != nil {
		return nil, nil, err
	}
	c.Set("model", e.Model().SHA256)
	if wantsAttention(c) && !e.Attends() {
		release()
		return nil, nil, problem(http.StatusUnprocessableEntity, "no_attention", `ask without ?attention, or serve a model made by "mvmae-export --attention"`,
			"the model has no attention output")
	}
	return e, release, nil
}

func wantsAttention(c *gin.Context) bool {
	attention, given := c.GetQuery("attention")
	return given && attention != "false"
}

func (s *Server) classify(c *gin.Context) {
	engine, release, err := s.use(c)
	if err != nil {
		s.answer(c, nil, err)
		return
	}
	defer release()
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
	result, err := engine.Classify(ctx, s.uploads(c.Writer, c.Request))
	answered = err == nil
	s.answer(c, result, err)
}

// answer answers with what became of a study.
func (s *Server) answer(c *gin.Context, result *Result, err error) {
	var p *Problem
	switch {
	case err == nil:
		c.Set("study", s.opts.UIDKey.Hash(result.StudyInstanceUID))
		if wantsAttention(c) {
			if err := showAttention(result, c.Query("attention") == "png"); err != nil {
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
		c.Header("Retry-After", strconv.Itoa(retryAfter(p.RetryAfter)))
	case http.StatusInsufficientStorage:
		c.Header("Retry-After", "60") // a disk is not emptied in a second
	}
	if path := c.Request.URL.Path; path == pathInference || strings.HasPrefix(path, pathInference+"/") {
		s.respond(c, p.Status, InferenceProblem{p.Detail, p.Code, p.Cure})
	} else {
		c.Header("Content-Type", "application/problem+json")
		s.respond(c, p.Status, p)
	}
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
	media := c.Writer.Header().Get("Content-Type")
	if media == "" {
		media = "application/json"
	}
	s.send(c, status, media, append(body, '\n'))
}

// send answers with a body that is whole.
func (s *Server) send(c *gin.Context, status int, media string, body []byte) {
	if err := s.audit(c, status, body); err != nil && status < http.StatusBadRequest {
		s.refuse(c, unaudited())
		return
	}
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(writeTimeout))
	c.Data(status, media, body)
}

// log counts and traces a request, and writes one line about it: the route's pattern, never the path, which a caller may have put anything into.
func (s *Server) log(c *gin.Context) {
	start := time.Now()
	c.Set("start", start)
	route := routeOf(c)
	probe := isProbe(route)
	method, end := knownMethod(c.Request.Method), func(string, string, int) {}
	if !probe {
		var ctx context.Context
		ctx, end = s.opts.Telemetry.tracer.Request(c.Request, method, route)
		c.Request = c.Request.WithContext(ctx)
	}
	c.Next()
	_ = s.audit(c, c.Writer.Status(), nil) // what was not answered by respond: too late to refuse
	status, took := c.Writer.Status(), time.Since(start)
	end(c.GetString("study"), c.GetString("code"), status)
	s.opts.Telemetry.request(method, route, c.GetString("code"), status, took)
	attrs := []any{"method", method, "route", route, "status", status, "duration", took}
	for _, key := range []string{"code", "study", "caller"} {
		if v := c.GetString(key); v != "" {
			attrs = append(attrs, key, v)
		}
	}
	level := slog.LevelInfo
	if probe {
		level = slog.LevelDebug
	}
	s.opts.Logger.Log(c.Request.Context(), level, "request", attrs...)
}

// isProbe says whether a route is one that is asked every few seconds, by those who watch the server.
func isProbe(route string) bool {
	return slices.Contains([]string{pathLive, pathReady, pathV2Live, pathV2Ready, pathMetrics}, route)
}

// routeOf is the pattern of a request's path, "" where nothing is there.
func routeOf(c *gin.Context) string {
	if route := c.FullPath(); route != routeClassify {
		return route
	}
	return pathClassify
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
