package serve

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/serve/api"
	"github.com/mvmae/mvmae/serve/studies"
)

// StudyStatus is the answer about one study that was taken in.
type StudyStatus struct {
	StudySummary
	Objects  []ObjectStatus   `json:"objects" doc:"In the order they came."`
	Rejected []Rejection      `json:"rejected,omitempty" doc:"The objects of the request that were not taken in."`
	Result   written[Result]  `json:"result,omitempty" doc:"The study's findings, as POST /v1/studies:classify answers them."`
	Problem  written[Problem] `json:"problem,omitempty" doc:"Why the study was refused."`
	Reason   string           `json:"reason,omitempty" doc:"Why the study is a dead letter."`
	Outcomes []OutcomeStatus  `json:"outcomes" doc:"Those of every version, the current one last."`
}

// StudySummary is a study in a list: see api.StudySummary.
type StudySummary = api.StudySummary

// ObjectStatus is an object of a study.
type ObjectStatus struct {
	SOPInstanceUID    string         `json:"sop_instance_uid"`
	SeriesInstanceUID string         `json:"series_instance_uid"`
	SOPClassUID       string         `json:"sop_class_uid"`
	TransferSyntaxUID string         `json:"transfer_syntax_uid"`
	Digest            string         `json:"digest" doc:"SHA-256 of transfer syntax UID, a zero byte and the data set."`
	Bytes             int64          `json:"bytes"`
	Received          time.Time      `json:"received"`
	Source            studies.Source `json:"source"`
	Conflict          bool           `json:"conflict" doc:"Another object has the same SOP Instance UID and other bytes."`
}

// OutcomeStatus is the outcome of one version.
type OutcomeStatus struct {
	Version      string        `json:"version"`
	State        studies.State `json:"state"`
	Finished     time.Time     `json:"finished"`
	Instances    int           `json:"instances"`
	Supersedes   string        `json:"supersedes,omitempty" doc:"The version before."`
	SupersededBy string        `json:"superseded_by,omitempty" doc:"The version after."`
	Location     string        `json:"location" doc:"Where its result is."`
	Unsent       []string      `json:"unsent,omitempty" doc:"The receivers that have not confirmed it."`
}

// StudyList is a page of studies: see api.StudyList.
type StudyList = api.StudyList

func (d *Durable) summary(st *studies.Study) StudySummary {
	sum := StudySummary{
		StudyInstanceUID: st.UID, State: d.state(st), Version: st.Version(), Instances: len(st.Objects), Received: st.LastReceived(),
	}
	if o := st.Current(); o != nil {
		sum.Attempts = o.Attempts
	} else if n, _, err := d.store.Attempts(st.UID, sum.Version); err == nil {
		sum.Attempts = n
	}
	return sum
}

func (d *Durable) status(st *studies.Study) (*StudyStatus, error) {
	status := &StudyStatus{StudySummary: d.summary(st), Objects: []ObjectStatus{}, Outcomes: []OutcomeStatus{}}
	for _, o := range st.Objects {
		status.Objects = append(status.Objects, ObjectStatus{
			o.SOPInstanceUID, o.SeriesInstanceUID, o.SOPClassUID, o.TransferSyntaxUID, o.Digest, o.Size, o.Received, o.Source, o.Conflict,
		})
	}
	for _, o := range st.Outcomes {
		status.Outcomes = append(status.Outcomes, OutcomeStatus{
			Version: o.Version, State: o.State, Finished: o.Finished, Instances: len(o.Objects), Supersedes: o.Supersedes, SupersededBy: o.SupersededBy,
			Location: pathStudies + "/" + st.UID + "/versions/" + o.Version, Unsent: d.store.Unsent(&o),
		})
	}
	if st.Current() != nil {
		o, err := d.store.Outcome(st.UID, status.Version)
		if err != nil {
			return nil, err
		}
		status.Result, status.Problem, status.Reason = written[Result](o.Result), written[Problem](o.Problem), o.Reason
	}
	return status, nil
}

// The routes of studies that are taken in for good.
const (
	pathStudies = "/v1/studies"
	pathStudy   = "/v1/studies/:uid"
	pathVersion = "/v1/studies/:uid/versions/:version"
	pathRetry   = "/v1/studies/:uid/retry"
	pathDiscard = "/v1/studies/:uid/discard"
	pathEvents  = "/v1/events"
)

func (s *Server) durableRoutes(r *gin.Engine) {
	r.POST(pathStudies, s.needStore, s.take)
	r.GET(pathStudies, s.needStore, s.list)
	r.GET(pathStudy, s.needStore, s.study)
	r.GET(pathVersion, s.needStore, s.version)
	r.POST(pathRetry, s.needStore, s.retry)
	r.POST(pathDiscard, s.needStore, s.discard)
	r.GET(pathEvents, s.needStore, s.events)
}

// found returns the study that a request names, or answers that there is none.
func (s *Server) found(c *gin.Context) *studies.Study {
	uid := c.Param("uid")
	c.Set("study", s.opts.UIDKey.Hash(uid))
	st, err := s.opts.Durable.store.Study(uid)
	if err != nil || st == nil {
		s.refuseStudy(c, err)
		return nil
	}
	return st
}

// refuseStudy answers for a study that is not there, or cannot be read.
func (s *Server) refuseStudy(c *gin.Context, err error) {
	switch {
	case err == nil, errors.Is(err, studies.ErrGone):
		s.refuse(c, problem(http.StatusNotFound, "no_such_study", "finished studies are removed after the time that --retain says",
			"the server holds no such study"))
	case errors.Is(err, ErrNotDead):
		s.refuse(c, problem(http.StatusConflict, "not_dead", "only dead letters can be tried again or discarded", "%v", err))
	default:
		s.opts.Logger.Error("read a study", "error", err)
		s.refuse(c, internalProblem())
	}
}

func (s *Server) study(c *gin.Context) {
	if st := s.found(c); st != nil {
		status, err := s.opts.Durable.status(st)
		if err != nil {
			s.refuseStudy(c, err)
			return
		}
		s.respond(c, http.StatusOK, status)
	}
}

func (s *Server) version(c *gin.Context) {
	st := s.found(c)
	if st == nil {
		return
	}
	wanted := c.Param("version")
	if !slices.ContainsFunc(st.Outcomes, func(o studies.Outcome) bool { return o.Version == wanted }) {
		s.refuse(c, problem(http.StatusNotFound, "no_such_version", "the study's document names its versions", "the study has no such version"))
		return
	}
	o, err := s.opts.Durable.store.Outcome(st.UID, wanted)
	if err != nil {
		s.refuseStudy(c, err)
		return
	}
	s.respond(c, http.StatusOK, o)
}

func (s *Server) retry(c *gin.Context) {
	s.decide(c, func(uid string) error { return s.opts.Durable.Retry(c.Request.Context(), uid) })
}

func (s *Server) discard(c *gin.Context) { s.decide(c, s.opts.Durable.Discard) }

// decide does what an operator decided about a dead letter, and answers with what it is now.
func (s *Server) decide(c *gin.Context, do func(uid string) error) {
	if st := s.found(c); st != nil {
		if err := do(st.UID); err != nil {
			s.refuseStudy(c, err)
			return
		}
		s.study(c)
	}
}

// The sizes of a page.
const (
	pageStudies    = 100
	maxPageStudies = 1000
)

// list answers with studies by state, page by page. Where a page begins is named by the study before it, so that nothing is
// shown twice or left out when studies come in between.
func (s *Server) list(c *gin.Context) {
	limit := pageStudies
	if text, given := c.GetQuery("limit"); given {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPageStudies {
			s.refuse(c, badQuery("limit must be a number from 1 to %d", maxPageStudies))
			return
		}
		limit = n
	}
	var after time.Time
	afterUID := ""
	if text, given := c.GetQuery("after"); given {
		at, uid, _ := strings.Cut(text, "~")
		var err error
		if after, err = time.Parse(time.RFC3339Nano, at); err != nil || !studies.ValidUID(uid) {
			s.refuse(c, badQuery("after must be taken from the member next of a page"))
			return
		}
		afterUID = uid
	}
	state := c.Query("state")
	if state != "" && !slices.Contains(studyStates(), any(state)) {
		s.refuse(c, badQuery("state must be one of %v", studyStates()))
		return
	}
	d, page := s.opts.Durable, StudyList{Studies: []StudySummary{}}
	for _, st := range d.store.All() {
		at := st.LastReceived()
		if afterUID != "" && (at.After(after) || at.Equal(after) && st.UID <= afterUID) || state != "" && d.state(st) != state {
			continue
		}
		if len(page.Studies) == limit {
			last := page.Studies[limit-1]
			query := url.Values{"limit": {strconv.Itoa(limit)}, "after": {last.Received.Format(time.RFC3339Nano) + "~" + last.StudyInstanceUID}}
			if state != "" {
				query.Set("state", state)
			}
			page.Next = pathStudies + "?" + query.Encode()
			break
		}
		page.Studies = append(page.Studies, d.summary(st))
	}
	s.respond(c, http.StatusOK, page)
}

func badQuery(format string, args ...any) *Problem {
	return problem(http.StatusBadRequest, "bad_query", "", format, args...)
}
