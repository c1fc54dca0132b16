package serve

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/serve/studies"
)

// DICOMweb (PS3.18) over the studies that are kept: STOW-RS takes objects in, QIDO-RS says what is held, WADO-RS hands it out.
const pathWeb = "/dicom-web"

// typeJSON is the media type of the DICOM JSON Model.
const typeJSON = "application/dicom+json"

func (s *Server) dicomwebRoutes(r *gin.Engine) {
	web := r.Group(pathWeb, s.needStore)
	// What is read is bounded like what is written: more at a time would only be slower.
	reading := make(chan struct{}, s.opts.Studies)
	read := func(handler gin.HandlerFunc) gin.HandlerFunc {
		return func(c *gin.Context) {
			select {
			case reading <- struct{}{}:
				defer func() { <-reading }()
				handler(c)
			default:
				s.refuse(c, webBusy(0))
			}
		}
	}
	const study, series, instance = "/studies/:study", "/studies/:study/series/:series", "/studies/:study/series/:series/instances/:instance"
	web.POST("/studies", s.stow)
	web.POST(study, s.stow)
	for path, to := range map[string]level{
		"/studies": levelStudy, "/series": levelSeries, "/instances": levelInstance,
		study + "/series": levelSeries, study + "/instances": levelInstance, series + "/instances": levelInstance,
	} {
		web.GET(path, read(func(c *gin.Context) { s.search(c, to) }))
	}
	for _, path := range []string{study, series, instance} {
		web.GET(path, read(s.retrieve))
		web.GET(path+"/metadata", read(s.metadata))
		for _, other := range []string{"/rendered", "/thumbnail", "/bulkdata", "/frames/*rest", "/pixeldata"} {
			web.GET(path+other, s.notOffered)
		}
	}
}

// needStore refuses for a server that keeps no studies.
func (s *Server) needStore(c *gin.Context) {
	if s.opts.Durable == nil {
		s.refuse(c, problem(http.StatusNotImplemented, "no_store", "ask the operator to start the server with --data",
			"this server keeps no studies"))
	}
}

// webBusy is what PS3.18 8.5 has a server say that does all it can; elsewhere this one says 429.
func webBusy(retryAfter time.Duration) *Problem {
	p := problem(http.StatusServiceUnavailable, "busy", "send it again after the seconds that Retry-After says",
		"the server has all the requests it can work on")
	p.RetryAfter = retryAfter
	return p
}

func (s *Server) notOffered(c *gin.Context) {
	s.refuse(c, problem(http.StatusNotFound, "not_offered",
		"retrieve the objects themselves: the resource above this one, with Accept: "+acceptObjects,
		"the server hands out whole objects and their metadata, no frames, rendered images or bulk data"))
}

// webURL is the address of a DICOMweb resource as the caller reached this server.
func webURL(c *gin.Context, path ...string) string {
	scheme := "http"
	// Whoever sets the header changes nothing but the answer to itself.
	if c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + c.Request.Host + pathWeb + strings.Join(path, "")
}

func studyPath(o studies.Object) string { return "/studies/" + o.StudyInstanceUID }

func seriesPath(o studies.Object) string { return studyPath(o) + "/series/" + o.SeriesInstanceUID }

func instancePath(o studies.Object) string { return seriesPath(o) + "/instances/" + o.SOPInstanceUID }

// pathUIDs are the UIDs of a resource's path, "" where the path has none; ok is false once a problem is answered.
func (s *Server) pathUIDs(c *gin.Context) (study, series, instance string, ok bool) {
	study, series, instance = c.Param("study"), c.Param("series"), c.Param("instance")
	for _, uid := range []string{study, series, instance} {
		if uid != "" && !studies.ValidUID(uid) {
			s.refuse(c, problem(http.StatusBadRequest, "malformed_uid", "a UID has digits and periods, 64 at most", "the path holds what is no UID"))
			return "", "", "", false
		}
	}
	if study != "" {
		c.Set("study", s.opts.UIDKey.Hash(study))
	}
	return study, series, instance, true
}

// acceptable is one media range of an Accept header.
type acceptable struct {
	media  string
	params map[string]string
}

// accepted reads the Accept header, or the query parameter that takes its place (PS3.18 8.3.3.1). What is there more than one of
// is taken in the order given: this server offers one representation of each resource. Unlike RFC 9110 it lets a slash be
// in a parameter without quotes, since many clients write type=application/dicom.
func accepted(c *gin.Context) (list []acceptable) {
	text := strings.Join(c.Request.Header.Values("Accept"), ",")
	if query := c.Query("accept"); query != "" {
		text = strings.ReplaceAll(query, "dicom ", "dicom+") // a plus sign that nobody escaped
	}
	if strings.TrimSpace(text) == "" {
		return []acceptable{{media: "*/*"}}
	}
	for _, one := range splitQuoted(text, ',') {
		fields := splitQuoted(one, ';')
		a := acceptable{strings.ToLower(strings.TrimSpace(fields[0])), map[string]string{}}
		for _, field := range fields[1:] {
			name, value, _ := strings.Cut(field, "=")
			a.params[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"`)
		}
		if q, given := a.params["q"]; a.media != "" && !(given && strings.Trim(q, "0.") == "") { // q=0 means never
			list = append(list, a)
		}
	}
	return list
}

// splitQuoted splits at a separator that is not in quotes.
func splitQuoted(s string, separator rune) []string {
	quoted := false
	var parts []string
	from := 0
	for i, r := range s {
		switch {
		case r == '"':
			quoted = !quoted
		case r == separator && !quoted:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// wantsJSON says whether the caller takes DICOM JSON, and answers that there is nothing else if not.
func (s *Server) wantsJSON(c *gin.Context) bool {
	if slices.ContainsFunc(accepted(c), func(a acceptable) bool {
		return a.media == typeJSON || a.media == "application/json" || a.media == "application/*" || a.media == "*/*"
	}) {
		return true
	}
	s.refuse(c, problem(http.StatusNotAcceptable, "not_acceptable", "send Accept: "+typeJSON, "the answer is offered as %s alone, not as XML", typeJSON))
	return false
}

// acceptObjects is the Accept header for whole objects as they are stored.
const acceptObjects = `multipart/related; type="application/dicom"; transfer-syntax=*`

// takesSyntax says whether a caller takes objects of a transfer syntax. One that names none takes explicit VR little endian
// (PS3.18 8.7.3.5.2), but one that takes whatever there is takes them as they are stored.
func takesSyntax(list []acceptable, transferSyntaxUID string) bool {
	return slices.ContainsFunc(list, func(a acceptable) bool {
		if a.media == "*/*" {
			return true
		}
		if a.media != typeRelated && a.media != "multipart/*" {
			return false
		}
		if media := a.params["type"]; media != "" && media != typeDICOM && media != "application/*" && media != "*/*" {
			return false
		}
		syntax := a.params["transfer-syntax"]
		return syntax == "*" || syntax == transferSyntaxUID || syntax == "" && transferSyntaxUID == dicom.ExplicitVRLittleEndian
	})
}

// respondJSON answers in DICOM JSON.
func (s *Server) respondJSON(c *gin.Context, status int, doc any) {
	c.Header("Content-Type", typeJSON)
	s.respond(c, status, doc)
}

// warn adds a Warning header in the form of PS3.18 8.3.4.
func warn(c *gin.Context, text string) {
	c.Writer.Header().Add("Warning", "299 "+webURL(c)+": "+text)
}
