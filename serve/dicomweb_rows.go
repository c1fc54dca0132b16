package serve

import (
	"slices"
	"strconv"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom/dicomjson"
	"github.com/mvmae/mvmae/serve/studies"
)

// level is what a row of a search is.
type level int

const (
	levelStudy level = iota
	levelSeries
	levelInstance
)

// row is one study, series or instance that a search looks at.
type row struct {
	study   []studies.Object // all instances of the study
	objects []studies.Object // those of the row, at least one
}

// instances are the objects of a study as DICOMweb knows them, in the order they came: one for each SOP Instance UID. Where two
// share one and both are classified, that is the one that came first.
func instances(st *studies.Study, rule studies.Conflicts) []studies.Object {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(st.Used(rule)), func(o studies.Object) bool {
		again := seen[o.SOPInstanceUID]
		seen[o.SOPInstanceUID] = true
		return again
	})
}

// rows takes a study apart.
func rows(objects []studies.Object, to level) []row {
	if to == levelStudy {
		return []row{{objects, objects}}
	}
	var list []row
	at := map[string]int{}
	for _, o := range objects {
		name := o.SeriesInstanceUID
		if to == levelInstance {
			name = o.SOPInstanceUID
		}
		i, ok := at[name]
		if !ok {
			i = len(list)
			at[name] = i
			list = append(list, row{study: objects})
		}
		list[i].objects = append(list[i].objects, o)
	}
	return list
}

// field is an attribute that a row has.
type field struct {
	level  level
	always bool // it is in every answer of its level
	vr     string
	of     func(r *row) []string
}

// fields are all attributes that can be matched by and returned: what the store's index keeps, and what follows from it
// (PS3.18 tables 10.6.1-5 and 10.6.3-3 to 10.6.3-5).
var fields = func() map[tag.Tag]field {
	m := map[tag.Tag]field{}
	add := func(to level, always bool, t tag.Tag, of func(r *row) []string) {
		m[t] = field{to, always, tag.MustFind(t).VRs[0], of}
	}
	first := func(get func(o studies.Object) string) func(r *row) []string {
		return func(r *row) []string { return distinct(r.objects[:1], get) }
	}
	series := func(o studies.Object) string { return o.SeriesInstanceUID }
	instance := func(o studies.Object) string { return o.SOPInstanceUID }
	class := func(o studies.Object) string { return o.SOPClassUID }
	add(levelStudy, true, tag.StudyInstanceUID, first(func(o studies.Object) string { return o.StudyInstanceUID }))
	add(levelSeries, true, tag.SeriesInstanceUID, first(series))
	add(levelInstance, true, tag.SOPInstanceUID, first(instance))
	add(levelInstance, true, tag.SOPClassUID, first(class))
	add(levelStudy, true, tag.ModalitiesInStudy, func(r *row) []string {
		return distinct(r.study, func(o studies.Object) string { return one(o.Attributes["Modality"]) })
	})
	add(levelStudy, false, tag.SOPClassesInStudy, func(r *row) []string { return distinct(r.study, class) })
	add(levelStudy, true, tag.NumberOfStudyRelatedSeries, func(r *row) []string { return count(distinct(r.study, series)) })
	add(levelStudy, true, tag.NumberOfStudyRelatedInstances, func(r *row) []string { return count(r.study) })
	add(levelSeries, true, tag.NumberOfSeriesRelatedInstances, func(r *row) []string {
		return count(slices.DeleteFunc(slices.Clone(r.study), func(o studies.Object) bool { return series(o) != series(r.objects[0]) }))
	})
	for _, t := range studies.Indexed() {
		to, always := levelOf(t)
		keyword := tag.MustFind(t).Keyword
		add(to, always, t, func(r *row) []string {
			for _, o := range r.objects { // the first that says it
				if values := o.Attributes[keyword]; values != nil {
					return unescaped(values)
				}
			}
			return nil
		})
	}
	return m
}()

// unescaped are values as they are read, not as they were encoded.
func unescaped(values []string) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = dicomjson.WithoutEscapes(v)
	}
	return list
}

// levelOf says which level an indexed attribute is of, and whether answers of that level always have it.
func levelOf(t tag.Tag) (to level, always bool) {
	switch t {
	case tag.Modality, tag.SeriesDescription, tag.SeriesNumber, tag.PerformedProcedureStepStartDate, tag.PerformedProcedureStepStartTime:
		return levelSeries, true
	case tag.BodyPartExamined:
		return levelSeries, false
	case tag.InstanceNumber, tag.NumberOfFrames, tag.Rows, tag.Columns, tag.BitsAllocated:
		return levelInstance, true
	case tag.ViewPosition:
		return levelInstance, false
	case tag.StudyDescription, tag.IssuerOfPatientID:
		return levelStudy, false
	}
	return levelStudy, true
}

func distinct(objects []studies.Object, get func(o studies.Object) string) (values []string) {
	seen := map[string]bool{"": true}
	for _, o := range objects {
		if v := get(o); !seen[v] {
			seen[v] = true
			values = append(values, v)
		}
	}
	return values
}

func count[T any](list []T) []string { return []string{strconv.Itoa(len(list))} }

func one(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
