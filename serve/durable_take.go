package serve

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/serve/api"
	"github.com/mvmae/mvmae/serve/studies"
)

// take takes a study in: its objects are on disk, synced, before the answer is given.
func (s *Server) take(c *gin.Context) {
	if s.stopped.Load() {
		s.refuse(c, draining())
		return
	}
	ctx, ok := s.prioritised(c)
	if !ok {
		return
	}
	leave, full := s.admit(ctx, s.intake, &s.takes)
	if full != nil {
		s.refuse(c, full)
		return
	}
	taken := false
	defer func() { leave(taken) }()
	st, rejected, err := s.stage(ctx, c)
	taken = err == nil
	if err != nil {
		s.refuseIntake(c, err)
		return
	}
	c.Set("study", s.opts.UIDKey.Hash(st.UID))
	status, err := s.opts.Durable.status(st)
	if err != nil {
		s.refuseStudy(c, err)
		return
	}
	status.Rejected = rejected
	c.Header("Location", pathStudies+"/"+st.UID)
	s.respond(c, http.StatusAccepted, status)
}

// stage makes the objects of a request, all of one study, durable: all of them or none. The end of the request is the
// sender's word that the study is complete, unless it says otherwise.
func (s *Server) stage(ctx context.Context, c *gin.Context) (*studies.Study, []Rejection, error) {
	d := s.opts.Durable
	var staged []*studies.Staged
	var rejected []Rejection
	defer func() {
		for _, one := range staged {
			one.Discard() // without effect on those that were committed
		}
	}()
	var ended []func() // while an object is on its way its study is not complete
	defer func() {
		for _, end := range ended {
			end()
		}
	}()
	for file, err := range parts(c.Writer, c.Request, s.opts.Limits, s.opts.ReadTimeout) {
		if err != nil {
			return nil, nil, err
		}
		one, err := d.store.Stage(ctx, file.data, studies.Source{Via: "http", Remote: c.RemoteIP(), Stat: isStat(ctx)}, func(o *studies.Object) {
			ended = append(ended, d.gate.Arriving(o.StudyInstanceUID))
		})
		switch {
		case err == nil:
			staged = append(staged, one)
		case studies.IsRefusal(err):
			rejected = append(rejected, Rejection{Name: file.name, Code: refusalCode(err), Detail: err.Error()})
		default:
			return nil, nil, err
		}
	}
	uids := map[string]int{}
	for _, one := range staged {
		uids[one.StudyInstanceUID]++
	}
	switch {
	case len(staged) == 0:
		p := problem(http.StatusUnprocessableEntity, "nothing_stored", "send the DICOM objects of one study",
			"the request holds no object that can be kept; objects rejected: %d", len(rejected))
		p.Rejected = api.SortRejections(rejected)
		return nil, nil, p
	case len(uids) > 1:
		return nil, nil, severalStudies(uids)
	}
	uid := staged[0].StudyInstanceUID
	if err := d.store.Commit(staged...); err != nil {
		return nil, nil, err
	}
	d.gate.Arrived(uid, "")
	if c.Query("complete") != "false" {
		d.gate.Close(uid)
	}
	st, err := d.store.Study(uid)
	if err == nil && st == nil {
		err = studies.ErrGone
	}
	return st, api.SortRejections(rejected), err
}

// refusalCode is the code of an object that is not taken in.
func refusalCode(err error) string {
	var refusal *dicom.Error
	switch {
	case errors.As(err, &refusal):
		return string(refusal.Code)
	case errors.Is(err, studies.ErrTooLarge):
		return string(dicom.CodeTooLarge)
	}
	return CodeMisplaced
}

// refuseIntake says why nothing of a request was taken in.
func (s *Server) refuseIntake(c *gin.Context, err error) {
	var p *Problem
	switch {
	case errors.As(err, &p):
		s.refuse(c, p)
	case errors.Is(err, studies.ErrFull):
		s.opts.Logger.Error("take a study in", "error", err)
		s.refuse(c, diskFull())
	case errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil:
		c.Set("code", "client_gone")
		c.AbortWithStatus(statusClientGone)
	default:
		s.opts.Logger.Error("take a study in", "error", err)
		s.refuse(c, internalProblem())
	}
}

func diskFull() *Problem {
	return problem(http.StatusInsufficientStorage, "disk_full", "send it again later; the operator must make room on the disk",
		"the server's disk is too full to take in more")
}
