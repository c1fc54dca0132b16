package serve

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/dicomjson"
	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/serve/studies"
)

// The values of Failure Reason and Warning Reason (PS3.18 tables I.2-1 and I.2-2); those that end in other than 00 are this
// server's own within the ranges of the tables.
const (
	failedProcessing    = 0x0110
	failedClass         = 0x0122 // the SOP class is none that is taken in
	failedResources     = 0xa700 // the disk is full, or the object too large
	failedNotUnderstood = 0xc000
	failedOtherStudy    = 0xc001 // the object is not of the study in the request's path
	failedSyntax        = 0xc122 // nothing here reads its transfer syntax
	warnedConflict      = 0xb001 // kept, beside another object of the same UID and other bytes
)

// storing is a STOW-RS request on its way.
type storing struct {
	d      *Durable
	study  string // that all objects must be of, "" for any
	from   studies.Source
	staged []*studies.Staged
	failed []failure
	ended  []func() // while an object is on its way its study is not complete
	// Whether an object failed for want of room, or for its size: what the caller can do about it differs.
	full, tooLarge bool
}

// failure is an object that is not kept. The UIDs are empty where nobody could tell them.
type failure struct {
	class, instance string
	reason          int
}

// stow is STOW-RS (PS3.18 10.5). All that can be kept of a request is on disk, synced, before the answer is given; the end of
// the request is the sender's word that its studies are complete. Of a request that breaks off nothing is kept.
func (s *Server) stow(c *gin.Context) {
	study, _, _, ok := s.pathUIDs(c)
	if !ok || !s.wantsJSON(c) {
		return
	}
	contentType := c.GetHeader("Content-Type")
	if p := refusedType(contentType); p != nil {
		s.refuse(c, p)
		return
	}
	// RFC 2045 wants quotes around a slash, which many senders leave out.
	c.Request.Header.Set("Content-Type", strings.Replace(contentType, "type="+typeDICOM, `type="`+typeDICOM+`"`, 1))
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
		s.refuse(c, webBusy(full.RetryAfter))
		return
	}
	taken := false
	defer func() { leave(taken) }()
	st := &storing{d: s.opts.Durable, study: study, from: studies.Source{Via: "stow", Remote: c.RemoteIP(), Stat: isStat(ctx)}}
	defer st.close()
	for file, err := range parts(c.Writer, c.Request, s.opts.Limits, s.opts.ReadTimeout) {
		if err == nil {
			err = st.take(ctx, file)
		}
		if err != nil {
			s.refuseStore(c, err)
			return
		}
	}
	kept, err := st.commit(c.Query("complete") != "false" && c.GetHeader("Study-Complete") != "false")
	if err != nil {
		s.opts.Logger.Error("store objects", "error", err)
	}
	taken = len(kept) > 0
	s.answerStore(c, st, kept)
}

// refusedType says what is wrong with the type of a request, before anything is read of it.
func refusedType(contentType string) *Problem {
	media, params, _ := strings.Cut(strings.ToLower(contentType), ";")
	cure := `send multipart/related; type="application/dicom"`
	switch {
	case strings.TrimSpace(media) != typeRelated:
		return problem(http.StatusUnsupportedMediaType, "unsupported_media_type", cure, "the request's type is none that STOW-RS takes here")
	case strings.Contains(params, "application/dicom+json"), strings.Contains(params, "application/dicom+xml"):
		return problem(http.StatusUnsupportedMediaType, "unsupported_media_type", cure,
			"metadata and bulk data in parts of their own (application/dicom+json, application/dicom+xml) are not taken")
	}
	return nil
}

// codeFileTooLarge is the code of an object past its limit, which here concerns that object alone.
const codeFileTooLarge = "file_too_large"

// headBytes is as much of an object as tells what it is.
const headBytes = 64 << 10

// take stages one object or notes why it is not kept. An error is that of the whole request.
func (st *storing) take(ctx context.Context, file part) error {
	r := bufio.NewReaderSize(file.data, headBytes)
	head, _ := r.Peek(headBytes) // what went wrong shows again when it is read
	of := identify(head)
	reason := st.misfit(of.study, of.class)
	if reason == 0 {
		one, err := st.d.store.Stage(ctx, r, st.from, func(o *studies.Object) {
			st.ended = append(st.ended, st.d.gate.Arriving(o.StudyInstanceUID))
		})
		if err == nil {
			if reason = st.misfit(one.StudyInstanceUID, one.SOPClassUID); reason == 0 {
				st.staged = append(st.staged, one)
				return nil
			}
			one.Discard()
		} else if reason = st.reason(err); reason == 0 {
			return err
		}
	}
	st.failed = append(st.failed, failure{of.class, of.instance, reason})
	return nil
}

// identity is what an object says it is, as far as it can be read.
type identity struct{ study, class, instance string }

func identify(head []byte) (of identity) {
	if m, _, err := dicom.ReadMeta(head); err == nil {
		of = identity{"", m.SOPClassUID, m.SOPInstanceUID}
	}
	if p, err := dicom.ParsePrefix(head, dicom.Limits{}); err == nil {
		of = identity{p.String(tag.StudyInstanceUID), p.String(tag.SOPClassUID), p.String(tag.SOPInstanceUID)}
	}
	if !studies.ValidUID(of.class) || !studies.ValidUID(of.instance) {
		of.class, of.instance = "", ""
	}
	return of
}

// misfit is the Failure Reason of an object of the wrong study or class, 0 for one that is right or does not say.
func (st *storing) misfit(study, class string) int {
	switch {
	case st.study != "" && study != "" && study != st.study:
		return failedOtherStudy
	case class != "" && !pacs.Stores(class):
		return failedClass
	}
	return 0
}

// reason is the Failure Reason of an object that could not be staged, 0 if that is not the object's fault.
func (st *storing) reason(err error) int {
	var refusal *dicom.Error
	var p *Problem
	switch {
	case errors.Is(err, studies.ErrFull):
		st.full = true
		return failedResources
	case errors.Is(err, studies.ErrTooLarge), errors.As(err, &p) && p.Code == codeFileTooLarge:
		st.tooLarge = true
		return failedResources
	case p != nil:
		return 0
	case errors.As(err, &refusal) && refusal.Code == dicom.CodeUnsupportedSyntax:
		return failedSyntax
	case studies.IsRefusal(err):
		return failedNotUnderstood
	}
	return 0
}

// commit makes what was staged durable, study by study, and returns it. The objects of a study that could not be made so have
// failed; the error is for the log.
func (st *storing) commit(complete bool) (kept []*studies.Staged, err error) {
	byStudy := map[string][]*studies.Staged{}
	var uids []string
	for _, one := range st.staged {
		if byStudy[one.StudyInstanceUID] == nil {
			uids = append(uids, one.StudyInstanceUID)
		}
		byStudy[one.StudyInstanceUID] = append(byStudy[one.StudyInstanceUID], one)
	}
	for _, uid := range uids {
		if failed := st.d.store.Commit(byStudy[uid]...); failed != nil {
			err = errors.Join(err, failed)
			reason := failedProcessing
			if errors.Is(failed, studies.ErrFull) {
				st.full, reason = true, failedResources
			}
			for _, one := range byStudy[uid] {
				st.failed = append(st.failed, failure{one.SOPClassUID, one.SOPInstanceUID, reason})
			}
			continue
		}
		kept = append(kept, byStudy[uid]...)
		if st.d.gate.Arrived(uid, ""); complete {
			st.d.gate.Close(uid)
		}
	}
	return kept, err
}

// close throws away what was not committed.
func (st *storing) close() {
	for _, one := range st.staged {
		one.Discard() // without effect on those that were
	}
	for _, end := range st.ended {
		end()
	}
}

// refuseStore answers a request of which nothing is kept, as DICOMweb does.
func (s *Server) refuseStore(c *gin.Context, err error) {
	if errors.Is(err, studies.ErrFull) {
		s.refuse(c, webFull())
		return
	}
	s.refuseIntake(c, err)
}

func webFull() *Problem {
	p := diskFull()
	p.Status = http.StatusServiceUnavailable
	return p
}

// answerStore says what became of each object (PS3.18 10.5.3, annex I).
func (s *Server) answerStore(c *gin.Context, st *storing, kept []*studies.Staged) {
	warned := slices.ContainsFunc(kept, func(one *studies.Staged) bool { return one.Conflict })
	status := http.StatusOK
	switch {
	case len(kept)+len(st.failed) == 0:
		s.refuse(c, problem(http.StatusBadRequest, "nothing_sent", "send each object in a part of its own", "the request holds no part"))
		return
	case len(kept) == 0 && st.full:
		s.refuse(c, webFull())
		return
	case len(kept) == 0 && st.tooLarge && len(st.failed) == 1:
		s.refuse(c, problem(http.StatusRequestEntityTooLarge, codeFileTooLarge, "the operator's --max-file-mib sets the limit", "the object is too large"))
		return
	case len(kept) == 0:
		status = http.StatusConflict
		c.Set("code", "nothing_stored")
	case warned, len(st.failed) > 0:
		status = http.StatusAccepted
	}
	s.respondJSON(c, status, storeResponse(c, st.failed, kept))
}

// storeResponse is the Store Instances Response Module (PS3.18 annex I).
func storeResponse(c *gin.Context, failed []failure, kept []*studies.Staged) dicomjson.Dataset {
	var stored, named, nameless []any
	uids := map[string]bool{}
	for _, one := range kept {
		item := reference(one.SOPClassUID, one.SOPInstanceUID)
		if studies.ValidUID(one.SeriesInstanceUID) { // else it has no path
			item.Set(tag.RetrieveURL, "UR", webURL(c, instancePath(one.Object)))
		}
		if one.Conflict {
			item.Set(tag.WarningReason, "US", warnedConflict)
		}
		uids[one.StudyInstanceUID] = true
		stored = append(stored, item)
	}
	for _, f := range failed {
		if f.instance == "" {
			item := dicomjson.Dataset{}
			item.Set(tag.FailureReason, "US", f.reason)
			nameless = append(nameless, item)
			continue
		}
		item := reference(f.class, f.instance)
		item.Set(tag.FailureReason, "US", f.reason)
		named = append(named, item)
	}
	doc := dicomjson.Dataset{}
	doc.Set(tag.RetrieveURL, "UR")
	if len(uids) == 1 {
		doc.Set(tag.RetrieveURL, "UR", webURL(c, studyPath(kept[0].Object)))
	}
	for t, items := range map[tag.Tag][]any{
		tag.ReferencedSOPSequence: stored, tag.FailedSOPSequence: named, tag.OtherFailuresSequence: nameless,
	} {
		if items != nil {
			doc.Set(t, "SQ", items...)
		}
	}
	return doc
}

// reference names an object (PS3.3 table 10-11).
func reference(class, instance string) dicomjson.Dataset {
	item := dicomjson.Dataset{}
	item.Set(tag.ReferencedSOPClassUID, "UI", class)
	item.Set(tag.ReferencedSOPInstanceUID, "UI", instance)
	return item
}
