package serve

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom/dicomjson"
	"github.com/mvmae/mvmae/serve/studies"
)

// maxResults is how many rows an answer has at most.
const maxResults = 1000

// query is a QIDO-RS request (PS3.18 8.3.4).
type query struct {
	level         level
	keys          []key
	include       map[tag.Tag]bool
	all           bool // include all that is known
	limit, offset int
	warnings      []string
}

// search is QIDO-RS (PS3.18 10.6).
func (s *Server) search(c *gin.Context, to level) {
	study, series, _, ok := s.pathUIDs(c)
	if !ok || !s.wantsJSON(c) {
		return
	}
	q, err := parseQuery(c.Request.URL.Query(), to)
	if err != nil {
		s.refuse(c, badQuery("%v", err))
		return
	}
	within := s.opts.Durable.store.All()
	if study != "" {
		st, err := s.opts.Durable.store.Study(study)
		if err != nil {
			s.refuseStudy(c, err)
			return
		}
		if within = nil; st != nil {
			within = []*studies.Study{st}
		}
	}
	var page []dicomjson.Dataset
	found := 0
	for _, st := range within {
		objects := instances(st, s.opts.Durable.opts.Conflicts)
		if !q.matches(&row{objects, objects}, levelStudy, levelStudy) { // once, whatever the study has
			continue
		}
		for _, r := range rows(objects, to) {
			if series != "" && r.objects[0].SeriesInstanceUID != series || !q.matches(&r, levelSeries, to) {
				continue
			}
			if found++; found > q.offset && len(page) < q.limit {
				page = append(page, q.answer(c, &r, study, series))
			}
		}
	}
	if left := found - q.offset - len(page); left > 0 {
		q.warnings = append(q.warnings, fmt.Sprintf("There are %d additional results that can be requested", left))
	}
	for _, text := range q.warnings {
		warn(c, text)
	}
	if len(page) == 0 {
		c.Status(http.StatusNoContent)
		return
	}
	s.respondJSON(c, http.StatusOK, page)
}

// parseQuery reads the parameters. What this server does not match by is left out of the matching, as PS3.4 C.2.2.1.3 says, and
// the caller is warned; what is no parameter at all is an error.
func parseQuery(values url.Values, to level) (*query, error) {
	q := &query{level: to, include: map[tag.Tag]bool{}, limit: maxResults}
	for name, list := range values {
		if len(list) > 1 && name != "includefield" {
			return nil, fmt.Errorf("parameter %q is there %d times", name, len(list))
		}
		var err error
		switch value := list[0]; name {
		case "accept":
		case "limit":
			q.limit, err = rowCount(value)
			q.limit = min(q.limit, maxResults)
		case "offset":
			q.offset, err = rowCount(value)
		case "fuzzymatching":
			err = q.unsupported(name, value, "Only literal matching has been performed.")
		case "multiplevaluematching":
			err = q.unsupported(name, value, "Multiple Value Matching has not been performed.")
		case "emptyvaluematching":
			err = q.unsupported(name, value, "Empty Value Matching has not been performed.")
		case "includefield":
			err = q.includes(list)
		default:
			err = q.match(name, value)
		}
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", name, err)
		}
	}
	slices.Sort(q.warnings) // a map has no order
	return q, nil
}

// maxCount is the largest limit and offset that is understood.
const maxCount = math.MaxInt32

func rowCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > maxCount {
		return 0, fmt.Errorf("it must be a number from 0 to %d", maxCount)
	}
	return n, nil
}

// unsupported refuses an option in the words of PS3.18 8.3.4.
func (q *query) unsupported(name, value, instead string) error {
	switch value {
	case "true":
		q.warnings = append(q.warnings, "The "+name+" parameter is not supported. "+instead)
	case "false":
	default:
		return fmt.Errorf("it must be true or false")
	}
	return nil
}

func (q *query) includes(list []string) error {
	for name := range strings.SplitSeq(strings.Join(list, ","), ",") {
		if name == "" {
			continue
		}
		if name == "all" {
			q.all = true
			continue
		}
		info, err := attribute(name)
		if err != nil {
			return err
		}
		q.include[info.Tag] = true
	}
	return nil
}

func (q *query) match(name, value string) error {
	info, err := attribute(name)
	if err != nil {
		return err
	}
	f, held := fields[info.Tag]
	if !held || f.level > q.level {
		q.warnings = append(q.warnings, "The attribute "+name+" is not matched by at this level.")
		q.include[info.Tag] = true
		return nil
	}
	k, err := newKey(info, value)
	if err != nil {
		return err
	}
	q.keys = append(q.keys, k)
	q.include[info.Tag] = true
	return nil
}

// attribute is the element that a parameter names: by keyword, by eight hexadecimal digits, or, in a sequence, by several with
// periods between, of which the first counts here.
func attribute(name string) (tag.Info, error) {
	name, _, _ = strings.Cut(name, ".")
	if n, err := strconv.ParseUint(name, 16, 32); err == nil && len(name) == 8 {
		t := tag.Tag{Group: uint16(n >> 16), Element: uint16(n)}
		if info, err := tag.Find(t); err == nil {
			return info, nil
		}
		return tag.Info{Tag: t, VRs: []string{"UN"}}, nil // a private one, for instance
	}
	info, err := tag.FindByKeyword(name)
	if err != nil {
		return info, fmt.Errorf("there is no attribute of this name")
	}
	return info, nil
}

// matches says whether a row is like the keys of the levels from..to.
func (q *query) matches(r *row, from, to level) bool {
	for _, k := range q.keys {
		if f := fields[k.tag]; f.level >= from && f.level <= to && !k.matches(f.of(r)) {
			return false
		}
	}
	return true
}

// answer is a row with the attributes of its level and, unless the path names them, of the levels above (PS3.18 10.6.3.3).
func (q *query) answer(c *gin.Context, r *row, study, series string) dicomjson.Dataset {
	d := dicomjson.Dataset{}
	for t, f := range fields {
		named := f.level == levelStudy && study != "" || f.level == levelSeries && series != ""
		wanted := f.always && (f.level == q.level || f.level < q.level && !named)
		if f.level > q.level || !wanted && !q.include[t] && !q.all {
			continue
		}
		values := f.of(r)
		list := make([]any, len(values))
		for i, v := range values {
			list[i] = v
		}
		d.Set(t, f.vr, list...)
	}
	o := r.objects[0]
	path := [...]string{levelStudy: studyPath(o), levelSeries: seriesPath(o), levelInstance: instancePath(o)}[q.level]
	d.Set(tag.RetrieveURL, "UR", webURL(c, path))
	d.Set(tag.InstanceAvailability, "CS", "ONLINE")
	d.Set(tag.StudyInstanceUID, "UI", o.StudyInstanceUID)
	if q.level > levelStudy {
		d.Set(tag.SeriesInstanceUID, "UI", o.SeriesInstanceUID)
	}
	return d
}
